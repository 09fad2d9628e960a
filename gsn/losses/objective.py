"""The objective: a weighted sum of losses, what it needs, what it refuses, what it cannot reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..attention.maps import AttentionMaps, Earlier, MapProcessing, subject_maps
from ..text.subjects import Subjects
from . import LOSSES


@dataclass(frozen=True)
class Term:
    """One loss of a sum. settings: (name, value) pairs for its function.

    while_below: (another term's loss, level): this one counts only for images whose other one is at or below it.
    """

    loss: str
    weight: float = 1.0
    settings: tuple[tuple[str, object], ...] = ()
    while_below: tuple[str, float] | None = None


@dataclass(frozen=True)
class Evaluation:
    """The objective at one latent: total [B], each term [B] before weighting, subject maps [B, S, h, w]."""

    total: Tensor
    terms: dict[str, Tensor]
    maps: Tensor


@dataclass(frozen=True)
class Objective:
    """A weighted sum of losses. A term of weight 0 is computed and counts nothing: to be watched, or stopped on.

    Where one loss stands in it twice, with different settings, the last is the one that is reported and watched.
    """

    terms: tuple[Term, ...]

    def __add__(self, other: Objective) -> Objective:
        return replace(self, terms=self.terms + other.terms)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset().union(*(LOSSES[term.loss].needs for term in self.terms))

    def describe(self) -> str:
        """The sum in plain words; terms that are only watched are left out."""
        said = []
        for term in self.terms:
            if not term.weight:
                continue
            text = term.loss if term.weight == 1 else f"{term.weight:g} {term.loss}"
            text += f" ({', '.join(f'{name} {value}' for name, value in term.settings)})" if term.settings else ""
            if term.while_below is not None:
                text += f" (only while {term.while_below[0]} is at or below {term.while_below[1]:g})"
            said.append(text)
        return " + ".join(said)

    def scaled(self, factor: float) -> Objective:
        return replace(self, terms=tuple(replace(term, weight=term.weight * factor) for term in self.terms))

    def lowest(self, name: str, counts: Sequence[int] = ()) -> float:
        """A value that the named term, or "total", cannot go below; after a run's first step, for one that looks back.

        counts: how many subjects each conditioning entry has, where that is known; of entries that act together, the
        losses are added.
        """
        each = [self._lowest_of_entry(name, count) for count in counts] or [self._lowest_of_entry(name, None)]
        return sum(one for one in each if one < 0) or min(each)

    def _lowest_of_entry(self, name: str, count: int | None) -> float:
        if name == "total":
            return sum(_lowest_of(term, count) for term in self.terms if term.weight)
        if count is not None and count < LOSSES[name].least_subjects:
            return 0.0
        settings = next((dict(term.settings) for term in reversed(self.terms) if term.loss == name), {})
        return LOSSES[name].lowest(count or 0, settings)

    def check_terms(self) -> None:
        """Raise ValueError for what is wrong with every prompt: weights, names, settings."""
        names = [term.loss for term in self.terms]
        for term in self.terms:
            if term.loss not in LOSSES:
                raise ValueError(f"there is no loss '{term.loss}'; there are {', '.join(LOSSES)}")
            if not math.isfinite(term.weight):
                raise ValueError(f"the weight of loss '{term.loss}' is {term.weight}; give a finite number")
            known = LOSSES[term.loss].settings()
            for name, _ in term.settings:
                if name not in known:
                    offer = ", ".join(known) or "none"
                    raise ValueError(f"loss '{term.loss}' has no setting '{name}'; it has {offer}")
            if term.while_below is not None and term.while_below[0] not in names:
                raise ValueError(f"loss '{term.loss}' waits for '{term.while_below[0]}', which is not in the sum")
        self._check_waiting()

    def _check_waiting(self, counts: Sequence[int] = ()) -> None:
        for term in self.terms:
            if term.while_below is None:
                continue
            name, level = term.while_below
            if not math.isfinite(level):
                raise ValueError(f"loss '{term.loss}' waits for '{name}' at or below {level}; give a finite number")
            lowest = self.lowest(name, counts)
            if out_of_reach(level, lowest):
                raise ValueError(
                    f"loss '{term.loss}' waits for '{name}' at or below {level:g}, where it never comes: it is never"
                    f" below {lowest:g}"
                )

    def check_weights(self) -> None:
        """Raise ValueError where no term counts; one node of a chain may well add a term that is only watched."""
        if not any(term.weight for term in self.terms):
            names = ", ".join(dict.fromkeys(term.loss for term in self.terms))
            raise ValueError(f"the loss '{names}' has weight 0, so there is nothing to lower; give one loss a weight")

    def check(self, subjects: Subjects, grid: tuple[int, int]) -> None:
        """Raise ValueError if no term is defined for these subjects, or one refuses them. grid: (h, w) of the maps."""
        count = len(subjects.items)
        usable = self._usable(count)
        if not any(term.weight for term in usable):
            least = min(LOSSES[term.loss].least_subjects for term in self.terms)
            names = ", ".join(dict.fromkeys(term.loss for term in self.terms))
            raise ValueError(
                f"loss '{names}' compares subjects and needs at least {least}, but the prompt has {count}"
                f" ({', '.join(subjects.labels)}); name a second subject or choose attend_excite"
            )
        self._check_waiting([count])
        for term in usable:
            if (refuse := LOSSES[term.loss].refuse) is not None:
                refuse(subjects, grid, **dict(term.settings))

    def check_read(self, subjects: Subjects, stream: str) -> None:
        """Raise ValueError where a loss binds a describing word that is not read. stream: see MapProcessing."""
        binding = [term.loss for term in self._usable(len(subjects.items)) if term.weight and LOSSES[term.loss].binds]
        if not binding or stream == "average":
            return
        for subject in subjects.items:
            for word in (one for one in subject.attributes if stream not in one.tokens):
                raise ValueError(
                    f"loss '{binding[0]}' binds '{word.label}' to '{subject.label}', but 'encoder' in AttentionCapture"
                    f" is '{stream}', which has no token for that word; choose average or {' or '.join(word.tokens)}"
                    " there, or describe it by another word"
                )

    def left_out(self, subjects: Subjects) -> tuple[str, ...]:
        """The losses that do nothing with these subjects, because they compare more of them."""
        usable = self._usable(len(subjects.items))
        return tuple(dict.fromkeys(term.loss for term in self.terms if term not in usable))

    def of(self, subjects: Subjects) -> Objective:
        """What is left of the sum with these subjects."""
        return Objective(tuple(self._usable(len(subjects.items))))

    def _usable(self, count: int) -> list[Term]:
        return [term for term in self.terms if LOSSES[term.loss].least_subjects <= count]

    def evaluate(
        self, attention: AttentionMaps, subjects: Subjects, processing: MapProcessing, earlier: Earlier | None = None
    ) -> Evaluation:
        """Loss per image; a term that needs more subjects than there are counts 0, as in the papers."""
        maps = subject_maps(attention, subjects, processing, earlier)
        usable = self._usable(len(subjects.items))
        values = [LOSSES[term.loss](maps, subjects, **dict(term.settings)) for term in usable]
        terms = {term.loss: value for term, value in zip(usable, values, strict=True)}
        total = torch.zeros(maps.maps.shape[0], device=maps.maps.device)
        for term, value in zip(usable, values, strict=True):
            if not term.weight:
                continue
            weighted = term.weight * value
            if term.while_below is not None and term.while_below[0] in terms:
                weighted = torch.where(terms[term.while_below[0]].detach() <= term.while_below[1], weighted, 0.0)
            total = total + weighted
        return Evaluation(total, terms, maps.maps)


def out_of_reach(level: float, lowest: float) -> bool:
    """Whether a level is below what is the lowest value, beyond the digits in which people are told of it."""
    return level < lowest - 1e-6 * max(1.0, abs(lowest))


def _lowest_of(term: Term, count: int | None) -> float:
    loss = LOSSES[term.loss]
    if count is not None and count < loss.least_subjects:
        return 0.0
    low, high = loss.lowest(count or 0, dict(term.settings)), loss.bounds[1]
    least = term.weight * (low if term.weight > 0 else high)
    may_be_absent = term.while_below is not None or loss.looks_back or (count is None and loss.least_subjects > 1)
    return min(0.0, least) if may_be_absent else least


def objective(*terms: str | Term) -> Objective:
    """`objective("iou")` or `objective(Term("attend_excite", 0.5), ...)`."""
    return Objective(tuple(Term(one) if isinstance(one, str) else one for one in terms))


PAPER = objective(Term("attend_excite", 0.5), Term("iou", 0.5))

"""The registry of losses and their weighted sum, the `Objective`.

A loss is one function `(maps: SubjectMaps, subjects: Subjects, **settings) -> Tensor [B]`, one value per image.
A new one is a file beside this and a line in `LOSSES`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..attention.maps import AttentionMaps, Earlier, MapProcessing, subject_maps
from ..text.subjects import Subjects
from .astar import retention, retention_least, segregation
from .attend_excite import attend_excite
from .box_retention import box_retention, places_refuse
from .boxdiff import box_inner, boxdiff, cells_refuse
from .conform import conform, conform_least, conform_refuses
from .divide_bind import tv, tv_bind, tv_bind_refuses
from .focus import focus
from .initno import alignment, clean, self_conflict
from .iou import iou
from .self_cross import self_cross, self_cross_refuses
from .syngen import syngen, syngen_refuses


@dataclass(frozen=True)
class Loss:
    """A loss and what it asks for.

    summary: what a person gains by it, in one line. bounds: no value lies outside. needs: which maps beyond the
    subjects' own ("fine", "self_rows": see AttentionMaps). refuse: raises ValueError for subjects that it can do
    nothing with; given the subjects, the maps' grid (h, w) and the term's settings. explains: what each setting
    does, for people. binds: it brings a subject's describing words to it, so that none of them may go unread.
    least: what it cannot go below with so many subjects, where that is more than the lower bound; given their number
    and the term's settings. looks_back: at a run's first step it is 0 all the same.
    """

    function: Callable[..., Tensor]
    source: str
    summary: str
    least_subjects: int = 1
    bounds: tuple[float, float] = (-math.inf, math.inf)
    needs: frozenset[str] = frozenset()
    refuse: Callable[..., None] | None = None
    explains: Mapping[str, str] = field(default_factory=dict)
    binds: bool = False
    least: Callable[..., float] | None = None
    looks_back: bool = False

    def settings(self) -> dict[str, object]:
        """The names of its settings and their defaults."""
        parameters = list(inspect.signature(self.function).parameters.values())[2:]
        return {one.name: one.default for one in parameters}

    def lowest(self, count: int, settings: Mapping[str, object]) -> float:
        """What no value lies below with `count` subjects, or as many as it needs; 0 of `looks_back` aside."""
        if self.least is None:
            return self.bounds[0]
        return self.least(max(count, self.least_subjects), **settings)


_CODED = "Vertical differences as in the released code, which made the paper's numbers; off: between neighbours."
LOSSES: dict[str, Loss] = {
    "attend_excite": Loss(
        attend_excite, "Chefer et al. 2023", "every subject has a strong spot", bounds=(0.0, 1.0)
    ),
    "iou": Loss(
        iou, "Grimal et al. 2025", "subjects do not share their place", least_subjects=2, bounds=(0.0, 0.5)
    ),
    "syngen": Loss(
        syngen, "Rassin et al. 2023", "a subject lies where its describing words do and no other word does",
        refuse=syngen_refuses, binds=True,
        explains={
            "entities": "Subjects without describing words count as well.",
            "drop_prefix": "Leave a leading 'a photo of' out of the other words.",
        },
    ),
    # Both differences of maps in [0, 1] are at most 1 in the mean, so their sum is at most 2.
    "tv": Loss(
        tv, "Li et al. 2023", "every subject's map has steep edges", bounds=(-2.0, 0.0), explains={"coded": _CODED}
    ),
    "tv_bind": Loss(
        tv_bind, "Li et al. 2023", "the same, and a subject's describing words lie where it does",
        bounds=(-2.0, math.inf), needs=frozenset({"fine"}), refuse=tv_bind_refuses, binds=True,
        explains={"coded": _CODED, "coefficient": "Weight of the binding; the paper's runs: 1, later 5, then 10."},
    ),
    "box_inner": Loss(
        box_inner, "Xie et al. 2023", "every subject is strong in its box", bounds=(0.0, 1.0), refuse=cells_refuse
    ),
    "boxdiff": Loss(
        boxdiff, "Xie et al. 2023", "every subject fills its box and leaves the rest", bounds=(0.0, math.inf),
        refuse=cells_refuse,
    ),
    "self_conflict": Loss(
        self_conflict, "Guo et al. 2024", "the subjects' strongest cells do not attend to one place", least_subjects=2,
        bounds=(0.0, 0.5), needs=frozenset({"self_rows"}),
    ),
    "clean": Loss(clean, "Guo et al. 2024", "every subject has one strong spot, not two", bounds=(0.0, math.inf)),
    "alignment": Loss(
        alignment, "Guo et al. 2024", "maps stay near their average over the run so far", bounds=(0.0, math.inf)
    ),
    "segregation": Loss(
        segregation, "Agarwal et al. 2023", "iou, as a sum over the pairs", least_subjects=2, bounds=(0.0, math.inf)
    ),
    "retention": Loss(
        retention, "Agarwal et al. 2023", "every subject stays where it was a step ago", bounds=(0.0, math.inf),
        least=retention_least, looks_back=True,
    ),
    "box_retention": Loss(
        box_retention, "Grimal et al. 2026", "every subject has a strong spot and lies in its mask or box",
        bounds=(0.25, 1.0), refuse=places_refuse,
    ),
    "focus": Loss(
        focus, "Bill et al. 2025", "the words of one subject agree on a place, subjects do not share it",
        least_subjects=2, bounds=(0.0, 1.0),
    ),
    "conform": Loss(
        conform, "Meral et al. 2024", "a subject looks like itself a step ago and like its describing words, not like"
        " other subjects", least_subjects=2, bounds=(0.0, math.inf), refuse=conform_refuses, least=conform_least,
        explains={"temperature": "How sharply like and unlike maps are told apart; the paper's is 0.5."},
    ),
    "self_cross": Loss(
        self_cross, "Qiu et al. 2025", "no subject's cells attend to where another subject is", least_subjects=2,
        bounds=(0.0, 1.0), needs=frozenset({"self_rows"}), refuse=self_cross_refuses,
        explains={"cells": "Of each subject, how many of its strongest cells are asked where they look."},
    ),
}  # fmt: skip


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
        values = [LOSSES[term.loss].function(maps, subjects, **dict(term.settings)) for term in usable]
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

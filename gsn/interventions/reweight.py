"""Each subject's place for its own words (DeLeaker: Ventura et al. 2025, arXiv 2510.15015, section 3).

Subject s owns the cells whose value in its map is at least mean + threshold * std over the map. There

l' = l + log(own)      towards the words of s and of its attributes
l' = l + log(others)   towards the words of the other subjects

so that own and others are factors on attention weights before they are normalised. Deviations: the paper strengthens
by l' = 1.2 l, which weakens a logit below zero, and masks the others' logits, which is others = 0; a cell that
several subjects claim goes to the one that stands out most, instead of to nobody; the maps are those of one pass at
the step's beginning, averaged over layers and blurred, instead of a running average over blocks that is opened and
closed; the picture's attention to itself stays as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention.logit_edit import LogitEdit
from ..losses.objective import Objective
from ..text.subjects import Subjects
from .context import Context, Forward
from .intervention import Intervention, Phase

_LEAST = 1e-8  # stands for a factor of 0: some attention functions cannot take a logit of minus infinity


@dataclass(frozen=True)
class Reweight(Intervention):
    """own, others: factors, 1 = off; threshold: in standard deviations of a map."""

    own: float = 2.0
    others: float = 0.0
    threshold: float = 1.0

    name = "reweight"
    phase = Phase.ADD
    edits = True
    most = {"own": 100, "others": 100, "threshold": 10}

    @property
    def idle(self) -> bool:
        return self.own == 1 and self.others == 1

    def check(self, objective: Objective) -> None:
        for name, value in (("own", self.own), ("others", self.others)):
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"the factor '{name}' is {value}; give a finite number, 0 or more (1 = off)")
        if not math.isfinite(self.threshold):
            raise ValueError(f"the threshold is {self.threshold}; give a finite number")

    def describe(self) -> str:
        return (
            f"reweight: where a subject's map is {self.threshold:g} standard deviations above its mean, attention to"
            f" its own words counts {self.own:g} times, to other subjects' {self.others:g} times"
        )

    def apply(self, latent: Tensor, forwards: tuple[Forward, ...], context: Context) -> Tensor:
        """The same latent; the cells that the subjects own go to the context."""
        context.check()
        value = context.evaluate(latent, forwards, grad=False)
        for forward, maps in zip(forwards, value.by_entry, strict=True):
            context.claim(forward, owners(maps, self.threshold))
        context.keep(self.name, 0, "seen", value.maps)
        context.record(self.name, 0, value, None)
        context.progress(1, value.maps)
        return latent

    def edit(self, subjects: Subjects | None, length: int, owners: Tensor | None) -> LogitEdit | None:
        if subjects is None or owners is None:
            return None
        words = torch.zeros(len(subjects.items), length)
        for words_of_one, subject in zip(words, subjects.items, strict=True):
            words_of_one[list(subjects.columns_of(subject))] = 1
        foreign = (words.amax(0) - words).clamp(min=0)  # a word of two subjects is foreign to neither
        gain = math.log(max(self.own, _LEAST)) * words + math.log(max(self.others, _LEAST)) * foreign
        return LogitEdit(bias=owners.permute(0, 2, 3, 1).to(gain.dtype) @ gain.to(owners.device))


def owners(maps: Tensor, threshold: float) -> Tensor:
    """Which subject owns a cell, from maps [B, S, h, w]: bool of the same shape, at most one of S at each cell."""
    spread, mean = torch.std_mean(maps, (-2, -1), correction=0, keepdim=True)
    above = (maps - mean) / spread.clamp(min=1e-6)
    best = torch.zeros_like(maps, dtype=torch.bool).scatter(1, above.argmax(1, keepdim=True), True)
    return best & (above >= threshold)

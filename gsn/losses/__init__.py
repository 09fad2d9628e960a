"""The registry of losses and their weighted sum, the `Objective`.

A loss is one function `(maps: SubjectMaps, subjects: Subjects) -> Tensor [B]`, one value per image. A new
one is a file beside this and a line in `LOSSES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..maps import AttentionMaps, MapProcessing, subject_maps
from ..subjects import Subjects
from .attend_excite import attend_excite
from .iou import iou


@dataclass(frozen=True)
class Loss:
    """A loss and what it asks for."""

    function: Callable[..., Tensor]
    least_subjects: int
    source: str


LOSSES: dict[str, Loss] = {
    "attend_excite": Loss(attend_excite, 1, "Chefer et al. 2023"),
    "iou": Loss(iou, 2, "Grimal et al. 2025"),
}


@dataclass(frozen=True)
class Evaluation:
    """The objective at one latent: total [B], each term [B], subject maps [B, S, h, w]."""

    total: Tensor
    terms: dict[str, Tensor]
    maps: Tensor


@dataclass(frozen=True)
class Objective:
    """A weighted sum of losses: ((name in LOSSES, weight), ...)."""

    terms: tuple[tuple[str, float], ...]

    def __add__(self, other: Objective) -> Objective:
        return replace(self, terms=self.terms + other.terms)

    def check_weights(self) -> None:
        """Raise ValueError if a weight is not finite."""
        for name, weight in self.terms:
            if not math.isfinite(weight):
                raise ValueError(f"the weight of loss '{name}' is {weight}; give a finite number")

    def check(self, subjects: Subjects) -> None:
        """Raise ValueError if no term is defined for this many subjects."""
        count = len(subjects.items)
        if not self._usable(count):
            least = min(LOSSES[name].least_subjects for name, _ in self.terms)
            names = ", ".join(name for name, _ in self.terms)
            raise ValueError(
                f"loss '{names}' compares subjects and needs at least {least}, but the prompt has {count}"
                f" ({', '.join(subjects.labels)}); name a second subject or choose attend_excite"
            )

    def _usable(self, count: int) -> list[tuple[str, float]]:
        return [(name, weight) for name, weight in self.terms if LOSSES[name].least_subjects <= count]

    def evaluate(self, attention: AttentionMaps, subjects: Subjects, processing: MapProcessing) -> Evaluation:
        """Loss per image; a term that needs more subjects than there are counts 0, as in the papers."""
        maps = subject_maps(attention, subjects, processing)
        terms: dict[str, Tensor] = {}
        total = torch.zeros(maps.maps.shape[0], device=maps.maps.device)
        for name, weight in self._usable(len(subjects.items)):
            terms[name] = LOSSES[name].function(maps, subjects)
            total = total + weight * terms[name]
        return Evaluation(total, terms, maps.maps)


PAPER = Objective((("attend_excite", 0.5), ("iou", 0.5)))

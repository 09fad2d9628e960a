"""What a loss says of itself, at its function.

    @loss("Chefer et al. 2023", "every subject has a strong spot", bounds=(0.0, 1.0))
    def attend_excite(maps, subjects): ...
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """A function `(maps: SubjectMaps, subjects: Subjects, **settings) -> Tensor [B]`, and what it asks for.

    source: its paper. summary: what a person gains by it, in one line. least_subjects: with fewer it is 0, as it
    compares them. bounds: no value lies outside. needs: which maps beyond the subjects' own ("fine", "self_rows": see
    AttentionMaps). refuse: raises ValueError for subjects that it can do nothing with; given the subjects, the maps'
    grid (h, w) and the term's settings. explains: what each setting does, for people. most: above it, or below its
    negative, a setting's number is a slip of the pen. binds: it brings a subject's describing words to it, so that
    none of them may go unread. least: what it cannot go below with so many subjects, where that is more than the lower
    bound; given their number and the term's settings. looks_back: at a run's first step it is 0 all the same.
    """

    function: Callable[..., Tensor]
    source: str
    summary: str
    least_subjects: int = 1
    bounds: tuple[float, float] = (-math.inf, math.inf)
    needs: frozenset[str] = frozenset()
    refuse: Callable[..., None] | None = None
    explains: Mapping[str, str] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    binds: bool = False
    least: Callable[..., float] | None = None
    looks_back: bool = False

    def __post_init__(self) -> None:
        numbers = {name for name, usual in self.settings().items() if type(usual) in (int, float)}
        if set(self.explains) != self.settings().keys() or set(self.most) != numbers:
            raise TypeError(f"loss '{self.name}': each setting wants its `explains`, and each number its `most`")

    def __call__(self, *args: Any, **settings: Any) -> Tensor:
        return self.function(*args, **settings)

    @property
    def name(self) -> str:
        return self.function.__name__

    def settings(self) -> dict[str, object]:
        """The names of its settings and their defaults."""
        parameters = list(inspect.signature(self.function).parameters.values())[2:]
        return {one.name: one.default for one in parameters}

    def lowest(self, count: int, settings: Mapping[str, object]) -> float:
        """What no value lies below with `count` subjects, or as many as it needs; 0 of `looks_back` aside."""
        if self.least is None:
            return self.bounds[0]
        return self.least(max(count, self.least_subjects), **settings)


def loss(source: str, summary: str, **about: Any) -> Callable[[Callable[..., Tensor]], Loss]:
    """Makes a function a `Loss`; about: its further fields."""
    return lambda function: Loss(function, source, summary, **about)


def losses_of(file: ModuleType) -> dict[str, Loss]:
    """The losses that a file describes, by name, in the file's order; those that it borrows from another are not."""
    described = [one for one in vars(file).values() if isinstance(one, Loss)]
    return {one.name: one for one in described if one.function.__module__ == file.__name__}

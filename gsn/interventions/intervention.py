"""What an intervention says of itself. Its file holds a frozen dataclass of its parameters, derived from this."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from ..losses.objective import Objective
from .context import Context, Forward, Levels, NoiseLevel

if TYPE_CHECKING:
    from ..attention.logit_edit import LogitEdit
    from ..text.subjects import Subjects


class Phase(IntEnum):
    """When an intervention acts, of those that act at one step: the methods' own order."""

    LOOK = 0  # at what came
    DRAW = 1  # where to begin, from a distribution
    BEGIN = 2  # with better noise
    REFINE = 3
    GUIDE = 4
    SCALE = 5  # logits of the step's ordinary calls
    ADD = 6  # to those logits, by what the maps show after all the others


@dataclass(frozen=True)
class Opening:
    """What is known of a run when one of its steps is about to be opened, before the first model call.

    level: of the step. first: it is the run's first one. noise: the run adds noise, which is then known.
    noisy_sampler: the sampler's name where it adds noise of its own at later steps, else ""; asking takes a rehearsal.
    """

    level: NoiseLevel
    first: bool
    noise: bool
    noisy_sampler: Callable[[], str] = lambda: ""


class Intervention:
    """What may happen to the latent, or to the model's attention, at a step of a run.

    name: as the trace and preset files call it. phase: see `Phase`.
    reads_maps: it has `apply`. edits: it has `edit`. draws_noise: it takes fresh noise from its context.
    loops: it takes many iterations at its step, and is drawn by them.
    changes: the picture; False where it only looks, and so has no place in a preset.
    loss_is: what it does with its objective, in a word; "" where it has no use for one.
    usual_sigma: the field of `ModelPreset` (methods/model_presets.py) with the noise level at which it acts where a
    person leaves that open; at a range of steps it is `guide_sigmas`.
    most: of each number among its fields the size above which it is a slip of the pen. A field called `stop` holds
    levels, and preset files write it as an object.
    number: which of the numbers of GSNKSampler, "iterations" or "size", takes it out of a method at 0.
    evaluations: units it announces to the progress bar; gradients: how many gradients it takes, at most.
    levels: an image is done once it is at or below all of them.
    idle: it would do nothing, so that nothing needs to be opened for it.
    needs_subjects: it can do nothing without `Subjects`.
    """

    name: ClassVar[str]
    phase: ClassVar[Phase]
    reads_maps: ClassVar[bool] = True
    edits: ClassVar[bool] = False
    draws_noise: ClassVar[bool] = False
    loops: ClassVar[bool] = False
    changes: ClassVar[bool] = True
    loss_is: ClassVar[str] = ""
    usual_sigma: ClassVar[str] = "refine_sigma"
    most: ClassVar[Mapping[str, float]] = {}
    number: ClassVar[str] = "iterations"

    @property
    def evaluations(self) -> int:
        return 1

    @property
    def gradients(self) -> int:
        return 0

    @property
    def idle(self) -> bool:
        return False

    @property
    def levels(self) -> Levels:
        return ()

    @property
    def needs_subjects(self) -> bool:
        return True

    def with_numbers(self, iterations: int, rate: float, size: float) -> Intervention:
        """With a person's numbers in the place of its own, where a method leaves them to the person."""
        return self

    def needs(self, objective: Objective) -> frozenset[str]:
        """Which maps beyond the subjects' own: see `AttentionMaps`."""
        return objective.needs

    def check(self, objective: Objective) -> None:
        """Raise ValueError for parameters that cannot work."""

    def check_run(self, objective: Objective, indices: Sequence[int], counts: Sequence[int]) -> None:
        """Raise ValueError for a run in which they cannot.

        indices: the steps at which it would act. counts: how many subjects each conditioning entry has.
        """

    def warnings(self, opening: Opening) -> list[str]:
        """What a person should know before a run that this does not quite suit; asked of those that read maps."""
        return []

    def describe(self) -> str:
        """Its parameters in plain words."""
        raise NotImplementedError

    def apply(self, latent: Tensor, forwards: tuple[Forward, ...], context: Context) -> Tensor:
        """The latent after it, [B, C, h, w] float32 in the papers' VP scale, from the one before.

        Each forward maps such a latent to `AttentionMaps` that autograd can go through.
        """
        raise NotImplementedError

    def edit(self, subjects: Subjects | None, length: int, owners: Tensor | None) -> LogitEdit | None:
        """What to do to the attention of the ordinary model calls at its steps, for a text of `length` columns.

        subjects: None where the text's columns are not known; the answer may then be None, for nothing.
        owners: the cells that are each subject's, [B, S, h, w] bool; None before any were claimed.
        """
        raise NotImplementedError


def interventions_of(file: ModuleType) -> dict[str, type[Intervention]]:
    """The interventions that a file describes, by name."""
    found = [one for one in vars(file).values() if isinstance(one, type) and issubclass(one, Intervention)]
    own = {one.name: one for one in found if one.__module__ == file.__name__}
    for one in own.values():
        numbers = {each.name for each in fields(one) if type(each.default) in (int, float)}  # type: ignore[arg-type]
        if numbers != set(one.most):
            raise TypeError(f"'{one.name}' has the numbers {sorted(numbers)}, and a `most` of {sorted(one.most)}")
    return own

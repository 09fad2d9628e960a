"""Look without touching: the subject maps of ordinary sampling at a step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..losses import Objective
from .context import Context, Forward


@dataclass(frozen=True)
class Observe:
    name = "observe"
    evaluations = 1
    idle = False
    gradients = 0
    reads_maps = True
    edits = False
    draws_noise = False
    needs_subjects = True

    def check(self, objective: Objective) -> None:
        """Nothing to get wrong."""

    def describe(self) -> str:
        return "look at the attention maps; nothing is changed"

    def apply(self, latent: Tensor, forwards: tuple[Forward, ...], context: Context) -> Tensor:
        """The same latent."""
        context.check()
        value = context.evaluate(latent, forwards, grad=False)
        context.keep(self.name, 0, "seen", value.maps)
        context.record(self.name, 0, value, None)
        context.progress(1, value.maps)
        return latent

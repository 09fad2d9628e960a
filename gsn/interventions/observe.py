"""Look without touching: the subject maps of ordinary sampling at a step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .context import Context, Forward
from .intervention import Intervention, Phase


@dataclass(frozen=True)
class Observe(Intervention):
    name = "observe"
    phase = Phase.LOOK
    changes = False
    loss_is = "measured"

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

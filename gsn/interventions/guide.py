"""Guidance: one plain gradient step on the latent at each step of a range (Chefer et al. 2023, section 3).

z <- z - eta_i dL/dz,   eta_i = size * sqrt(linspace(1, 0.5, T)[i])   or constant
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..losses.objective import Objective
from .context import Context, Forward, per_image
from .intervention import Intervention, Phase
from .schedule import SCHEDULES, check_schedule, scheduled


@dataclass(frozen=True)
class Guide(Intervention):
    """size: step size in VP scale; schedule: "sqrt" falls to 0.71 of it over the run, "constant" does not."""

    size: float = 20.0
    schedule: str = "sqrt"

    name = "guide"
    phase = Phase.GUIDE
    loss_is = "lowered"
    most = {"size": 1e4}
    number = "size"

    @property
    def gradients(self) -> int:
        return 1

    @property
    def idle(self) -> bool:
        return self.size == 0

    def check(self, objective: Objective) -> None:
        if not math.isfinite(self.size) or self.size < 0:
            raise ValueError(f"the step size is {self.size}; give a finite number, 0 (off) or more")
        check_schedule(self.schedule)

    def with_numbers(self, iterations: int, rate: float, size: float) -> Guide:
        return replace(self, size=size)

    def describe(self) -> str:
        return f"guide: one gradient step of size {self.size:g}, {SCHEDULES[self.schedule]}"

    def apply(self, latent: Tensor, forwards: tuple[Forward, ...], context: Context) -> Tensor:
        """The shifted latent; an image whose gradient is not finite is left as it was, and the trace says so."""
        context.check()
        value = context.evaluate(latent, forwards)
        shift = -scheduled(self.size, self.schedule, context) * value.gradient
        result = torch.where(per_image(value.finite, latent), latent + shift, latent)
        context.keep(self.name, 0, "before", value.maps)
        context.record(self.name, 0, value, result - latent)
        context.progress(1, value.maps)
        if not bool(value.finite.all()):
            reasons = ["one update" if f else "loss or gradient not finite; left as it was" for f in value.finite]
            context.stop(self.name, reasons, [int(f) for f in value.finite])
        return result

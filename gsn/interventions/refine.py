"""Iterative refinement at one step: the paper's method (Grimal et al. 2025, section 3; optimiser from InitNO).

At the noise level of the chosen step the latent itself is optimised, the level stays fixed: forward, loss,
gradient, one optimiser step, `iterations` times. Adam's eps of 1e-3 is part of the method: with PyTorch's
1e-8 the update becomes a sign step that amplifies noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..losses.objective import Objective
from .context import Context, Forward, Gradient, Levels, per_image
from .intervention import Intervention, Phase
from .levels import check_levels, in_words
from .schedule import SCHEDULES, check_rate, check_schedule, scheduled

ADAM_EPS = 1e-3
_WORTH = 0.01  # share of the least loss by which a lower one counts as lower
OPTIMISERS = ("adam", "sgd")


@dataclass(frozen=True)
class Refine(Intervention):
    """iterations: updates at most; lr: in VP scale, over the run as `schedule` says.
    optimiser: "adam", or "sgd": the plain gradient, with `momentum`.
    stop: an image stops once every named loss is at or below its level; () = never.
    overshoot: it stops one update later, but does not begin where nothing is to be done. Chefer's loop is of this
    kind: it looks at the loss of the pass before.
    patience: an image stops after so many updates in a row that did not lower its least loss by a hundredth; 0 = never.
    """

    iterations: int = 50
    lr: float = 1e-2
    optimiser: str = "adam"
    momentum: float = 0.0
    schedule: str = "constant"
    stop: Levels = ()
    overshoot: bool = False
    patience: int = 0

    name = "refine"
    phase = Phase.REFINE
    loss_is = "lowered"
    loops = True
    most = {"iterations": 1000, "lr": 1e4, "momentum": 1, "patience": 1000}

    @property
    def idle(self) -> bool:
        return self.iterations == 0

    @property
    def levels(self) -> Levels:
        return self.stop

    @property
    def evaluations(self) -> int:
        return self.iterations + 1

    @property
    def gradients(self) -> int:
        return self.iterations

    def check(self, objective: Objective) -> None:
        if self.iterations < 0:
            raise ValueError(f"iterations is {self.iterations}; give 0 (off) or more")
        check_rate(self.lr, self.momentum)
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"unknown optimiser '{self.optimiser}'; use one of {', '.join(OPTIMISERS)}")
        if self.optimiser == "adam" and self.momentum:
            raise ValueError(
                f"momentum is {self.momentum:g}, but adam has its own and does not use it; give 0, or optimiser sgd"
            )
        if self.patience < 0:
            raise ValueError(f"patience is {self.patience}; give 0 (off) or more updates")
        check_schedule(self.schedule)
        check_levels(self.stop, objective)

    def check_run(self, objective: Objective, indices: Sequence[int], counts: Sequence[int]) -> None:
        check_levels(self.stop, objective, counts)

    def with_numbers(self, iterations: int, rate: float, size: float) -> Refine:
        return replace(self, iterations=iterations, lr=rate)

    def describe(self) -> str:
        how = "Adam" if self.optimiser == "adam" else "plain gradient"
        how += f" with momentum {self.momentum:g}" if self.momentum else ""
        said = f"refine: up to {self.iterations} updates by {how}, rate {self.lr:g}, {SCHEDULES[self.schedule]}"
        said += f"; an image stops when {in_words(self.stop, ' is')}" if self.stop else ""
        said += f"; and after {self.patience} updates without a lower loss" if self.patience else ""
        return said

    def apply(self, latent: Tensor, forwards: tuple[Forward, ...], context: Context) -> Tensor:
        """The refined latent. An image whose loss or gradient is not finite goes back to its last finite
        iterate and stops; the others go on."""
        z = latent.detach().clone().requires_grad_(True)
        good = latent.detach().clone()  # the last iterate at which loss and gradient were finite
        running = torch.ones(z.shape[0], dtype=torch.bool, device=z.device)
        reasons = ["all iterations done"] * z.shape[0]
        done = [0] * z.shape[0]
        optimiser = self._optimiser(z, scheduled(self.lr, self.schedule, context))
        reached = torch.zeros_like(running)
        least = torch.full(running.shape, math.inf, device=z.device)
        idle = torch.zeros_like(running, dtype=torch.long)  # updates since the least loss was last undercut
        for iteration in range(self.iterations):
            context.check()
            value = context.evaluate(z.detach(), forwards, moving=running)
            if iteration == 0:
                context.keep(self.name, 0, "before", value.maps)
            context.record(self.name, iteration, value, z.detach() - latent)
            context.progress(iteration + 1, value.maps)
            good = torch.where(per_image(value.finite & running, z), z.detach(), good)
            met = value.at_or_below(self.stop) if self.stop else torch.zeros_like(running)
            self._stop_images(value, reached if self.overshoot and iteration else met, running, reasons)
            reached |= met
            lower = value.loss < least - _WORTH * least.abs().nan_to_num(0.0, 0.0)
            idle, least = torch.where(lower, 0, idle + 1), torch.where(lower, value.loss, least)
            for i in (running & (idle >= (self.patience or math.inf))).nonzero().flatten().tolist():
                reasons[i] = f"no lower loss for {self.patience} updates"
                running[i] = False
            if running.any():
                z.grad = torch.where(per_image(running, z), value.gradient, torch.zeros_like(value.gradient))
                optimiser.step()
            for i in running.nonzero().flatten().tolist():
                done[i] += 1
            with torch.no_grad():  # momentum must not move an image that has stopped
                z.copy_(torch.where(per_image(running, z), z, good))
            if not running.any():
                break
        context.check()
        last = context.evaluate(z.detach(), forwards, grad=False, moving=running)  # the others were seen
        finite = last.finite & torch.isfinite(z.detach()).flatten(1).all(1)
        for i in (running & ~finite).nonzero().flatten().tolist():
            reasons[i] = f"loss not finite after update {done[i]}; kept the last finite latent"
        result = torch.where(per_image(finite, z), z.detach(), good)
        context.record(self.name, max(done), last, result - latent)
        context.keep(self.name, max(done), "after", last.maps)
        context.progress(self.evaluations, last.maps)
        context.stop(self.name, reasons, done)
        return result

    def _optimiser(self, z: Tensor, rate: float) -> torch.optim.Optimizer:
        if self.optimiser == "adam":
            return torch.optim.Adam([z], lr=rate, eps=ADAM_EPS)
        return torch.optim.SGD([z], lr=rate, momentum=self.momentum)

    def _stop_images(self, value: Gradient, met: Tensor, running: Tensor, reasons: list[str]) -> None:
        for i in running.nonzero().flatten().tolist():
            if not value.finite[i]:
                reasons[i] = "loss or gradient not finite; kept the last finite latent"
                running[i] = False
            elif met[i]:
                reasons[i] = in_words(self.stop)
                running[i] = False

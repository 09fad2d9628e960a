"""Iterative refinement at one step: the paper's method (Grimal et al. 2025, section 3; optimiser from InitNO).

At the noise level of the chosen step the latent itself is optimised, the level stays fixed: forward, loss,
gradient, one optimiser step, `iterations` times. Adam's eps of 1e-3 is part of the method: with PyTorch's
1e-8 the update becomes a sign step that amplifies noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .context import Context, Forward

ADAM_EPS = 1e-3


@dataclass(frozen=True)
class Refine:
    """iterations: updates; lr: in VP scale; optimiser "adam" or "sgd" (plain gradient); threshold: an image
    stops once its loss is at or below it, None = never."""

    iterations: int = 50
    lr: float = 1e-2
    optimiser: str = "adam"
    threshold: float | None = None

    name = "refine"

    @property
    def idle(self) -> bool:
        return self.iterations == 0

    @property
    def evaluations(self) -> int:
        """Model calls it announces to the progress bar."""
        return self.iterations + 1

    def check(self) -> None:
        """Raise ValueError for parameters that cannot work."""
        if self.iterations < 0:
            raise ValueError(f"iterations is {self.iterations}; give 0 (off) or more")
        if not math.isfinite(self.lr) or self.lr < 0:
            raise ValueError(f"lr is {self.lr}; give a finite number, 0 or more")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"the threshold is {self.threshold}; give a finite number or switch it off")

    def apply(self, latent: Tensor, forwards: tuple[Forward, ...], context: Context) -> Tensor:
        """The refined latent. An image whose loss or gradient is not finite goes back to its last finite
        iterate and stops; the others go on."""
        z = latent.detach().clone().requires_grad_(True)
        good = latent.detach().clone()  # the last iterate at which loss and gradient were finite
        running = torch.ones(z.shape[0], dtype=torch.bool, device=z.device)
        reasons = ["all iterations done"] * z.shape[0]
        done = [0] * z.shape[0]
        optimiser = self._optimiser(z)
        for iteration in range(self.iterations):
            context.check()
            value = context.evaluate(z.detach(), forwards)
            if iteration == 0:
                context.keep(self.name, 0, "before", value.maps)
            context.record(self.name, iteration, value, z.detach() - latent)
            context.progress(iteration + 1, value.maps)
            good = torch.where(_rows(value.finite & running, z), z.detach(), good)
            self._stop_images(value, running, reasons)
            if running.any():
                z.grad = torch.where(_rows(running, z), value.gradient, torch.zeros_like(value.gradient))
                optimiser.step()
            for i in running.nonzero().flatten().tolist():
                done[i] += 1
            with torch.no_grad():  # momentum must not move an image that has stopped
                z.copy_(torch.where(_rows(running, z), z, good))
            if not running.any():
                break
        context.check()
        last = context.evaluate(z.detach(), forwards, grad=False)
        finite = last.finite & torch.isfinite(z.detach()).flatten(1).all(1)
        for i in (running & ~finite).nonzero().flatten().tolist():
            reasons[i] = f"loss not finite after update {done[i]}; kept the last finite latent"
        result = torch.where(_rows(finite, z), z.detach(), good)
        context.record(self.name, max(done), last, result - latent)
        context.keep(self.name, max(done), "after", last.maps)
        context.progress(self.evaluations, last.maps)
        context.stop(self.name, reasons, done)
        return result

    def _optimiser(self, z: Tensor) -> torch.optim.Optimizer:
        if self.optimiser == "adam":
            return torch.optim.Adam([z], lr=self.lr, eps=ADAM_EPS)
        if self.optimiser == "sgd":
            return torch.optim.SGD([z], lr=self.lr)
        raise ValueError(f"unknown optimiser '{self.optimiser}'; use adam or sgd")

    def _stop_images(self, value, running: Tensor, reasons: list[str]) -> None:
        for i in running.nonzero().flatten().tolist():
            if not value.finite[i]:
                reasons[i] = "loss or gradient not finite; kept the last finite latent"
                running[i] = False
            elif self.threshold is not None and value.loss[i] <= self.threshold:
                reasons[i] = f"loss at or below {self.threshold:g}"
                running[i] = False


def _rows(flags: Tensor, like: Tensor) -> Tensor:
    """[B] bool as a mask that broadcasts over one image."""
    return flags.view(-1, *[1] * (like.dim() - 1))

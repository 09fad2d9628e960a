"""What an intervention is given besides the latent, and the two things all of them do: evaluate, record."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..losses import Objective
from ..maps import AttentionMaps, MapProcessing
from ..subjects import Subjects
from ..trace import KeptMaps, Record, StepInfo, Stop, Trace


class Forward(Protocol):
    """One conditioning entry's truncated model call. `subjects` are that entry's.

    latent: the images `rows` of the batch, [len(rows), C, h, w].
    """

    subjects: Subjects

    def __call__(self, latent: Tensor, rows: slice) -> AttentionMaps: ...


@dataclass(frozen=True)
class Gradient:
    """The objective at one latent, summed over conditioning entries. All without a graph."""

    loss: Tensor  # [B]
    terms: dict[str, Tensor]  # name -> [B]
    maps: Tensor  # [B, S, h, w], S over all entries
    gradient: Tensor  # like the latent; zeros when it was not asked for
    finite: Tensor  # [B] bool: loss and gradient are finite


@dataclass
class Context:
    """One opened step.

    loss_scale: factor on the loss in backward, divided out of the gradient; above 1 only where the model
    computes in float16, whose gradients underflow. Halved (and kept) when a gradient overflows.
    progress(done, maps): called after each evaluation with maps [B, S, h, w] or None.
    check(): raises when the user has cancelled.
    one_by_one: images are evaluated one at a time.
    out_of_memory(error), release(): the host's test for, and remedy of, exhausted memory. After the first
    such error images are evaluated one at a time; a second one is raised.
    """

    step: StepInfo
    total_steps: int
    objective: Objective
    processing: MapProcessing
    trace: Trace
    progress: Callable[[int, Tensor | None], None] = lambda done, maps: None
    check: Callable[[], None] = lambda: None
    loss_scale: float = 1.0
    out_of_memory: Callable[[Exception], bool] = lambda error: False
    release: Callable[[], None] = lambda: None
    keep_maps: bool = True
    one_by_one: bool = False
    spared: bool = False  # memory ran out before, and was released
    began: float = field(default_factory=time.perf_counter)

    def evaluate(self, latent: Tensor, forwards: tuple[Forward, ...], grad: bool = True) -> Gradient:
        """Loss and gradient with respect to the latent, entry by entry so that one graph lives at a time."""
        while True:
            result = self._with_memory(latent, forwards, grad)
            overflowed = torch.isfinite(result.loss) & ~result.finite
            if not grad or self.loss_scale <= 1 or not bool(overflowed.any()):
                return result
            self.loss_scale = max(1.0, self.loss_scale / 2)

    def _with_memory(self, latent: Tensor, forwards: tuple[Forward, ...], grad: bool) -> Gradient:
        try:
            return self._by_images(latent, forwards, grad)
        except Exception as error:
            if self.spared or not self.out_of_memory(error):
                raise
        # outside the except block: its traceback held the graph that is to be freed
        self.release()
        self.spared = self.one_by_one = True
        self.trace.notes.append(f"out of memory at {self.step}: went on one image at a time")
        return self._by_images(latent, forwards, grad)

    def _by_images(self, latent: Tensor, forwards: tuple[Forward, ...], grad: bool) -> Gradient:
        if not self.one_by_one:
            return self._evaluate(latent, forwards, grad, slice(0, latent.shape[0]))
        images = [self._evaluate(latent[i : i + 1], forwards, grad, slice(i, i + 1)) for i in range(len(latent))]
        return Gradient(
            loss=torch.cat([image.loss for image in images]),
            terms={name: torch.cat([image.terms[name] for image in images]) for name in images[0].terms},
            maps=torch.cat([image.maps for image in images]),
            gradient=torch.cat([image.gradient for image in images]),
            finite=torch.cat([image.finite for image in images]),
        )

    def _evaluate(self, latent: Tensor, forwards: tuple[Forward, ...], grad: bool, rows: slice) -> Gradient:
        loss = torch.zeros(latent.shape[0], device=latent.device)
        gradient = torch.zeros_like(latent)
        terms: dict[str, Tensor] = {}
        maps: list[Tensor] = []
        for forward in forwards:
            leaf = latent.detach().clone().requires_grad_(grad)
            with torch.set_grad_enabled(grad):
                value = self.objective.evaluate(forward(leaf, rows), forward.subjects, self.processing)
            if grad and value.total.requires_grad:
                scaled = (self.loss_scale * value.total).sum()
                gradient += torch.autograd.grad(scaled, leaf)[0] / self.loss_scale
            loss += value.total.detach()
            for name, term in value.terms.items():
                terms[name] = terms.get(name, 0) + term.detach()
            maps.append(value.maps.detach())
        finite = torch.isfinite(loss) & torch.isfinite(gradient).flatten(1).all(1)
        return Gradient(loss, terms, _same_grid(maps), gradient, finite)

    def record(self, action: str, iteration: int, value: Gradient, update: Tensor | None) -> None:
        """Append one record; update: the latent's shift so far, like the latent, or None."""
        rms = update.flatten(1).square().mean(1).sqrt() if update is not None else torch.zeros_like(value.loss)
        self.trace.records.append(
            Record(
                action=action,
                step=self.step,
                iteration=iteration,
                loss=value.loss.tolist(),
                terms={name: term.tolist() for name, term in value.terms.items()},
                maxima=value.maps.flatten(2).amax(-1).tolist(),
                update_rms=rms.tolist(),
                seconds=time.perf_counter() - self.began,
            )
        )

    def keep(self, action: str, iteration: int, moment: str, maps: Tensor) -> None:
        """Store maps [B, S, h, w] for drawing, on the CPU."""
        if self.keep_maps:
            kept = maps.detach().float().cpu()
            self.trace.kept.append(KeptMaps(action, self.step, iteration, moment, kept))

    def stop(self, action: str, reasons: list[str], iterations: list[int]) -> None:
        self.trace.stops.append(Stop(action, self.step, reasons, iterations))


def _same_grid(maps: list[Tensor]) -> Tensor:
    """Concatenate entries' maps along S; an entry with an area has a smaller grid and is stretched for show."""
    if not maps:
        raise ValueError("no conditioning entry with subjects is active at this step")
    grid = maps[0].shape[-2:]
    return torch.cat([m if m.shape[-2:] == grid else F.interpolate(m, grid, mode="bilinear") for m in maps], 1)

"""What an intervention is given besides the latent, and the two things all of them do: evaluate, record."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention.maps import AttentionMaps, Earlier, MapProcessing
from ..losses.objective import Objective
from ..text.subjects import Subjects
from ..trace import KeptMaps, Record, StepInfo, Stop, Trace

_AVERAGE_DECAY = 0.9  # InitNO's cache


class History:
    """The subject maps of one conditioning entry over a run, for losses that look back."""

    def __init__(self) -> None:
        self._step: int | None = None
        self._latest: Tensor | None = None  # [B, S, h, w], of the last evaluation
        self._earlier = Earlier()

    def before(self, step: int, rows: slice) -> Earlier:
        """What an evaluation at this step looks back on, for the images `rows`."""
        previous, average = self._earlier.previous, self._earlier.average
        if step != self._step:
            previous = self._latest
        return Earlier(*(None if maps is None else maps[rows] for maps in (previous, average)))

    def note(self, step: int, maps: Tensor, moving: Tensor | None = None) -> None:
        """Add an evaluation's maps, [B, S, h, w]; moving: see `Context.evaluate`."""
        maps, average = maps.detach(), self._earlier.average
        previous = self._earlier.previous if step == self._step else self._latest
        if average is None or average.shape != maps.shape:
            average = maps
        share = maps.new_full((len(maps),), 1 - _AVERAGE_DECAY)
        share = share if moving is None else share * moving
        average = average + per_image(share, maps) * (maps - average)
        self._step, self._latest, self._earlier = step, maps, Earlier(previous, average)

    def forget(self) -> None:
        """From here on as at a run's first evaluation."""
        self._step, self._latest, self._earlier = None, None, Earlier()


Levels = tuple[tuple[str, float], ...]  # (loss or "total", a level at or below which it is good enough)


class Forward(Protocol):
    """One conditioning entry's truncated model call. `subjects` are that entry's.

    latent: the images `rows` of the batch, [len(rows), C, h, w].
    """

    subjects: Subjects
    history: History

    def __call__(self, latent: Tensor, rows: slice) -> AttentionMaps: ...


@dataclass(frozen=True)
class Gradient:
    """The objective at one latent, summed over conditioning entries. All without a graph."""

    loss: Tensor  # [B]
    terms: dict[str, Tensor]  # name -> [B]
    by_entry: tuple[Tensor, ...]  # maps [B, S, h, w] of each conditioning entry
    gradient: Tensor  # like the latent; zeros when it was not asked for
    finite: Tensor  # [B] bool: loss and gradient are finite

    @property
    def maps(self) -> Tensor:
        """[B, S, h, w], S over all entries. One with an area has a smaller grid, and is stretched for show."""
        grid = self.by_entry[0].shape[-2:]
        same = (m if m.shape[-2:] == grid else F.interpolate(m, grid, mode="bilinear") for m in self.by_entry)
        return torch.cat(list(same), 1)

    def watched(self, name: str) -> Tensor:
        """[B]: a term, or "total", their weighted sum. A term that needs more subjects than there are is 0."""
        return self.loss if name == "total" else self.terms.get(name, torch.zeros_like(self.loss))

    def at_or_below(self, levels: Levels) -> Tensor:
        """[B] bool: everything named is at or below its level."""
        met = torch.ones_like(self.finite)
        for name, level in levels:
            met &= self.watched(name) <= level
        return met


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """[B] values as a tensor that broadcasts over the images of a latent."""
    return values.view(-1, *[1] * (like.dim() - 1))


@dataclass(frozen=True)
class NoiseLevel:
    """The step's noise level in the papers' terms: z = alpha x0 + spread e, e of unit variance.

    Variance preserving: alpha = sqrt(abar), spread = sqrt(1 - abar). Flow: alpha = 1 - sigma, spread = sigma.
    """

    alpha: float
    spread: float


@dataclass
class Context:
    """One opened step.

    loss_scale: factor on the loss in backward, divided out of the gradient; above 1 only where the model
    computes in float16, whose gradients underflow. Halved (and kept) when a gradient overflows.
    progress(done, maps): called after each evaluation with maps [B, S, h, w] or None.
    check(): raises when the user has cancelled.
    level: the noise level. denoised: [B, C, h, w], the run's own clean estimate of the step before, or None at the
    first. initial_noise: [B, C, h, w] of unit variance, what the run started from; None where it added no noise,
    because it goes on where another one ended.
    generator: the action's own, for fresh noise; it draws on the CPU and does not disturb the sampler's.
    one_by_one: images are evaluated one at a time.
    claim(forward, owners): from now on these cells belong to the subjects of this entry, [B, S, h, w] bool.
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
    claim: Callable[[Forward, Tensor], None] = lambda forward, owners: None
    loss_scale: float = 1.0
    level: NoiseLevel = NoiseLevel(0.0, 1.0)
    denoised: Tensor | None = None
    initial_noise: Tensor | None = None
    generator: torch.Generator = field(default_factory=torch.Generator)
    out_of_memory: Callable[[Exception], bool] = lambda error: False
    release: Callable[[], None] = lambda: None
    keep_maps: bool = True
    one_by_one: bool = False
    loops: bool = False  # the action's, for its records
    spared: bool = False  # memory ran out before, and was released
    began: float = field(default_factory=time.perf_counter)

    def evaluate(
        self, latent: Tensor, forwards: tuple[Forward, ...], grad: bool = True, moving: Tensor | None = None
    ) -> Gradient:
        """Loss and gradient with respect to the latent, entry by entry so that one graph lives at a time.

        moving: [B] bool, the images that have not stopped; what losses look back on takes in no others, so that an
        image has the history that it would have alone. None: all.
        """
        while True:
            result = self._with_memory(latent, forwards, grad)
            overflowed = torch.isfinite(result.loss) & ~result.finite
            if not grad or self.loss_scale <= 1 or not bool(overflowed.any()):
                break
            self.loss_scale = max(1.0, self.loss_scale / 2)
        for forward, maps in zip(forwards, result.by_entry, strict=True):
            forward.history.note(self.step.index, maps, moving)
        return result

    def fresh_noise(self, like: Tensor) -> Tensor:
        """Standard normal noise of this shape, on its device."""
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype).to(like.device)

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
            by_entry=tuple(torch.cat(maps) for maps in zip(*(image.by_entry for image in images), strict=True)),
            gradient=torch.cat([image.gradient for image in images]),
            finite=torch.cat([image.finite for image in images]),
        )

    def _evaluate(self, latent: Tensor, forwards: tuple[Forward, ...], grad: bool, rows: slice) -> Gradient:
        if not forwards:
            raise ValueError("no conditioning entry with subjects is active at this step")
        loss = torch.zeros(latent.shape[0], device=latent.device)
        gradient = torch.zeros_like(latent)
        terms: dict[str, Tensor] = {}
        maps: list[Tensor] = []
        for forward in forwards:
            leaf = latent.detach().clone().requires_grad_(grad)
            with torch.set_grad_enabled(grad):
                earlier = forward.history.before(self.step.index, rows)
                attention = forward(leaf, rows)
                value = self.objective.evaluate(attention, forward.subjects, self.processing, earlier)
            if grad and value.total.requires_grad:
                scaled = (self.loss_scale * value.total).sum()
                gradient += torch.autograd.grad(scaled, leaf)[0] / self.loss_scale
            loss += value.total.detach()
            for name, term in value.terms.items():
                terms[name] = terms.get(name, 0) + term.detach()
            maps.append(value.maps.detach())
        finite = torch.isfinite(loss) & torch.isfinite(gradient).flatten(1).all(1)
        return Gradient(loss, terms, tuple(maps), gradient, finite)

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
                loops=self.loops,
            )
        )

    def keep(self, action: str, iteration: int, moment: str, maps: Tensor) -> None:
        """Store maps [B, S, h, w] for drawing, on the CPU."""
        if self.keep_maps:
            kept = maps.detach().float().cpu()
            self.trace.kept.append(KeptMaps(action, self.step, iteration, moment, kept, self.loops))

    def stop(self, action: str, reasons: list[str], iterations: list[int]) -> None:
        self.trace.stops.append(Stop(action, self.step, reasons, iterations))

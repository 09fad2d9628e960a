"""Refinement at the first step at which an image's maps have settled: the step is found online, image by image.

Ordinary sampling is looked at from step to step (one truncated model call each, without gradients):

    m_i = a subject's map at step i, divided by its sum,   change_i = max over subjects of sum |m_i - m_(i-1)| / 2

The first step with change <= `level` is refined as `Refine` does it, once; an image whose maps never settle is refined
at the last step of the range. That cross-attention converges after some steps, and that this divides a run into
planning and detail, is the observation of Liu et al. 2024 (TGATE, arXiv 2404.02747); to refine there is this
project's idea.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..losses import Objective
from ..maps import AttentionMaps
from ..trace import KeptMaps, Record, Trace
from .context import Context, Forward, Gradient, History
from .refine import Refine


@dataclass(frozen=True)
class RefineSettled(Refine):
    """level: the change of a map from one step to the next, 0..1, at or below which it has settled. The rest: `Refine`.

    Per image: the run's own memory (`Context.memory`) holds which images have been refined.
    """

    level: float = 0.08

    name = "refine settled"

    @property
    def evaluations(self) -> int:
        return self.iterations + 2

    def check(self, objective: Objective) -> None:
        """Raise ValueError for parameters that cannot work."""
        super().check(objective)
        if not math.isfinite(self.level) or not 0 < self.level < 1:
            raise ValueError(
                f"level is {self.level}; give the change of a map, between 0 and 1, at which it has settled; 0.08 is"
                " the one that was measured"
            )

    def describe(self) -> str:
        seen = f"each image at the first of these steps whose maps change by {self.level:g} or less, or at the last"
        return super().describe().replace("refine:", f"refine {seen}:", 1)

    def apply(self, latent: Tensor, forwards: tuple[Forward, ...], context: Context) -> Tensor:
        """The latent with those images refined whose step this is."""
        context.check()
        waiting: set[int] = context.memory.setdefault("waiting", set(range(len(latent))))
        if not waiting:
            return latent
        before = [forward.history.before(context.step.index, slice(0, len(latent))).previous for forward in forwards]
        seen = context.evaluate(latent, forwards, grad=False)
        context.progress(1, seen.maps)
        changes = _changes(before, seen, context)
        due = [i for i in sorted(waiting) if context.is_last or changes[i] <= self.level]
        said = [self._reason(i, due, waiting, change, context) for i, change in enumerate(changes)]
        waiting.difference_update(due)
        result, accounts = latent.clone(), []
        for images in _neighbours(due):
            some = tuple(_Some(forward, images) for forward in forwards)
            part = replace(context, trace=Trace(), progress=_shifted(context))
            result[images] = super().apply(latent[images], some, part)
            context.one_by_one, context.spared, context.loss_scale = part.one_by_one, part.spared, part.loss_scale
            context.trace.notes.extend(part.trace.notes)
            accounts.append((images, part.trace))
        self._tell(seen, accounts, said, context)
        return result

    def _reason(self, image: int, due: list[int], waiting: set[int], change: float, context: Context) -> str:
        if image not in waiting:
            return "refined at an earlier step"
        told = "nothing to compare with yet" if math.isinf(change) else f"its maps changed by {change:.3f}"
        if image not in due:
            return f"not refined here: {told}"
        settled = change <= self.level
        return f"refined here: {told}" if settled else f"refined here, the last step it may be: {told}"

    def _tell(self, seen: Gradient, accounts: list[tuple[slice, Trace]], said: list[str], context: Context) -> None:
        """One account for the whole batch: images that are not refined here stand in it as they were seen."""
        if not accounts:
            context.record(self.name, 0, seen, None)
        else:
            self._join(seen, accounts, context)
        done = [0] * len(said)
        for images, part in accounts:
            done[images] = part.stops[0].iterations
            said[images] = [f"{a}; {b}" for a, b in zip(said[images], part.stops[0].reasons, strict=True)]
        context.stop(self.name, said, done)

    def _join(self, seen: Gradient, accounts: list[tuple[slice, Trace]], context: Context) -> None:
        plain = Trace()
        replace(context, trace=plain).record(self.name, 0, seen, None)
        for k in range(max(len(part.records) for _, part in accounts)):
            parts = [(images, part.records[min(k, len(part.records) - 1)]) for images, part in accounts]
            context.trace.records.append(_joined(plain.records[0], parts))
        for k, moment in enumerate(("before", "after")) if context.keep_maps else ():
            maps = seen.maps.detach().float().cpu().clone()
            for images, part in accounts:
                maps[images] = part.kept[k].maps
            iteration = max(part.kept[k].iteration for _, part in accounts)
            context.trace.kept.append(KeptMaps(self.name, context.step, iteration, moment, maps))


class _Some:
    """The forward of some images of a batch that lie side by side, as if they were all."""

    def __init__(self, forward: Forward, images: slice):
        self.subjects = forward.subjects
        self.history = History()  # the run's own is of the whole batch
        self._forward, self._first = forward, images.start

    def __call__(self, latent: Tensor, rows: slice) -> AttentionMaps:
        return self._forward(latent, slice(self._first + rows.start, self._first + rows.stop))


def _changes(before: list[Tensor | None], seen: Gradient, context: Context) -> list[float]:
    """Per image the largest change of a subject's map since the step before, 0..1; infinite where there was none."""
    worst = torch.zeros_like(seen.loss)
    for earlier, maps in zip(before, seen.by_entry, strict=True):
        if earlier is None or earlier.shape != maps.shape:
            return [math.inf] * len(worst)
        shares = [one.flatten(2) / one.flatten(2).sum(-1, keepdim=True).clamp(min=1e-12) for one in (earlier, maps)]
        worst = torch.maximum(worst, (shares[0] - shares[1]).abs().sum(-1).amax(-1) / 2)
    return worst.nan_to_num(math.inf).tolist()


def _neighbours(images: list[int]) -> Iterator[slice]:
    """Ascending places as runs of neighbours."""
    first = 0
    for n, image in enumerate(images):
        if n + 1 == len(images) or images[n + 1] != image + 1:
            yield slice(images[first], image + 1)
            first = n + 1


def _joined(plain: Record, parts: list[tuple[slice, Record]]) -> Record:
    loss, maxima, rms = list(plain.loss), list(plain.maxima), list(plain.update_rms)
    terms = {name: list(values) for name, values in plain.terms.items()}
    for images, one in parts:
        loss[images], maxima[images], rms[images] = one.loss, one.maxima, one.update_rms
        for name, values in one.terms.items():
            terms[name][images] = values
    last = max((one for _, one in parts), key=lambda one: one.iteration)
    return replace(
        plain, iteration=last.iteration, loss=loss, terms=terms, maxima=maxima, update_rms=rms, seconds=last.seconds
    )


def _shifted(context: Context) -> Callable[[int, Tensor | None], None]:
    """Progress of a refinement that comes after the look."""
    return lambda done, maps: context.progress(1 + done, maps)

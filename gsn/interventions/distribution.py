"""A distribution of latents that score well, from which the images are drawn (Grimal et al. 2026, SAGA).

    z = c m + s e,  e ~ N(0, I),   c = min(1, std(alpha x0) / std(m))
    m starts at alpha mu(x0), s at the level's spread; x0: the run's clean estimate
    minimise mean_j L(c m + s e_j) over m, and over v = 2 ln s per tile, by SGD; then z_b = c m + s (noise of image b)

One distribution for all images: its samples are spread over the batch, so that B images take ceil(J / B) evaluations
of the whole batch per iteration, and the gradient is the mean over all of them. One for each image: J evaluations per
iteration, each with one sample of every image's distribution.

Deviations. The reference walks a latent of its own to the step; here the clean estimate is that of the run (the first
image's where all share one). Where there is none, at the first step of a run, it is put in place of the estimate as in
the reference; a flow model then has no scale to keep, and c is 1. The dense matrices of the reference are products of
elements. The variance's tiles may overhang the latent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..losses.objective import Objective
from .context import Context, Forward, Gradient, NoiseLevel, per_image
from .intervention import Intervention, Opening, Phase
from .schedule import check_rate

MEANS = ("x0_mean", "x0")


@dataclass(frozen=True)
class Distribution(Intervention):
    """iterations: updates; samples: J, latents drawn for each; lr, momentum: SGD's, in VP scale.
    block: side of the tiles, in latent cells, whose variance is learned; 0 = it stays the noise level's.
    per_channel: each channel has its own variance. shared: one distribution for all images, or one for each.
    start: mu, "x0_mean" = each channel's mean over the picture, "x0" = the estimate itself. rescale: c, else c = 1.
    """

    iterations: int = 50
    samples: int = 10
    lr: float = 20.0
    momentum: float = 0.4
    block: int = 0
    per_channel: bool = False
    shared: bool = True
    start: str = "x0_mean"
    rescale: bool = True

    name = "distribution"
    phase = Phase.DRAW
    draws_noise = True
    loss_is = "lowered"
    loops = True
    usual_sigma = "distribution_sigma"
    most = {"iterations": 1000, "samples": 100, "lr": 1e4, "momentum": 1, "block": 64}

    @property
    def idle(self) -> bool:
        return self.iterations == 0

    @property
    def evaluations(self) -> int:
        """One for each iteration, whatever its samples, and a last look."""
        return self.iterations + 1

    @property
    def gradients(self) -> int:
        """Of one distribution; where all images share it, they share these as well."""
        return self.iterations * self.samples

    def describe(self) -> str:
        whose = "all images together" if self.shared else "each image"
        said = f"distribution for {whose}: {self.iterations} updates of its mean"
        said += f" and of its variance in tiles of {self.block}" if self.block else ""
        return f"{said} by SGD, rate {self.lr:g}, momentum {self.momentum:g}, from {self.samples} samples each"

    def check(self, objective: Objective) -> None:
        for name, least in (("iterations", 0), ("samples", 1), ("block", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; give {least} or more")
        check_rate(self.lr, self.momentum)
        if self.start not in MEANS:
            raise ValueError(f"unknown start '{self.start}'; use one of {', '.join(MEANS)}")

    def warnings(self, opening: Opening) -> list[str]:
        told = []
        if opening.first:
            begins = "the mean begins at zero" if _flows(opening.level) else "the latent itself stands for it"
            told.append(f"a run has no clean estimate before its first step, so {begins}; a later step is better")
        if not opening.noise:
            told.append(
                "this run goes on where another ended and does not know the noise that one began with, so its images"
                " are drawn with other noise of the same seed"
            )
        if sampler := opening.noisy_sampler():
            told.append(
                f"sampler '{sampler}' adds noise of its own at the steps that follow, so pictures drawn from one"
                " distribution differ by that as well; the same seed gives the same pictures"
            )
        return told

    def apply(self, latent: Tensor, forwards: tuple[Forward, ...], context: Context) -> Tensor:
        """One latent drawn for each image with the noise it began with.

        A distribution whose loss or gradient is not finite goes back to where it last was, and stops; without any
        such place its images keep the latents they had.
        """
        context.check()
        first = context.evaluate(latent, forwards, grad=False)
        context.keep(self.name, 0, "before", first.maps)
        context.record(self.name, 0, first, None)
        gaussian = good = self._begin(latent, context)
        noise = self._noise(latent, context)
        velocity = [torch.zeros_like(one) for one in gaussian.learned]
        alive = torch.ones(len(gaussian.mean), dtype=torch.bool, device=latent.device)
        done = torch.zeros(len(alive), dtype=torch.long, device=latent.device)
        for iteration in range(1, self.iterations + 1):
            value, slopes = self._sampled(gaussian, latent, forwards, context)
            context.record(self.name, iteration, value, gaussian.at(noise) - latent)
            context.progress(iteration, value.maps)
            alive = alive & (value.finite.all().reshape(1) if self.shared else value.finite)
            good = gaussian.where(alive, good)
            velocity = [self.momentum * v + slope for v, slope in zip(velocity, slopes, strict=True)]
            moved = [one - self.lr * v for one, v in zip(gaussian.learned, velocity, strict=True)]
            gaussian = gaussian.having(moved).where(alive, good)
            done += alive
            if not bool(alive.any()):
                break
        drawn = torch.where(per_image(done > 0, latent), gaussian.at(noise), latent)
        before = torch.where(per_image(done > 0, latent), good.at(noise), latent)
        context.check()
        last = context.evaluate(drawn, forwards, grad=False)
        finite = last.finite & torch.isfinite(drawn).flatten(1).all(1)
        result = torch.where(per_image(finite, latent), drawn, before)
        context.record(self.name, int(done.max()) + 1, last, result - latent)
        context.keep(self.name, int(done.max()), "after", last.maps)
        context.progress(self.evaluations, last.maps)
        updates = done.expand(len(latent)).tolist()
        whole = (alive.expand(len(latent)) & finite).tolist()
        context.stop(self.name, [_reason(*one) for one in zip(updates, whole, strict=True)], updates)
        return result

    def _begin(self, latent: Tensor, context: Context) -> _Gaussian:
        alpha, spread = context.level.alpha, context.level.spread
        x0 = context.denoised
        if x0 is None:
            x0 = torch.zeros_like(latent) if _flows(context.level) else latent * (1 - spread) / alpha
        x0 = x0[:1] if self.shared else x0
        spatial = tuple(range(2, x0.dim()))
        mean = alpha * (x0.mean(spatial, keepdim=True).expand_as(x0) if self.start == "x0_mean" else x0)
        channels = x0.shape[1] if self.per_channel and self.block else 1
        tiles = [math.ceil(n / self.block) for n in x0.shape[-2:]] if self.block else [1, 1]
        shape = (len(x0), channels, *x0.shape[2:-2], *tiles)
        log_variance = torch.full(shape, 2 * math.log(spread), device=x0.device)
        reference = (alpha * x0).flatten(1).std(1) if self.rescale else torch.zeros(len(x0), device=x0.device)
        return _Gaussian(mean.clone(), log_variance, reference, self.block)

    def _noise(self, latent: Tensor, context: Context) -> Tensor:
        """What the images are drawn with."""
        known = context.initial_noise
        return context.fresh_noise(latent) if known is None else known

    def _sampled(
        self, gaussian: _Gaussian, latent: Tensor, forwards: tuple[Forward, ...], context: Context
    ) -> tuple[Gradient, list[Tensor]]:
        """The objective at this iteration's samples, their mean for each image, and its slope in what is learned."""
        centre, width = gaussian.parts()
        draws = math.ceil(self.samples / len(latent)) if self.shared else self.samples
        push, stretch, values = torch.zeros_like(latent), torch.zeros_like(latent), []
        for _ in range(draws):
            context.check()
            noise = context.fresh_noise(latent)
            value = context.evaluate(centre + width * noise, forwards)
            push += value.gradient / draws
            stretch += value.gradient * noise / draws
            values.append(value)
        if self.shared:
            push, stretch = push.mean(0, keepdim=True), stretch.mean(0, keepdim=True)
        return _mean(values), gaussian.slopes(push, stretch)


@dataclass(frozen=True)
class _Gaussian:
    """D distributions of latents, D = 1 or one for each image.

    mean: [D, C, h, w]. log_variance: [D, C or 1, tiles down, tiles across]. reference: [D], the standard deviation
    above which the mean is scaled down; 0 = never. block: side of a tile; 0 = one for all, which is not learned.
    """

    mean: Tensor
    log_variance: Tensor
    reference: Tensor
    block: int

    @property
    def learned(self) -> list[Tensor]:
        return [self.mean, self.log_variance] if self.block else [self.mean]

    def having(self, learned: list[Tensor]) -> _Gaussian:
        return replace(self, mean=learned[0], log_variance=learned[1] if self.block else self.log_variance)

    def where(self, rows: Tensor, other: _Gaussian) -> _Gaussian:
        """These distributions where rows, [D] bool, else the others."""
        mean = torch.where(per_image(rows, self.mean), self.mean, other.mean)
        log_variance = torch.where(per_image(rows, self.log_variance), self.log_variance, other.log_variance)
        return replace(self, mean=mean, log_variance=log_variance)

    def parts(self) -> tuple[Tensor, Tensor]:
        """c m and s: both broadcast over a batch of latents."""
        variance = self.mean.flatten(1).var(1)
        wide = (variance > self.reference.square()) & (self.reference > 0)
        # the square root of 0 has no derivative, so the others' never meets one
        factor = torch.where(wide, self.reference / torch.where(wide, variance, 1.0).sqrt(), 1.0)
        return per_image(factor, self.mean) * self.mean, torch.exp(self._expanded() / 2)

    def _expanded(self) -> Tensor:
        if not self.block:
            return self.log_variance
        h, w = self.mean.shape[-2:]
        rows = self.log_variance.repeat_interleave(self.block, -2)[..., :h, :]
        return rows.repeat_interleave(self.block, -1)[..., :w]

    def at(self, noise: Tensor) -> Tensor:
        """The latents that this noise, [B, C, h, w], stands for."""
        centre, width = self.parts()
        return centre + width * noise

    def slopes(self, push: Tensor, stretch: Tensor) -> list[Tensor]:
        """Of the objective in what is learned. push, stretch: [D, C, h, w], its slopes in c m and in s."""
        with torch.enable_grad():
            leaves = [one.detach().clone().requires_grad_(True) for one in self.learned]
            centre, width = self.having(leaves).parts()
            return list(torch.autograd.grad((centre * push + width * stretch).sum(), leaves))


def _flows(level: NoiseLevel) -> bool:
    return abs(level.alpha + level.spread - 1) < 1e-3


def _mean(values: list[Gradient]) -> Gradient:
    """Of evaluations of the same images, without the gradient; finite where all are."""
    return Gradient(
        loss=torch.stack([value.loss for value in values]).mean(0),
        terms={name: torch.stack([value.terms[name] for value in values]).mean(0) for name in values[0].terms},
        by_entry=tuple(torch.stack(maps).mean(0) for maps in zip(*(value.by_entry for value in values), strict=True)),
        gradient=torch.zeros_like(values[0].gradient),
        finite=torch.stack([value.finite for value in values]).all(0),
    )


def _reason(updates: int, whole: bool) -> str:
    if whole:
        return "all iterations done"
    return "loss or gradient not finite; " + ("kept the last finite distribution" if updates else "left as it was")

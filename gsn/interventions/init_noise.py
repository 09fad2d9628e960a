"""A better beginning: the noise a run starts from is optimised before the first step (Guo et al. 2024, InitNO).

    noise' = noise exp(lv / 2) + mu,   z' = z + spread (noise' - noise)
    KL = mean(exp(lv) + mu^2 - 1 - lv) / 2

Adam over (lv, mu), per image; after each of its steps, as long as the noise has become unlike a standard normal one
(KL > 0.001), steps on KL with the same Adam. A round that does not come down to the levels is given up and another one
begins with fresh noise; if none did, the best one is run again for longer.

Deviations. The paper shifts z itself, which is the noise to within 0.3 % where a run starts from nothing; shifting the
noise in it leaves the picture of an image-to-image run alone and makes KL mean what it says. The reference repeats
KL steps without end (its users met that): the KL is a mean, so a step brings it down by about one part in
(elements / 20), and large latents take many thousands. After KL_STEPS of them (lv, mu) are shrunk onto the level.
Rounds are compared by the sum of the losses that have a level. The reference adds 1 where self_conflict is at most
1e-6, as if it had not been computed; here that is a round whose subjects are wholly apart, and it counts as the best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..losses.objective import Objective
from .context import Context, Forward, Gradient, Levels, per_image
from .intervention import Intervention, Opening, Phase
from .levels import check_levels, in_words
from .refine import ADAM_EPS
from .schedule import check_rate

KL_LEVEL = 1e-3
KL_STEPS = 1000  # at most, after each step on the loss
_BETAS = (0.9, 0.999)


@dataclass(frozen=True)
class InitNoise(Intervention):
    """rounds: attempts, each of `iterations` updates; last_iterations: those of the best round's second run, 0 = it
    is not run again. lr: Adam's.
    stop: a round succeeds, for an image, once every named loss is at or below its level; () = never.
    """

    rounds: int = 5
    iterations: int = 10
    last_iterations: int = 50
    lr: float = 1e-2
    stop: Levels = ()

    name = "init_noise"
    phase = Phase.BEGIN
    draws_noise = True
    loss_is = "lowered"
    loops = True
    most = {"rounds": 100, "iterations": 1000, "last_iterations": 1000, "lr": 1e4}

    @property
    def idle(self) -> bool:
        return self.rounds == 0 or self.iterations == 0

    @property
    def levels(self) -> Levels:
        return self.stop

    @property
    def evaluations(self) -> int:
        return self.rounds * self.iterations + self.last_iterations + 1

    @property
    def gradients(self) -> int:
        return self.rounds * self.iterations + self.last_iterations

    def describe(self) -> str:
        said = f"initial noise: up to {self.rounds} rounds of {self.iterations} updates by Adam, rate {self.lr:g}"
        said += f"; a round succeeds when {in_words(self.stop, ' is')}" if self.stop else ""
        return said + f"; otherwise {self.last_iterations} updates from the best round's noise"

    def check(self, objective: Objective) -> None:
        for name in ("rounds", "iterations", "last_iterations"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more")
        check_rate(self.lr)
        check_levels(self.stop, objective)

    def check_run(self, objective: Objective, indices: Sequence[int], counts: Sequence[int]) -> None:
        if any(indices):
            raise ValueError(
                f"the initial noise is that of the first step, but it was to be optimised at step {max(indices)}, where"
                " part of it is gone; use step 0, or SingleStepIterRef for a later one"
            )
        check_levels(self.stop, objective, counts)

    def warnings(self, opening: Opening) -> list[str]:
        if opening.noise:
            return []
        return [
            "this run goes on where another ended and adds no noise of its own, so there is none to optimise; nothing"
            " is changed here"
        ]

    def apply(self, latent: Tensor, forwards: tuple[Forward, ...], context: Context) -> Tensor:
        """The latent with better noise, or the same where the run adds none. An image that has succeeded waits,
        unchanged, for the others.

        A loss or gradient that is not finite ends the image's round at its last finite iterate.
        """
        noise = context.initial_noise
        if noise is None:
            return latent
        search = _Search(self, latent, noise, forwards, context)
        best = search.round(1, noise, self.iterations)
        for number in range(2, self.rounds + 1):
            if bool(search.done.all()):
                break
            best = best.or_better(search.round(number, context.fresh_noise(latent), self.iterations))
        if self.last_iterations and not bool(search.done.all()):
            best = replace(search.round(None, best.noise, self.last_iterations), number=best.number)
        return search.finish(best)


@dataclass(frozen=True)
class _Round:
    """What a round came to, per image. p: (lv, mu), [2, B, C, h, w], after the last update; good: at the last
    evaluation that was finite, whose loss is `score` (inf where there was none)."""

    number: Tensor  # [B] integers
    noise: Tensor
    p: Tensor
    good: Tensor
    score: Tensor  # [B]
    broken: Tensor  # [B] bool: it ended because loss or gradient was not finite
    updates: Tensor  # [B] integers

    def or_better(self, other: _Round) -> _Round:
        """Of each image the round of the lower score."""
        better = other.score < self.score
        fields = {name: torch.where(better, getattr(other, name), getattr(self, name))
                  for name in ("number", "score", "broken", "updates")}  # fmt: skip
        shaped = per_image(better, self.noise)
        fields |= {name: torch.where(shaped, getattr(other, name), getattr(self, name))
                   for name in ("noise", "p", "good")}  # fmt: skip
        return _Round(**fields)


class _Search:
    """The rounds of one batch. `result` holds the latents of the images that are done."""

    def __init__(
        self, settings: InitNoise, latent: Tensor, noise: Tensor, forwards: tuple[Forward, ...], context: Context
    ):
        self.settings, self.latent, self.forwards, self.context = settings, latent.detach(), forwards, context
        self.noise = noise
        self.result = self.latent.clone()
        self.done = torch.zeros(len(latent), dtype=torch.bool, device=latent.device)
        self.reasons = [""] * len(latent)
        self.updates = [0] * len(latent)
        self.seen = 0  # evaluations so far

    def round(self, number: int | None, noise: Tensor, iterations: int) -> _Round:
        """Optimise this noise; images that succeed are done. number: None for the best round's second run."""
        settings, context = self.settings, self.context
        p = good = torch.stack([torch.zeros_like(self.latent)] * 2)
        adam = _Adam(p, settings.lr)
        running = ~self.done
        score = torch.full((len(running),), math.inf, device=p.device)
        broken = torch.zeros_like(running)
        updates = torch.zeros(len(running), dtype=torch.long, device=p.device)
        for _ in range(iterations):
            context.check()
            z = torch.where(per_image(self.done, self.latent), self.result, self._moved(noise, p))
            value = context.evaluate(z, self.forwards, moving=running)
            self._show(value, z)
            finite = running & value.finite
            broken = broken | (running & ~finite)
            good = torch.where(per_image(finite, z), p, good)
            score = torch.where(finite, self._score(value), score)
            met = finite & value.at_or_below(settings.stop) if settings.stop else torch.zeros_like(finite)
            self._accept(met, z, number, updates)
            running = finite & ~met
            p = torch.where(per_image(running, z), p, good)
            if not bool(running.any()):
                break
            p = adam.step(p, self._slope(value.gradient, noise, p), running)
            p = _near_standard(p, adam, running)
            updates = updates + running
        return _Round(torch.full_like(updates, number or 0), noise, p, good, score, broken, updates)

    def finish(self, best: _Round) -> Tensor:
        """The latents; an image that never succeeded takes its best round's."""
        settings, context = self.settings, self.context
        usable = torch.isfinite(best.score) | self.done
        best_latents = torch.where(per_image(usable, best.noise), self._moved(best.noise, best.p), self.latent)
        self.result = torch.where(per_image(self.done, best.noise), self.result, best_latents)
        context.check()
        for forward in self.forwards:  # noise that was given up is no part of the run that losses look back on
            forward.history.forget()
        last = context.evaluate(self.result, self.forwards, grad=False)
        finite = last.finite & torch.isfinite(self.result).flatten(1).all(1)
        before = torch.where(per_image(usable, best.noise), self._moved(best.noise, best.good), self.latent)
        self.result = torch.where(per_image(finite | self.done, before), self.result, before)
        for i in (~self.done).nonzero().flatten().tolist():
            self.updates[i] = int(best.updates[i])
            self.reasons[i] = self._unsuccessful(best, i, bool(usable[i]), bool(finite[i]))
        context.record(settings.name, self.seen, last, self.result - self.latent)
        context.keep(settings.name, self.seen, "after", last.maps)
        context.progress(settings.evaluations, last.maps)
        context.stop(settings.name, self.reasons, self.updates)
        return self.result

    def _unsuccessful(self, best: _Round, i: int, usable: bool, finite: bool) -> str:
        """Why an image that never came down to the levels has the latent it has."""
        if not usable:
            return "loss or gradient not finite; left as it was"
        missed = f"no round came down to {in_words(self.settings.stop)}; " if self.settings.stop else ""
        again = ", run again" if self.settings.last_iterations else ""
        broken = "; kept its last finite latent" if bool(best.broken[i]) or not finite else ""
        return f"{missed}took the best, round {int(best.number[i])}{again}{broken}"

    def _moved(self, noise: Tensor, p: Tensor) -> Tensor:
        """The latent with this noise, shifted by p: at p = 0 and the run's own noise it is the latent, bit for bit."""
        lv, mu = p
        return self.latent + self._spread * (noise - self.noise + noise * torch.expm1(lv / 2) + mu)

    @property
    def _spread(self) -> float:
        return self.context.level.spread

    def _slope(self, gradient: Tensor, noise: Tensor, p: Tensor) -> Tensor:
        """dL/dp from dL/dz."""
        return self._spread * torch.stack([gradient * noise * torch.exp(p[0] / 2) / 2, gradient])

    def _score(self, value: Gradient) -> Tensor:
        watched = [value.watched(name) for name, _ in self.settings.stop]
        return torch.stack(watched).sum(0) if watched else value.loss

    def _accept(self, met: Tensor, z: Tensor, number: int | None, updates: Tensor) -> None:
        self.result = torch.where(per_image(met, z), z, self.result)
        self.done = self.done | met
        where = f"round {number}" if number is not None else "second run of the best round"
        for i in met.nonzero().flatten().tolist():
            self.reasons[i] = f"{in_words(self.settings.stop)}, {where}"
            self.updates[i] = int(updates[i])

    def _show(self, value: Gradient, z: Tensor) -> None:
        if self.seen == 0:
            self.context.keep(self.settings.name, 0, "before", value.maps)
        self.context.record(self.settings.name, self.seen, value, z - self.latent)
        self.seen += 1
        self.context.progress(self.seen, value.maps)


class _Adam:
    """Adam over p, [2, B, ...], that counts the steps of each image, since KL steps are not the same for all."""

    def __init__(self, p: Tensor, lr: float):
        self.lr = lr
        self.mean, self.square = torch.zeros_like(p), torch.zeros_like(p)
        self.count = torch.zeros(p.shape[1], device=p.device)

    def step(self, p: Tensor, gradient: Tensor, rows: Tensor) -> Tensor:
        """p after a step of the images `rows`, [B] bool; nothing of the others changes."""
        keep = per_image(rows, p[0])
        self.count = self.count + rows
        a, b = _BETAS
        self.mean = torch.where(keep, a * self.mean + (1 - a) * gradient, self.mean)
        self.square = torch.where(keep, b * self.square + (1 - b) * gradient.square(), self.square)
        # 1 - beta^count; an image that has had no step divides by zero here, and is left out below
        first, second = (per_image(-torch.expm1(self.count * math.log(beta)), p[0]) for beta in _BETAS)
        change = self.lr / first * self.mean / ((self.square / second).sqrt() + ADAM_EPS)
        return torch.where(keep, p - change, p)


def divergence(p: Tensor) -> Tensor:
    """[B] mean over elements of KL(N(mu, exp(lv)) || N(0, 1))."""
    lv, mu = p
    return (torch.expm1(lv) - lv + mu.square()).flatten(1).mean(1) / 2


def _near_standard(p: Tensor, adam: _Adam, rows: Tensor) -> Tensor:
    """p with the divergence of the images `rows` at or below KL_LEVEL."""
    for _ in range(KL_STEPS):
        over = rows & (divergence(p) > KL_LEVEL)
        if not bool(over.any()):
            return p
        slope = torch.stack([torch.expm1(p[0]) / 2, p[1]]) / p[0, 0].numel()
        p = adam.step(p, slope, over)
    while bool((over := rows & (divergence(p) > KL_LEVEL)).any()):
        shrink = torch.where(over, 0.99 * (KL_LEVEL / divergence(p)).sqrt(), 1.0)
        p = p * per_image(shrink, p[0])
    return p

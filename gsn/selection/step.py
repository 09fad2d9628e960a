"""Which step to refine at, from success counts on validation prompts (Grimal et al. 2025, section 4.1).

Every set's rates are brought to 0..1 over the candidates (min-max), the sets are added, the largest sum wins. A set in
which nothing differs (0/0) counts zero.

Deviation: flat sets count less. Min-max gives a whole point to whatever range a set has, so the paper's three coloured
subjects without guidance, 1 image of 160 at two late steps and none elsewhere, outvote the three sets that carry
information: by its own table the sum is largest at t = 661, not at the published 821. So a set's weight is

    (R - 1) / s, within 0..1;  R: its range over the candidates, in images;  s = sqrt(n p (1 - p)), p: its mean rate.

Counts move by whole images, and one image more or less is what one lucky seed makes: it is taken off the range. What
is left is held against s, the noise of a single count. Candidates of equal worth scatter over several s (3.2 for
eleven of them), so a set below one s is flatter than chance itself would leave it, and its order is an accident. A
stricter measure would be the range that chance alone gives; it is told as a warning, but not used as a weight: small
studies, the paper's own for SD 3 among them, rarely exceed it in any set, and would decide nothing. With these weights
the published choices follow from the published tables of all four sets: t = 821, 941, and 974.1 for SD 3.

How sure the choice is, is said by a parametric bootstrap: every count drawn anew from its binomial, at the rate
(x + 1/2) / (n + 1) so that a count of zero is not taken for certain, scaled and added anew with the weights as found.
Images are taken as independent. Those of one prompt are not, which makes the choice less certain than said; those of
different candidates share prompts and seeds, which makes it more so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..methods.steps import Schedule, Step
from ..metrics.stats import wilson

_SEED = 0
_RESAMPLES = 10_000
_LIKELY = 0.05  # share of resamples from which on another candidate is named beside the winner


@dataclass(frozen=True)
class Cell:
    """Of n images of one set (group), refined at this step, so many were right."""

    step: Step
    group: str
    successes: int
    n: int


@dataclass(frozen=True)
class Place:
    """A candidate in the units that are known of it; percent in 0..100."""

    step: Step  # as it was given
    index: int | None = None
    percent: float | None = None
    sigma: float | None = None

    def __str__(self) -> str:
        said = [] if self.sigma is None else [f"sigma {self.sigma:.4g}"]
        said += [] if self.percent is None else [f"{self.percent:.3g} % of the schedule"]
        said += [] if self.index is None else [f"step {self.index}"]
        return f"{said[0]} ({', '.join(said[1:])})" if len(said) > 1 else said[0]

    @property
    def best_step(self) -> Step:
        """The noise level where it is known: it means the same under every scheduler."""
        return self.step if self.sigma is None else Step(round(self.sigma, 6), "sigma")


@dataclass(frozen=True)
class SetScores:
    """One validation set. counts, sizes, rates, intervals, scaled: one entry per candidate.

    weight: its share in the sum; spread: its range in images; noise: of one count, in images; chance: the range that
    candidates of equal worth would show on average, in images.
    """

    name: str
    counts: tuple[int, ...]
    sizes: tuple[int, ...]
    rates: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    scaled: tuple[float, ...]
    weight: float
    spread: float
    noise: float
    chance: float


@dataclass(frozen=True)
class Selection:
    """The candidates in the run's order, their sums with 95 % intervals, and the chosen one.

    margin: the winner's lead over the next; wins: how often each candidate is the best among the resamples.
    """

    places: tuple[Place, ...]
    sets: tuple[SetScores, ...]
    totals: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    best: int
    margin: float
    margin_interval: tuple[float, float]
    wins: tuple[float, ...]
    warnings: tuple[str, ...] = ()

    @property
    def chosen(self) -> Place:
        return self.places[self.best]


def place(step: Step, schedule: Schedule | None = None) -> Place:
    """The step in all units of a run; without a run in its own. Raises StepError as `Schedule.find`."""
    step.check()
    if schedule is None:
        known = {unit: step.value if step.unit == unit else None for unit in ("percent", "sigma")}
        return Place(step, int(step.value) if step.unit == "index" else None, **known)
    index = schedule.find(step, 0.0)
    sigma = step.value
    if step.unit == "index":
        sigma = schedule.sigmas[int(step.value)]
    elif step.unit == "percent":
        sigma = schedule.percent_to_sigma(step.value / 100)
    return Place(step, index, step.value if step.unit == "percent" else 100 * schedule.percent(sigma), sigma)


def select(
    cells: Iterable[Cell],
    schedule: Schedule | None = None,
    shrink: bool = True,
    warnings: Sequence[str] = (),
) -> Selection:
    """The best candidate. shrink: flat sets count less; False is the paper's rule as it stands.

    Among equal sums the larger mean rate wins, then the earlier step. warnings: what is to be said beside its own.
    Raises ValueError where there is nothing to choose from or a set lacks a candidate.
    """
    found = list(cells)
    steps = _in_order(list(dict.fromkeys(cell.step for cell in found)), schedule)
    names = list(dict.fromkeys(cell.group for cell in found))
    counts, sizes = _table(found, [one.step for one in steps], names)
    weights, spread, noise = _weights(counts, sizes)
    weights = weights if shrink else np.ones_like(weights)
    rates, scaled = counts / sizes, _scaled(counts / sizes)
    totals = (scaled * weights).sum(1)
    order = sorted(range(len(steps)), key=lambda c: (-round(float(totals[c]), 9), -round(float(rates[c].mean()), 9), c))
    best = order[0]
    drawn = np.random.default_rng(_SEED).binomial(
        sizes.astype(int), (counts + 0.5) / (sizes + 1), (_RESAMPLES, *counts.shape)
    )
    again = (_scaled(drawn / sizes) * weights).sum(-1)
    leads = again[:, best] - np.delete(again, best, 1).max(1)
    top = again >= again.max(1, keepdims=True) - 1e-9
    sets = tuple(
        SetScores(
            name, tuple(int(x) for x in counts[:, s]), tuple(int(x) for x in sizes[:, s]), _floats(rates[:, s]),
            tuple(wilson(int(x), int(n)) for x, n in zip(counts[:, s], sizes[:, s], strict=True)),
            _floats(scaled[:, s]), float(weights[s]), float(spread[s]), float(noise[s]),
            chance_range(_usual(sizes[:, s]), float(counts[:, s].sum() / sizes[:, s].sum()), len(steps)),
        )
        for s, name in enumerate(names)
    )  # fmt: skip
    chosen = Selection(
        tuple(steps), sets, _floats(totals), tuple(_interval(again[:, c]) for c in range(len(steps))), best,
        float(totals[best] - totals[order[1]]), _interval(leads), _floats((top / top.sum(1, keepdims=True)).mean(0)),
    )  # fmt: skip
    return replace(chosen, warnings=(*warnings, *_warned(chosen, shrink)))


def chance_range(n: int, rate: float, candidates: int) -> float:
    """The mean range, in images, of so many independent counts Binomial(n, rate): what chance alone gives."""
    from scipy.stats import binom  # slow to import

    below = binom.cdf(np.arange(n), n, rate)  # P(X <= k)
    largest = (1 - below**candidates).sum()  # a mean is the sum of P(X > k)
    smallest = ((1 - below) ** candidates).sum()
    return float(largest - smallest)


def report(selection: Selection) -> str:
    """The choice, its table and its warnings, for a person."""
    chosen, many = selection.chosen, len(selection.sets) > 1
    lines = [f"refine at {chosen}", _certainty(selection), ""]
    names = [str(one) for one in selection.places]
    width = max(len(name) for name in names)
    heads = [*(one.name for one in selection.sets), "sum", "best in"]
    columns = [[f"{100 * r:.1f} %" for r in one.rates] for one in selection.sets]
    columns.append([f"{total:.3f}" for total in selection.totals])
    columns.append([f"{100 * share:.0f} %" for share in selection.wins])
    widths = [max(len(head), *map(len, column)) for head, column in zip(heads, columns, strict=True)]
    lines.append("  ".join([" " * width, *(h.rjust(w) for h, w in zip(heads, widths, strict=True))]))
    for c, name in enumerate(names):
        row = [column[c].rjust(w) for column, w in zip(columns, widths, strict=True)]
        lines.append("  ".join([name.ljust(width), *row]) + ("  <" if c == selection.best else ""))
    if many:
        counted = ", ".join(f"{one.name} {one.weight:.2f}" for one in selection.sets)
        lines += ["", f"each set counts: {counted}"]
    lines += [""] * bool(selection.warnings) + [f"! {said}" for said in selection.warnings]
    return "\n".join(lines)


def _certainty(selection: Selection) -> str:
    low, high = selection.margin_interval
    return (
        f"it leads the next by {selection.margin:.3f} points, 95 % interval {low:.2f} to {high:.2f}; best in"
        f" {100 * selection.wins[selection.best]:.0f} % of {_RESAMPLES} resamples"
    )


def _in_order(steps: list[Step], schedule: Schedule | None) -> list[Place]:
    """The candidates, the noisiest first."""
    if len(steps) < 2:
        only = f"only one ({steps[0]})" if steps else "none"
        raise ValueError(f"a step is chosen among several candidates, but the scores have {only}; score two or more")
    if any(step.unit == "auto" for step in steps):
        raise ValueError("a candidate's step is 'auto', which names no step; write an index, 50% or sigma 5.6")
    units = sorted({step.unit for step in steps})
    if schedule is None and len(units) > 1:
        raise ValueError(
            f"the candidates are given as {' and '.join(units)}, which cannot be put in order without the run's"
            " schedule; connect the model, or give all in one unit"
        )
    places = [place(step, schedule) for step in steps]
    if places[0].sigma is not None:
        return sorted(places, key=lambda one: -(one.sigma or 0.0))
    return sorted(places, key=lambda one: one.step.value)


def _table(cells: list[Cell], steps: list[Step], names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Successes and images, [candidates, sets]; cells of the same place add up."""
    counts, sizes = np.zeros((2, len(steps), len(names)))
    for cell in cells:
        if not 0 <= cell.successes <= cell.n or cell.n == 0:
            raise ValueError(f"set '{cell.group}' at {cell.step}: {cell.successes} successes of {cell.n} images")
        at = steps.index(cell.step), names.index(cell.group)
        counts[at] += cell.successes
        sizes[at] += cell.n
    for c, s in np.argwhere(sizes == 0):
        raise ValueError(
            f"set '{names[s]}' has no score at {steps[c]}; score every candidate on every set, or leave one out"
        )
    return counts, sizes


def _scaled(rates: np.ndarray) -> np.ndarray:
    """Rates [..., candidates, sets] as 0..1 over the candidates; zeros where all are equal."""
    spread = np.ptp(rates, axis=-2, keepdims=True)
    return (rates - rates.min(-2, keepdims=True)) / np.where(spread > 0, spread, 1.0)


def _weights(counts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per set of counts [candidates, sets]: weight, range in images, noise of one count in images."""
    usual = _harmonic(sizes)
    spread = np.ptp(counts / sizes, axis=0) * usual
    pooled = counts.sum(0) / sizes.sum(0)
    noise = np.sqrt(usual * pooled * (1 - pooled))
    return np.clip((spread - 1) / np.maximum(noise, 1e-9), 0, 1), spread, noise


def _harmonic(sizes: np.ndarray) -> np.ndarray:
    """The size that stands for unequal ones where variances, which go by 1 / n, are averaged."""
    return len(sizes) / (1 / sizes).sum(0)


def _usual(sizes: np.ndarray) -> int:
    return round(float(_harmonic(sizes)))


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _warned(selection: Selection, shrink: bool) -> list[str]:
    places, best, said = selection.places, selection.best, []
    for one in selection.sets:
        size = _usual(np.array(one.sizes, float))
        if one.spread == 0:
            said.append(f"set '{one.name}': every candidate has the same score; it counts nothing")
        elif one.weight < 1 and shrink:
            said.append(
                f"set '{one.name}': best and worst differ by {one.spread:.3g} of {size} images, the noise of one count"
                f" is {one.noise:.2g}; it counts {100 * one.weight:.0f} %"
            )
        elif one.spread <= one.chance:
            said.append(
                f"set '{one.name}': best and worst differ by {one.spread:.3g} of {size} images; chance alone gives"
                f" {one.chance:.2g} among {len(places)} equal candidates"
            )
    tied = [c for c, total in enumerate(selection.totals) if c != best and selection.totals[best] - total < 1e-9]
    if all(one.weight == 0 or one.spread == 0 for one in selection.sets):
        said.append("no set tells the candidates apart: the choice goes by the mean rate alone, and means nothing")
    elif tied:
        said.append(f"the same sum: {', '.join(str(places[c]) for c in tied)}; the mean rate, then the earlier decided")
    if selection.margin_interval[0] <= 0:
        near = sorted((c for c in range(len(places)) if c != best and selection.wins[c] >= _LIKELY),
                      key=lambda c: -selection.wins[c])  # fmt: skip
        also = ", ".join(f"{places[c]} in {100 * selection.wins[c]:.0f} %" for c in near)
        also = f"; best in other resamples: {also}" if near else ""
        said.append(f"the winner is not certain{also}. More prompts or seeds would tell")
    if best == len(places) - 1:
        said.append("the last candidate won: a later step may be better still; score some")
    if best == 0 and places[0].index != 0 and (places[0].percent or 1) > 0:
        said.append("the first candidate won: an earlier step may be better still; score some")
    return said

"""Intervals and tests for success rates. Standard library and numpy; also loaded by its path from scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

_AT_ONCE = 1 << 22  # drawn values held in memory at a time


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a rate `successes / n` (Wilson, JASA 22, 1927): (low, high) in 0..1.

    Unlike the normal approximation it stays in 0..1 and has a width at 0 and at n successes. The trials are
    taken as independent. n = 0 gives (0, 1): nothing is known.
    """
    _check_confidence(confidence)
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials: there can be no fewer than 0 and no more than all")
    if n == 0:
        return 0.0, 1.0
    z, p = NormalDist().inv_cdf((1 + confidence) / 2), successes / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends the bound is exactly 0 or 1; rounding would leave it some 1e-17 off.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return low, high


def bootstrap_mean(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """(mean, low, high): the percentile bootstrap of a mean (Efron, Ann. Stat. 7, 1979).

    One value per unit that was sampled: give the means over the prompts, since images of one prompt are not
    independent. The same values and seed give the same interval. One value gives (v, v, v).
    """
    _check_confidence(confidence)
    data = np.asarray(values, np.float64)
    if data.ndim != 1 or data.size == 0:
        raise ValueError(f"a mean needs a list of at least one value, got shape {data.shape}")
    if not np.isfinite(data).all():
        raise ValueError("a mean needs finite values; leave out or repair the rows without a score")
    rng = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // data.size)
    means = [
        data[rng.integers(0, data.size, (min(rows, resamples - first), data.size))].mean(1)
        for first in range(0, resamples, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(data.mean()), float(low), float(high)


def sign_test(won: int, lost: int) -> float:
    """The exact two-sided p of so uneven a split of `won + lost` pairs if either side were as likely (ties left out).

    On paired successes this is McNemar's exact test. No pair gives 1.
    """
    if won < 0 or lost < 0:
        raise ValueError(f"{won} won and {lost} lost: counts are at least 0")
    n = won + lost
    tail = sum(math.comb(n, k) for k in range(min(won, lost) + 1)) / 2**n
    return min(1.0, 2 * tail)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence is {confidence}, but must lie between 0 and 1, as 0.95")

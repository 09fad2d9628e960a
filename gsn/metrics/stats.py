"""Intervals and tests for success rates: scipy's, for what can be counted here. Also loaded by its path from scripts.

scipy.stats takes half a second to import, so it is imported where it is used: loading the pack does not pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_AT_ONCE = 1 << 22  # drawn values held in memory at a time


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a rate `successes / n` (Wilson, JASA 22, 1927): (low, high) in 0..1.

    Unlike the normal approximation it stays in 0..1 and has a width at 0 and at n successes. The trials are
    taken as independent. n = 0 gives (0, 1): nothing is known.
    """
    from scipy.stats import binomtest

    _check_confidence(confidence)
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials: there can be no fewer than 0 and no more than all")
    if n == 0:
        return 0.0, 1.0
    found = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def bootstrap_mean(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """(mean, low, high): the percentile bootstrap of a mean (Efron, Ann. Stat. 7, 1979).

    One value per unit that was sampled: give the means over the prompts, since images of one prompt are not
    independent. The same values and seed give the same interval. One value gives (v, v, v).
    """
    from scipy.stats import bootstrap

    _check_confidence(confidence)
    data = np.asarray(values, np.float64)
    if data.ndim != 1 or data.size == 0:
        raise ValueError(f"a mean needs a list of at least one value, got shape {data.shape}")
    if not np.isfinite(data).all():
        raise ValueError("a mean needs finite values; leave out or repair the rows without a score")
    mean = float(data.mean())
    if data.size == 1:
        return mean, mean, mean
    # `random_state` is `rng` since scipy 1.15, which still takes both; many a ComfyUI has an older one.
    found = bootstrap(
        (data,), np.mean, n_resamples=resamples, batch=max(1, _AT_ONCE // data.size), confidence_level=confidence,
        method="percentile", random_state=np.random.default_rng(seed),  # pyright: ignore[reportCallIssue]
    ).confidence_interval  # fmt: skip
    return mean, float(found.low), float(found.high)


def sign_test(won: int, lost: int) -> float:
    """The exact two-sided p of so uneven a split of `won + lost` pairs if either side were as likely (ties left out).

    On paired successes this is McNemar's exact test. No pair gives 1.
    """
    from scipy.stats import binomtest

    if won < 0 or lost < 0:
        raise ValueError(f"{won} won and {lost} lost: counts are at least 0")
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence is {confidence}, but must lie between 0 and 1, as 0.95")

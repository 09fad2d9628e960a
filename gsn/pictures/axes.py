"""The ends of a value axis, and the round numbers on it."""

from __future__ import annotations

import numpy as np


def value_range(values: np.ndarray) -> tuple[float, float]:
    """Ends of a value axis with some air; never of zero length."""
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    air = max(0.06 * (high - low), 0.05 * max(abs(high), 1e-3))
    return low - air, high + air


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between the ends, about `most` of them at most."""
    rough = (high - low) / most
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough)
    return [float(n * step) for n in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]

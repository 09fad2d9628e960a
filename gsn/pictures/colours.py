"""The colours of every picture: the canvas and its lines, right and wrong, and a heatmap's scale."""

from __future__ import annotations

import numpy as np

PAPER, INK, MUTED, RULE = (250, 250, 248), (28, 30, 34), (112, 116, 124), (222, 223, 222)
TRACK = (238, 238, 236)  # behind a bar
# Okabe and Ito's colours, which stay apart for colour-blind readers.
LINES = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))
YES, NO = (0, 158, 115), (213, 94, 0)

# Nine equidistant colours of matplotlib's "inferno" (CC0): perceptually even, dark = little, bright = much.
_HEAT = np.array(
    [(0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85), (227, 89, 51), (249, 140, 10),
     (249, 201, 50), (252, 255, 164)], np.float32,
) / 255  # fmt: skip


def heat(values: np.ndarray) -> np.ndarray:
    """A heatmap's colours [..., 3] in 0..1 of values [...] in 0..1; values outside are clipped."""
    place = np.clip(np.nan_to_num(values), 0, 1) * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    part = (place - low)[..., None]
    return _HEAT[low] * (1 - part) + _HEAT[low + 1] * part

"""Which of eight colours a thing has, as TIAM decides it: the nearest reference in CIELAB, pixel by pixel.

TIAM (Grimal et al., WACV 2024) takes the pixels of an instance, gives each to the nearest of the reference colours by
Euclidean distance in CIELAB (2 degree observer, D65), and says that the instance has a colour when at least 0.4 of
its pixels went to it. The references are means of Berlin and Kay's best examples. Deviation: none in the decision;
the original cuts the list of fractions after five, which a least fraction of 0.4 makes irrelevant.

The references' quirks are the metric's: pure sRGB blue is nearest to purple, and middle grey to blue.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from .detections import Detection

LEAST = 0.4  # fraction of the pixels from which on a thing has a colour
#: CIELAB coordinates (L, a, b).
REFERENCES: Mapping[str, tuple[float, float, float]] = MappingProxyType({
    "red": (35.56, 57.09, 35.77),
    "yellow": (80.53, 8.57, 64.45),
    "green": (45.87, -55.74, 23.66),
    "blue": (45.87, -6.69, -40.22),
    "purple": (25.31, 35.02, -31.10),
    "pink": (65.95, 43.85, -7.05),
    "black": (0.0, 0.0, 0.0),
    "white": (100.0, 0.0, 0.0),
})  # fmt: skip
# IEC 61966-2-1: linear sRGB to XYZ; D65 by its chromaticity (0.3127, 0.3290).
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.3127 / 0.3290, 1.0, (1 - 0.3127 - 0.3290) / 0.3290])


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB [..., 3] in 0..1 -> CIELAB [..., 3]; values outside are clipped."""
    rgb = np.clip(np.asarray(rgb, np.float64), 0, 1)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _XYZ.T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def fractions(pixels: np.ndarray) -> dict[str, float]:
    """sRGB pixels [N, 3] in 0..1 -> for each reference the fraction of them that is nearest to it; no pixels: all 0."""
    lab = to_lab(pixels).reshape(-1, 3)
    distances = np.stack([np.square(lab - np.array(one)).sum(-1) for one in REFERENCES.values()])
    counts = np.bincount(distances.argmin(0), minlength=len(REFERENCES))
    return dict(zip(REFERENCES, (counts / max(1, len(lab))).tolist(), strict=True))


def pixels_of(image: np.ndarray, found: Detection) -> np.ndarray:
    """The pixels [N, 3] of a picture [H, W, 3] that belong to a detection: its mask's, or else its box's.

    A mask of another size than the picture is stretched over it (nearest). A box has every pixel that it touches.
    """
    height, width = image.shape[:2]
    if found.mask is not None:
        h, w = found.mask.shape
        rows, columns = ((np.arange(n) * m // n) for n, m in ((height, h), (width, w)))
        return image[np.asarray(found.mask, bool)[np.ix_(rows, columns)]]
    x0, y0, x1, y1 = found.box
    return image[_touched(y0, y1, height), _touched(x0, x1, width)].reshape(-1, 3)


def _touched(first: float, last: float, size: int) -> slice:
    slack = 1e-6  # of a pixel: 64 / 640 * 640 may be a little more than 64
    start = min(int(first * size + slack), size - 1)
    return slice(start, max(start + 1, math.ceil(last * size - slack)))


def has_colour(image: np.ndarray, found: Detection, colour: str) -> bool:
    """Whether a detection in a picture [H, W, 3] has a colour of `REFERENCES`.

    Raises:
        ValueError: a colour without reference.
    """
    if colour not in REFERENCES:
        raise ValueError(f"the colour {colour!r} cannot be told; these can: {', '.join(REFERENCES)}")
    return fractions(pixels_of(image, found))[colour] >= LEAST

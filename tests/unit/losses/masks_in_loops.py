"""Otsu's mask and the part of it about the peak, one cell after the other."""

import numpy as np


def cells(image):
    return [(y, x) for y in range(image.shape[0]) for x in range(image.shape[1])]


def slow_otsu(image):
    """Every threshold tried: the first whose classes (at or below it, above it) lie furthest apart."""
    levels = [int(255 * float(image[c])) for c in cells(image)]
    best, threshold = 0.0, 0
    for t in range(256):
        low, high = [v for v in levels if v <= t], [v for v in levels if v > t]
        if low and high:
            spread = sum(low) / len(low) - sum(high) / len(high)
            apart = len(low) * len(high) * spread**2
            if apart > best * (1 + 1e-12):
                best, threshold = apart, max(t, 1)
    return np.array([[image[y, x] >= threshold / 255 for x in range(image.shape[1])] for y in range(image.shape[0])])


def slow_component(image, mask):
    start = max(cells(image), key=lambda c: image[c])
    found, waiting = {start}, [start]
    while waiting:
        y, x = waiting.pop()
        for c in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            if 0 <= c[0] < image.shape[0] and 0 <= c[1] < image.shape[1] and mask[c] and c not in found:
                found.add(c)
                waiting.append(c)
    return np.array([[(y, x) in found for x in range(image.shape[1])] for y in range(image.shape[0])])

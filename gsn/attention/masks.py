"""Where a map is strong, as a mask: Otsu's threshold, and the part that hangs together with the peak.

Otsu 1979: of all levels, the one that parts the values into two classes whose means lie furthest apart. As InitNO
uses it: on whole levels 0 to 255, the level itself counts as strong, and a map of one level is a mask of ones.
Deviation: where the weak class is level 0 alone, InitNO's mask has every cell; here those from level 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_LEVELS = 256
# Which cells of [B, S, h, w] are neighbours: those side by side in one map, and none of another map.
_SIDE_BY_SIDE = np.zeros((3, 3, 3, 3), bool)
_SIDE_BY_SIDE[1, 1, 1, :] = _SIDE_BY_SIDE[1, 1, :, 1] = True


@torch.no_grad()
def otsu_masks(maps: Tensor) -> Tensor:
    """[B, S, h, w] in [0, 1] -> bool of that shape, True where a map is at or above its own threshold."""
    values = maps.flatten(2)
    levels = (values * (_LEVELS - 1)).clamp(0, _LEVELS - 1).long()
    counts = levels.new_zeros(*levels.shape[:2], _LEVELS).scatter_add_(2, levels, torch.ones_like(levels))
    below = counts.cumsum(2)
    sums = (counts * torch.arange(_LEVELS, device=maps.device)).cumsum(2)
    # In whole numbers up to the last division, so that levels which nothing lies between tie exactly: the first wins.
    total, size = sums[..., -1:], values.shape[2]
    apart = (sums * size - below * total).float().square() / (below * (size - below)).clamp(min=1)
    most, level = apart.max(2, keepdim=True)
    level = torch.where(most > 0, level.clamp(min=1), level)
    return (values >= level.to(maps.dtype) / (_LEVELS - 1)).view_as(maps)


@torch.no_grad()
def peak_components(maps: Tensor, masks: Tensor) -> Tensor:
    """The cells of each mask that a way over its cells, side by side, joins to the map's peak: bool [B, S, h, w]."""
    from scipy.ndimage import label  # slow to import, and only InitNO's loss asks

    numbered = np.empty(masks.shape, np.int32)  # by the part that a cell belongs to; 0: none
    label(masks.cpu().numpy(), _SIDE_BY_SIDE, output=numbered)
    parts = torch.from_numpy(numbered).to(masks.device)
    peaks = parts.flatten(2).gather(2, maps.flatten(2).argmax(2, keepdim=True))
    return masks & (parts == peaks[..., None])

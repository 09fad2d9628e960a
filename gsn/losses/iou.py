"""Overlap of subject pairs (Grimal et al. 2025, eq. 6; the form of A-STAR's segregation loss).

    iou(s, r) = sum min(M_s, M_r) / sum (M_s + M_r),   L = mean over unordered pairs

Not a true IoU: identical maps give 0.5. Deviation: the reference has no epsilon and divides 0 by 0 for
maps that are zero everywhere; here such a pair counts 0.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from ..attention.maps import SubjectMaps
from ..text.subjects import Subjects
from .loss import loss

_TINY = 1e-12  # below any map that a softmax leaves, so ordinary values are unchanged


@loss("Grimal et al. 2025", "subjects do not share their place", least_subjects=2, bounds=(0.0, 0.5))
def iou(maps: SubjectMaps, subjects: Subjects) -> Tensor:
    """[B] in [0, 0.5]: mean overlap over pairs of subjects; needs two subjects."""
    return overlaps_of_pairs(maps.maps).mean(1)


def overlaps_of_pairs(maps: Tensor) -> Tensor:
    """[B, S, h, w] -> [B, pairs] in [0, 0.5]."""
    return torch.stack([overlap(s, r) for s, r in combinations(maps.unbind(1), 2)], 1)


def overlap(one: Tensor, other: Tensor) -> Tensor:
    """[..., h, w] and the same -> [...] in [0, 0.5]; 0.5 for equal maps, 0 for maps of zeros."""
    return torch.minimum(one, other).sum((-1, -2)) / (one + other).sum((-1, -2)).clamp(min=_TINY)

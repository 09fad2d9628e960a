"""Retention in boxes: every subject has a strong spot and lies in its box (Grimal et al. 2026, SAGA; released code).

    L = ( mean over s of [ 1 - sum min(M_s, B_s) / sum (M_s + B_s) ] + max_s max(0, 1 - max M_s) ) / 2
    B_s = 1 in the cells from int(x0 (w - 1)) to int(x1 (w - 1)), both included, and the same for y

An overlap is at most 0.5, so the loss is at least 0.25. The factor lambda in front of the released form is the term's
weight.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..maps import SubjectMaps
from ..subjects import Subject, Subjects
from .attend_excite import attend_excite
from .iou import overlap


def box_retention(maps: SubjectMaps, subjects: Subjects) -> Tensor:
    """[B] in [0.25, 1]."""
    h, w = maps.maps.shape[2:]
    boxes = torch.stack([_mask(subject, h, w) for subject in subjects.items]).to(maps.maps)
    outside = (1 - overlap(maps.maps, boxes)).mean(1)
    return (outside + attend_excite(maps, subjects)) / 2


def _mask(subject: Subject, h: int, w: int) -> Tensor:
    """[h, w], 1 in the box."""
    assert subject.box is not None, "boxes_refuse comes first"
    x0, y0, x1, y1 = subject.box
    mask = torch.zeros(h, w)
    mask[int(y0 * (h - 1)) : int(y1 * (h - 1)) + 1, int(x0 * (w - 1)) : int(x1 * (w - 1)) + 1] = 1
    return mask

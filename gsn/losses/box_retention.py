"""Retention in boxes or masks: every subject has a strong spot and lies in its place (Grimal et al. 2026, SAGA; code).

    L = ( mean over s of [ 1 - sum min(M_s, B_s) / sum (M_s + B_s) ] + max_s max(0, 1 - max M_s) ) / 2
    B_s = 1 in the cells from int(x0 (w - 1)) to int(x1 (w - 1)), both included, and the same for y
    or, of a mask, 1 in the cells of which at least half lies in it

An overlap is at most 0.5, so the loss is at least 0.25. The factor lambda in front of the released form is the term's
weight.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention.maps import SubjectMaps
from ..text.subjects import Subject, Subjects
from .attend_excite import attend_excite
from .boxdiff import boxes_refuse
from .iou import overlap
from .loss import loss


def places_refuse(subjects: Subjects, grid: tuple[int, int]) -> None:
    """Raise ValueError for subjects without a mask and without a box, and for masks that hold no cell of `grid`."""
    boxed = tuple(subject for subject in subjects.items if subject.mask is None)
    if boxed:
        boxes_refuse(replace(subjects, items=boxed), grid)
    for subject in subjects.items:
        if subject.mask is not None and not bool(_mask(subject, *grid).any()):
            h, w = grid
            raise ValueError(
                f"loss 'box_retention' cannot use the mask of '{subject.label}': it covers no half of a cell of the"
                f" attention map, which has {w} x {h} cells. Paint a larger one, or read larger maps with"
                " AttentionCapture"
            )


@loss(
    "Grimal et al. 2026",
    "every subject has a strong spot and lies in its mask or box",
    bounds=(0.25, 1.0),
    refuse=places_refuse,
)
def box_retention(maps: SubjectMaps, subjects: Subjects) -> Tensor:
    """[B] in [0.25, 1]."""
    h, w = maps.maps.shape[2:]
    places = torch.stack([_mask(subject, h, w).to(maps.maps) for subject in subjects.items])
    outside = (1 - overlap(maps.maps, places)).mean(1)
    return (outside + attend_excite(maps, subjects)) / 2


def _mask(subject: Subject, h: int, w: int) -> Tensor:
    """[h, w], 1 in the subject's mask, or where it has none in its box."""
    if subject.mask is not None:
        return F.adaptive_avg_pool2d(subject.mask[None, None].float(), (h, w))[0, 0] >= 0.5
    assert subject.box is not None, "places_refuse comes first"
    x0, y0, x1, y1 = subject.box
    mask = torch.zeros(h, w)
    mask[int(y0 * (h - 1)) : int(y1 * (h - 1)) + 1, int(x0 * (w - 1)) : int(x1 * (w - 1)) + 1] = 1
    return mask

"""BoxDiff: every subject inside the box that was drawn for it (Xie et al. 2023, section 3).

    m = 1 in the box's cells;  top(X, n) = mean of the largest floor(0.2 n) values of X, at least one
    inner   = max(0, 1 - top(M m, cells in the box))
    outer   = max(0, top(M (1 - m), cells outside))
    corner  = mean over x of c(x) |max_y M - max_y m|, and the same over y;  c = 1 within one cell of the box's edges
    box_inner = max_s inner,   boxdiff = sum_s (inner + outer + corner x + corner y)

An edge is the first cell of the box, and the first behind it. Deviations: the reference takes the mean of no values
(not a number) for boxes under five cells; here at least one value counts. Halves of a cell are rounded up, there
to the even cell, so that a box as large as a cell always has one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..attention.maps import SubjectMaps
from ..text.subjects import Subject, Subjects
from .loss import loss

_SHARE = 0.2  # P and
_EDGE = 1  # L in the released configuration


def boxes_refuse(subjects: Subjects, grid: tuple[int, int]) -> None:
    """Raise ValueError for subjects without a box, and for boxes that hold nothing of the picture."""
    without = [subject.label for subject in subjects.items if subject.box is None]
    if without:
        raise ValueError(
            f"losses 'box_inner', 'boxdiff' and 'box_retention' need a box for every subject, and"
            f" {', '.join(without)} has none; connect boxes to GSNSubjects (for 'box_retention' masks will do), or"
            " choose another loss"
        )
    for subject in subjects.items:
        x0, y0, x1, y1 = _box(subject)
        if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
            raise ValueError(
                f"the box of '{subject.label}' goes from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}) in fractions of the"
                " picture; it must have a size and lie between 0 and 1"
            )


def cells_refuse(subjects: Subjects, grid: tuple[int, int]) -> None:
    """Raise ValueError as `boxes_refuse` does, and for boxes that hold no cell of maps of `grid`, (h, w), cells."""
    boxes_refuse(subjects, grid)
    for subject in subjects.items:
        _cells(subject, grid)


@loss("Xie et al. 2023", "every subject is strong in its box", bounds=(0.0, 1.0), refuse=cells_refuse)
def box_inner(maps: SubjectMaps, subjects: Subjects) -> Tensor:
    """[B] in [0, 1]: what the subject that its box holds least is short of."""
    per_subject = [_inner(one, *_cells(s, one.shape[1:])) for s, one in _each(maps, subjects)]
    return torch.stack(per_subject, 1).amax(1)


@loss(
    "Xie et al. 2023",
    "every subject fills its box and leaves the rest",
    bounds=(0.0, math.inf),
    refuse=cells_refuse,
)
def boxdiff(maps: SubjectMaps, subjects: Subjects) -> Tensor:
    """[B], 0 or more: all three terms, summed over the subjects."""
    per_subject = []
    for subject, one in _each(maps, subjects):
        columns, rows = _cells(subject, one.shape[1:])
        corner = _edges(one.amax(1), columns) + _edges(one.amax(2), rows)
        per_subject.append(_inner(one, columns, rows) + _outer(one, columns, rows) + corner)
    return torch.stack(per_subject, 1).sum(1)


def _box(subject: Subject) -> tuple[float, float, float, float]:
    assert subject.box is not None, "boxes_refuse comes first"
    return subject.box


def _each(maps: SubjectMaps, subjects: Subjects):
    """(subject, its map [B, h, w])"""
    return zip(subjects.items, maps.maps.unbind(1), strict=True)


def _cells(subject: Subject, grid: Sequence[int]) -> tuple[slice, slice]:
    """The columns and rows of a map of `grid`, (h, w), cells that the subject's box covers.

    Raises ValueError where there are none.
    """
    h, w = grid
    x0, y0, x1, y1 = _box(subject)
    columns = slice(math.floor(x0 * w + 0.5), math.floor(x1 * w + 0.5))
    rows = slice(math.floor(y0 * h + 0.5), math.floor(y1 * h + 0.5))
    if columns.start == columns.stop or rows.start == rows.stop:
        raise ValueError(
            f"losses 'box_inner' and 'boxdiff' cannot use the box of '{subject.label}': it covers no cell of the"
            f" attention map, which has {w} x {h} cells. In GSNSubjects make it at least 1/{w} of the picture wide and"
            f" 1/{h} high, or read larger maps with AttentionCapture"
        )
    return columns, rows


def _inner(one: Tensor, columns: slice, rows: slice) -> Tensor:
    inside = one[:, rows, columns].flatten(1)
    return (1 - _top(inside, inside.shape[1])).clamp(min=0)


def _outer(one: Tensor, columns: slice, rows: slice) -> Tensor:
    outside = torch.ones_like(one)
    outside[:, rows, columns] = 0
    count = one[0].numel() - one[0, rows, columns].numel()
    return _top((one * outside).flatten(1), count).clamp(min=0)


def _top(values: Tensor, count: int) -> Tensor:
    """[B]: the mean of the largest fifth of `count`, among [B, n]."""
    return values.topk(max(1, int(_SHARE * count)), dim=1).values.mean(1)


def _edges(profile: Tensor, cells: slice) -> Tensor:
    """[B]: how far a profile [B, n] is from the box's, near the box's edges."""
    at = torch.arange(profile.shape[1], device=profile.device)
    wanted = ((at >= cells.start) & (at < cells.stop)).to(profile.dtype)
    near = ((at - cells.start).abs() <= _EDGE) | ((at - cells.stop).abs() <= _EDGE)
    return ((profile - wanted).abs() * near).mean(1)

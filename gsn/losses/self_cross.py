"""Self-Cross guidance: no subject's cells attend to where another subject is (Qiu et al. 2025).

    S_s = sum over the cells c of s of M_s(c) F_c / its sum,   F_c = smoothed row of the picture's self-attention at c
    L = mean over ordered pairs s != r of sum min(S_s, M_r / sum M_r)

The cells of s are those at or above Otsu's threshold of M_s, as in the released code. It leaves M_r as it is on maps of
16 x 16 cells and divides by the sum on larger ones; here always, so that the loss means the same on every grid.
Deviation: of a subject's cells only the `cells` strongest are asked for, which bounds the cost; with as many as the
grid has it is exact. The released code adds InitNO's losses to it, or CONFORM's, and drops it for images whose
attend_excite is above 0.5.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor

from ..attention.maps import SubjectMaps, smooth
from ..attention.masks import otsu_masks
from ..text.subjects import Subjects
from .loss import loss

_BLUR = 0.5
_TINY = 1e-12  # a subject whose map is zero attends to nothing


def self_cross_refuses(subjects: Subjects, grid: tuple[int, int], cells: int = 32) -> None:
    """Raise ValueError for a number of cells that asks for nothing."""
    if cells < 1:
        raise ValueError(f"loss 'self_cross' has {cells} cells; give 1 or more")


@loss(
    "Qiu et al. 2025",
    "no subject's cells attend to where another subject is",
    least_subjects=2,
    bounds=(0.0, 1.0),
    needs=frozenset({"self_rows"}),
    refuse=self_cross_refuses,
    explains={"cells": "Of each subject, how many of its strongest cells are asked where they look."},
    most={"cells": 2**16},
)
def self_cross(maps: SubjectMaps, subjects: Subjects, cells: int = 32) -> Tensor:
    """[B] in [0, 1]; needs two subjects. cells: of each subject, the most to be asked."""
    assert maps.attention.self_rows is not None, "it says that it needs them"
    b, s, h, w = maps.maps.shape
    strong = torch.where(otsu_masks(maps.maps), maps.maps, 0.0).flatten(2)
    weights, index = strong.topk(min(cells, h * w), dim=2)  # [B, S, R]
    rows = smooth(maps.attention.self_rows(index.flatten(1)), _BLUR).unflatten(1, (s, -1))
    attended = _share((weights[..., None, None] * rows).sum(2))
    seen = _share(maps.maps)
    pairs = [torch.minimum(attended[:, i], seen[:, j]).sum((1, 2)) for i, j in permutations(range(s), 2)]
    return torch.stack(pairs).mean(0)


def _share(maps: Tensor) -> Tensor:
    return maps / maps.sum((-1, -2), keepdim=True).clamp(min=_TINY)

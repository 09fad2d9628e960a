"""A-STAR: subjects apart, and each where it was a step ago (Agarwal et al. 2023, eq. 2 and 3).

    segregation   L = sum over pairs of sum min(M_s, M_r) / sum (M_s + M_r)
    retention     L = sum over s of 1 - sum min(M_s, B_s) / sum (M_s + B_s),   B_s = binarised M_s of the step before

There is no official code. Known are the two sums, as the paper and those who cite it give them; not known are how B is
binarised and which maps of a step it is made from. Here: by Otsu's threshold, so that it is as large as the subject's
strong part is, whatever the map's scale; and from the last maps that were looked at in the last step before at which
any were. With the paper's own divisor an overlap is at most 0.5, so the retention of n subjects is at least n / 2.
`iou` is the segregation's mean in place of its sum.
"""

from __future__ import annotations

import math

from torch import Tensor

from ..attention.maps import SubjectMaps
from ..attention.masks import otsu_masks
from ..text.subjects import Subjects
from .iou import overlap, overlaps_of_pairs
from .loss import loss


@loss("Agarwal et al. 2023", "iou, as a sum over the pairs", least_subjects=2, bounds=(0.0, math.inf))
def segregation(maps: SubjectMaps, subjects: Subjects) -> Tensor:
    """[B] in [0, pairs / 2]: overlap summed over pairs of subjects; needs two subjects."""
    return overlaps_of_pairs(maps.maps).sum(1)


def retention_least(count: int) -> float:
    """Of `count` subjects, after the first step: an overlap is at most a half."""
    return count / 2


@loss(
    "Agarwal et al. 2023",
    "every subject stays where it was a step ago",
    bounds=(0.0, math.inf),
    least=retention_least,
    looks_back=True,
)
def retention(maps: SubjectMaps, subjects: Subjects) -> Tensor:
    """[B]: 0 at the first step, then in [S / 2, S]: how much each of S subjects has left its place."""
    if maps.earlier.previous is None:
        return maps.maps.new_zeros(maps.maps.shape[0])
    before = otsu_masks(maps.earlier.previous).to(maps.maps.dtype)
    return (1 - overlap(maps.maps, before)).sum(1)

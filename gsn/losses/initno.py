"""InitNO's losses beside the peak's, which is `attend_excite` (Guo et al. 2024; formulas of the released code).

    self_conflict   F_s = smoothed row of the picture's self-attention at the peak of M_s
                    L = mean over pairs of sum min(F_s, F_r) / sum (F_s + F_r)
    clean           mask = the part of M_s above Otsu's threshold that hangs together with its peak
                    L = sum over s of max (M_s outside), where that is more than min (M_s inside)
    alignment       C_s <- 0.9 C_s + 0.1 M_s,   L = sum over s of mean |M_s - C_s|

`clean` is in the code and not in the paper. C takes in the maps that are looked at, without a gradient, before it is
compared with them; at a run's first evaluation it is M itself, and the loss 0. The code adds up attend_excite +
self_conflict + clean on the initial noise, the second only for images whose first is at most 0.5, and attend_excite +
self_conflict + 0.1 clean + 0.1 alignment in its refinements.
Deviations: the code adds 1e-6 to self_conflict's divisor, which is near 2; it looks twice at the latent with which a
refinement begins, where here the one with which it ends is looked at twice, the second time to guide.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..attention.maps import SubjectMaps, smooth
from ..attention.masks import otsu_masks, peak_components
from ..text.subjects import Subjects
from .iou import overlaps_of_pairs
from .loss import loss

_BLUR = 0.5  # of self-attention's rows
_DECAY = 0.9  # of the moving average that interventions.context.History keeps


@loss(
    "Guo et al. 2024",
    "the subjects' strongest cells do not attend to one place",
    least_subjects=2,
    bounds=(0.0, 0.5),
    needs=frozenset({"self_rows"}),
)
def self_conflict(maps: SubjectMaps, subjects: Subjects) -> Tensor:
    """[B] in [0, 0.5]: how far the subjects' strongest cells attend to the same places; needs two subjects.

    Two subjects with their peak in one cell have 0.5, whatever that cell attends to: only another loss parts them.
    """
    assert maps.attention.self_rows is not None, "it says that it needs them"
    rows = maps.attention.self_rows(maps.maps.flatten(2).argmax(2))
    return overlaps_of_pairs(smooth(rows, _BLUR)).mean(1)


@loss("Guo et al. 2024", "every subject has one strong spot, not two", bounds=(0.0, math.inf))
def clean(maps: SubjectMaps, subjects: Subjects) -> Tensor:
    """[B], 0 or more: every subject's strongest spot beside its first; the mask has no gradient."""
    mask = peak_components(maps.maps, otsu_masks(maps.maps))
    outside = torch.where(mask, 0.0, maps.maps).flatten(2).amax(2)
    weakest_inside = torch.where(mask, maps.maps, 1.0).flatten(2).amin(2)
    return torch.where(outside > weakest_inside, outside, 0.0).sum(1)


@loss("Guo et al. 2024", "maps stay near their average over the run so far", bounds=(0.0, math.inf))
def alignment(maps: SubjectMaps, subjects: Subjects) -> Tensor:
    """[B], 0 or more: how far the maps are from their own moving average over the run."""
    if maps.earlier.average is None:
        return maps.maps.new_zeros(maps.maps.shape[0])
    average = _DECAY * maps.earlier.average + (1 - _DECAY) * maps.maps.detach()
    return (maps.maps - average).abs().flatten(2).mean(2).sum(1)

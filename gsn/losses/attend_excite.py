"""Attend-and-Excite: raise the peak of the most neglected subject (Chefer et al. 2023, eq. 1-2).

    l_s = max(0, 1 - max_{y,x} M_s),   L = max_s l_s
"""

from __future__ import annotations

from torch import Tensor

from ..attention.maps import SubjectMaps
from ..text.subjects import Subjects
from .loss import loss


@loss("Chefer et al. 2023", "every subject has a strong spot", bounds=(0.0, 1.0))
def attend_excite(maps: SubjectMaps, subjects: Subjects) -> Tensor:
    """[B] in [0, 1]: the shortfall of the weakest subject's peak."""
    return (1 - maps.maxima()).clamp(min=0).amax(1)

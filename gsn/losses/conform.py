"""CONFORM: a subject's map like those of its words and its own of a step ago, unlike the others' (Meral et al. 2024).

    s(a, b) = cosine of two maps;   N(a) = the maps of other subjects
    l(a, p) = -log [ exp(s(a, p) / T) / ( exp(s(a, p) / T) + sum over n in N(a) of exp(s(a, n) / T) ) ]
    L = mean over all ordered pairs (a, p) of maps of one subject,   T = 0.5

From the paper and its released code: InfoNCE with these pairs, maps of the step before among both positives and
negatives, without a gradient; processed maps (second softmax, blur) of one resolution; T.
Deviations: one map for a subject's words and one for all that describes it, where the paper has a map for each token;
of the step before, the subjects' maps alone. A map without a partner is its own, so that subjects are moved apart
at the first step too; the released code's loss is 0 there unless a subject is described. In a sum with a loss that
reads finer attention, the describing words' maps are the finer ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..attention.maps import SubjectMaps
from ..text.subjects import Subjects
from .loss import loss

_TINY = 1e-12  # a map of zeros is like no other


def conform_least(count: int, temperature: float = 0.5) -> float:
    """Of `count` subjects: each map like its own, and like none of the other subjects', of which there may be more."""
    return math.log1p((count - 1) * math.exp(-1 / temperature)) if temperature > 0 else 0.0


def conform_refuses(subjects: Subjects, grid: tuple[int, int], temperature: float = 0.5) -> None:
    """Raise ValueError for a temperature that means nothing."""
    if not 0 < temperature < float("inf"):
        raise ValueError(f"loss 'conform' has a temperature of {temperature}; give a finite number above 0")


@loss(
    "Meral et al. 2024",
    "a subject looks like itself a step ago and like its describing words, not like other subjects",
    least_subjects=2,
    bounds=(0.0, math.inf),
    refuse=conform_refuses,
    least=conform_least,
    explains={"temperature": "How sharply like and unlike maps are told apart; the paper's is 0.5."},
    most={"temperature": 1000},
)
def conform(maps: SubjectMaps, subjects: Subjects, temperature: float = 0.5) -> Tensor:
    """[B], above 0; needs two subjects."""
    seen, owner = list(maps.maps.unbind(1)), list(range(len(subjects.items)))
    for s, attribute in enumerate(maps.attributes):
        if attribute is not None:
            seen.append(attribute)
            owner.append(s)
    if maps.earlier.previous is not None:
        seen += maps.earlier.previous.unbind(1)
        owner += range(len(subjects.items))
    vectors = torch.stack(seen, 1).flatten(2)
    vectors = vectors / vectors.norm(dim=2, keepdim=True).clamp(min=_TINY)
    similar = vectors @ vectors.transpose(1, 2) / temperature  # [B, n, n]
    owners = torch.tensor(owner, device=similar.device)
    same = owners[:, None] == owners
    alone = same.sum(1) == 1
    positive = same & (alone[:, None] | ~torch.eye(len(owner), dtype=torch.bool, device=similar.device))
    against = similar.masked_fill(same, -torch.inf).logsumexp(2, keepdim=True)
    losses = torch.logaddexp(similar, against) - similar
    return (losses * positive).sum((1, 2)) / positive.sum()

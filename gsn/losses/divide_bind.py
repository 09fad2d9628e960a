"""Divide & Bind: a neglected subject's map gets steeper, its attribute's map follows it (Li et al. 2023, section 3).

    TV(M)    = mean |M[:, x] - M[:, x+1]| + mean |M[y, :] - M[y+1, :]|
    tv       = max_s -TV(M_s)
    tv_bind  = max_s [ -TV(M_s) + coefficient JSD(p, q) ]    the second part for subjects with an attribute
    p = softmax over the picture of M_s,   q = the same of C_s / max C_s * max M_s,   C_s the attribute's map
    p, q <- relu(. - tau max p) + 1e-5,    tau = 0.3 where TV(M_s) < 0.1, else 0.2
    JSD      = sum p ln(p / m) / 2 + sum q ln(q / m) / 2,   m = (p + q) / 2

The released code, which made the published numbers, takes the vertical differences between each row and the last
one. So does `coded`; without it they are between neighbours, as in the paper. p and q are no distributions after
the subtraction, as in the released code. `coefficient` there is 1, then 5, then 10 in a run's steps from 0, 10
and 20.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..attention.maps import SubjectMaps
from ..text.subjects import Subjects
from .loss import loss

_TINY = 1e-12  # an attribute's map that is zero everywhere must not divide by zero
_FLOOR = 1e-5  # the paper's code
_CODED = "Vertical differences as in the released code, which made the paper's numbers; off: between neighbours."


# Both differences of maps in [0, 1] are at most 1 in the mean, so their sum is at most 2.
@loss("Li et al. 2023", "every subject's map has steep edges", bounds=(-2.0, 0.0), explains={"coded": _CODED})
def tv(maps: SubjectMaps, subjects: Subjects, coded: bool = True) -> Tensor:
    """[B] in [-2, 0]: minus the total variation of the flattest subject's map."""
    return (-_variation(maps.maps, coded)).amax(1)


def tv_bind_refuses(subjects: Subjects, grid: tuple[int, int], coded: bool = True, coefficient: float = 1.0) -> None:
    """Raise ValueError where nothing can be bound, and for a coefficient that would tear apart."""
    if not (math.isfinite(coefficient) and coefficient >= 0):
        raise ValueError(f"loss 'tv_bind' has a coefficient of {coefficient}; give a finite number, 0 or more")
    if not any(subject.attributes for subject in subjects.items):
        raise ValueError(
            "loss 'tv_bind' binds describing words to their subjects, and no subject here has one"
            f" ({', '.join(subjects.labels)}); describe one ('a red cat') or choose tv"
        )


@loss(
    "Li et al. 2023",
    "the same, and a subject's describing words lie where it does",
    bounds=(-2.0, math.inf),
    needs=frozenset({"fine"}),
    refuse=tv_bind_refuses,
    binds=True,
    explains={"coded": _CODED, "coefficient": "Weight of the binding; the paper's runs: 1, later 5, then 10."},
    most={"coefficient": 1000},
)
def tv_bind(maps: SubjectMaps, subjects: Subjects, coded: bool = True, coefficient: float = 1.0) -> Tensor:
    """[B], -2 or more; a subject without an attribute's map has its total variation alone."""
    variation = _variation(maps.maps, coded)
    values = []
    for s, attribute in enumerate(maps.attributes):
        value = -variation[:, s]
        if attribute is not None:
            value = value + coefficient * _divergence(maps.maps[:, s], attribute, variation[:, s])
        values.append(value)
    return torch.stack(values, 1).amax(1)


def _variation(maps: Tensor, coded: bool) -> Tensor:
    """Total variation of [B, S, h, w]: [B, S]."""
    beside = maps[..., :, :-1] - maps[..., :, 1:]
    below = (maps[..., -1:, :] if coded else maps[..., :-1, :]) - maps[..., 1:, :]
    return _mean_size(beside) + _mean_size(below)


def _mean_size(differences: Tensor) -> Tensor:
    flat = differences.flatten(2)
    return flat.abs().sum(-1) / max(1, flat.shape[-1])  # a map one cell wide has no differences


def _divergence(subject: Tensor, attribute: Tensor, variation: Tensor) -> Tensor:
    """[B]: how differently [B, h, w] and [B, h, w] lie in the picture."""
    subject, attribute = subject.flatten(1), attribute.flatten(1)
    attribute = attribute / attribute.amax(1, keepdim=True).clamp(min=_TINY) * subject.amax(1, keepdim=True)
    p, q = subject.softmax(1), attribute.softmax(1)
    cut = torch.where(variation < 0.1, 0.3, 0.2)[:, None] * p.amax(1, keepdim=True)
    p, q = (p - cut).relu() + _FLOOR, (q - cut).relu() + _FLOOR
    m = (p + q) / 2
    return (p * (p / m).log() + q * (q / m).log()).sum(1) / 2

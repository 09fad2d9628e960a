"""FOCUS: the words of a subject look at one place, different subjects at different ones (Bill et al. 2025).

    p_k = [blurred attention of token k]^3 / its sum over the picture,   p_s = the same of the mean over s's tokens
    JS(p_1 .. p_n) = mean over i of KL(p_i || mean over j of p_j) / log n            in [0, 1]
    L = ( mean over subjects with several tokens of JS(their p_k)  +  1 - JS(the p_s) ) / 2

From the paper's abstract and page: attention to a token, read as a distribution over the picture; both divergences,
normalised; minimised within a subject, maximised between subjects. From what the released code does: the cube (there
called an empirical fix for the many values near 0), the mean of tokens before it, the half, the 3x3 blur of standard
deviation 1, and one group for the tokens of all text encoders, so that the encoder chosen in the capture settings does
not matter here. This pack's reading: the words that describe a subject belong to its group; no second softmax
over the words, which the paper does not have.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..attention.maps import SubjectMaps, smooth
from ..text.subjects import Subject, Subjects
from .loss import loss

_TINY = 1e-20  # in float32; a cube of the smallest values that count is above it
_BLUR = math.sqrt(0.5)  # a standard deviation of 1, in the convention of `smooth`


@loss(
    "Bill et al. 2025",
    "the words of one subject agree on a place, subjects do not share it",
    least_subjects=2,
    bounds=(0.0, 1.0),
)
def focus(maps: SubjectMaps, subjects: Subjects) -> Tensor:
    """[B] in [0, 1]; needs two subjects."""
    groups = []
    for subject in subjects.items:
        tokens = maps.attention.probabilities[..., _columns(subject, subjects)].movedim(-1, 1)
        groups.append(smooth(tokens, _BLUR))
    separation = _divergence(torch.stack([tokens.mean(1) for tokens in groups], 1))
    spread = [_divergence(tokens) for tokens in groups if tokens.shape[1] > 1]
    coherence = torch.stack(spread).mean(0) if spread else torch.zeros_like(separation)
    return (coherence + 1 - separation) / 2


def _columns(subject: Subject, subjects: Subjects) -> list[int]:
    """The text columns of a subject's tokens and of those of the words that describe it, each once."""
    offsets = {stream.name: stream.offset for stream in subjects.streams}
    words = (subject, *subject.attributes)
    return sorted({offsets[name] + p for word in words for name, found in word.tokens.items() for p in found})


def _divergence(maps: Tensor) -> Tensor:
    """Jensen-Shannon divergence of the n maps in [B, n, h, w], as a share of the largest possible: [B]."""
    flat = maps.flatten(2)
    cubed = (flat / flat.detach().amax(2, keepdim=True).clamp(min=_TINY)) ** 3  # the scale must not underflow
    p = cubed / cubed.sum(2, keepdim=True).clamp(min=_TINY)
    mixed = p.mean(1, keepdim=True)
    divergence = (p * (p.clamp(min=_TINY).log() - mixed.clamp(min=_TINY).log())).sum(2).mean(1)
    return divergence / math.log(maps.shape[1])

"""Attention maps as data. Every shape in the pack is written once, here.

Source: Chefer et al. 2023 (Attend-and-Excite), section 3 and released constants: a contrast stretch
(x100, softmax over the kept text columns), the mean of a subject's token maps, a 3x3 blur.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .subjects import Subjects, TextStream


@dataclass(frozen=True)
class AttentionMaps:
    """Text-to-image attention of one model call, heads and layers averaged.

    probabilities: [B, h, w, T] float32; B images, an h x w grid that the host measured (never derived
    from a token count), T = the conditioning's whole text axis, all streams.
    """

    probabilities: Tensor


@dataclass(frozen=True)
class SubjectMaps:
    """What a loss sees.

    maps: [B, S, h, w] float32 in [0, 1]: one processed map per subject.
    raw: [B, h, w, T] float32, the probabilities they were made from.
    """

    maps: Tensor
    raw: Tensor

    def maxima(self) -> Tensor:
        """[B, S], the largest value of each subject's map."""
        return self.maps.flatten(2).amax(-1)


@dataclass(frozen=True)
class MapProcessing:
    """How subject maps are made from attention.

    columns: "padded" keeps every column but the start tokens and the last one (SD1.x, A&E's 1:-1);
             "words" keeps word pieces only (SD2.x, SD3, T5).
    contrast: factor in front of the second softmax (the papers: 100).
    blur: sigma of the 3x3 smoothing in the reference's own convention; 0 switches it off.
    stream: "average" over the text streams a subject occurs in, or one stream's name.
    """

    columns: str = "padded"
    contrast: float = 100.0
    blur: float = 0.5
    stream: str = "average"


def subject_maps(attention: AttentionMaps, subjects: Subjects, processing: MapProcessing) -> SubjectMaps:
    """Turn attention into one map per subject; the streams' maps of a subject are averaged.

    Raises ValueError when no kept stream holds one of the subjects.
    """
    streams = [s for s in subjects.streams if processing.stream in ("average", s.name)]
    per_subject = []
    stretched = {s.name: _stretched(attention, s, processing) for s in streams}
    for subject in subjects.items:
        maps = []
        for stream in streams:
            columns, values = stretched[stream.name]
            places = [columns.index(p) for p in subject.tokens.get(stream.name, ()) if p in columns]
            if places:
                maps.append(values[..., places].mean(-1))
        if not maps:
            raise ValueError(f"subject '{subject.label}' has no token in stream '{processing.stream}'")
        per_subject.append(torch.stack(maps).mean(0))
    maps = torch.stack(per_subject, 1)
    return SubjectMaps(smooth(maps, processing.blur), attention.probabilities)


def _stretched(attention: AttentionMaps, stream: TextStream, processing: MapProcessing):
    """(kept positions of the stream, their contrast-stretched probabilities [B, h, w, kept])."""
    if processing.columns == "words":
        columns = list(stream.words)
    else:
        columns = [p for p in range(stream.length - 1) if p not in stream.starts]
    index = torch.tensor([stream.offset + p for p in columns], device=attention.probabilities.device)
    kept = attention.probabilities.index_select(-1, index)
    return columns, (processing.contrast * kept).softmax(-1)


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """3x3 blur of [B, S, h, w] with reflected borders (replicated where an edge is one cell wide).

    The reference's kernel divides by (2 sigma) inside the square, so its true standard deviation is
    sigma * sqrt(2); the released constants belong to that convention, which is kept.
    """
    if sigma <= 0:
        return maps
    taps = torch.exp(-((torch.arange(-1, 2, device=maps.device, dtype=maps.dtype) / (2 * sigma)) ** 2))
    taps = taps / taps.sum()
    b, s, h, w = maps.shape
    flat = maps.reshape(b * s, 1, h, w)
    mode = "reflect" if min(h, w) > 1 else "replicate"
    flat = F.pad(flat, (1, 1, 1, 1), mode=mode)
    return F.conv2d(flat, (taps[:, None] * taps)[None, None]).reshape(b, s, h, w)

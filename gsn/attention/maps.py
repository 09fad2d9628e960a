"""Attention maps as data. Every shape in the pack is written once, here.

Source: Chefer et al. 2023 (Attend-and-Excite), section 3 and released constants: a contrast stretch
(x100, softmax over the kept text columns), the mean of a subject's token maps, a 3x3 blur.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..text.subjects import Subject, Subjects, TextStream


@dataclass(frozen=True)
class AttentionMaps:
    """Text-to-image attention of one model call, heads and layers averaged.

    probabilities: [B, h, w, T] float32; B images, an h x w grid that the host measured (never derived
    from a token count), T = the conditioning's whole text axis, all streams.
    fine: the same from the layers that see more of the picture's detail, brought to the same grid; there when
    a loss needs "fine".
    self_rows: cells [B, R] (y w + x, integers) -> [B, R, h, w] float32, what each of these cells attends to in
    the picture, summing to 1; there when a loss needs "self_rows". Only the rows asked for are computed.
    blocks: (part, number) of every block that meets the text -> the same as `probabilities`, of that block alone and
    on its own grid; there when "blocks" are needed.
    """

    probabilities: Tensor
    fine: Tensor | None = None
    self_rows: Callable[[Tensor], Tensor] | None = None
    blocks: Mapping[tuple[str, int], Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Earlier:
    """Subject maps of evaluations before this one, without a graph; None where there were none.

    previous: [B, S, h, w], the last ones of the step before; average: [B, S, h, w], a moving average over every
    evaluation so far.
    """

    previous: Tensor | None = None
    average: Tensor | None = None


@dataclass(frozen=True)
class SubjectMaps:
    """What a loss sees.

    maps: [B, S, h, w] float32 in [0, 1]: one processed map per subject.
    attention: what they were made from.
    attributes: per subject, one processed map [B, h, w] of all its attributes' words together, from `fine` attention
    where a loss needs it, else from what the subjects' maps are made from; None for a subject without attributes.
    """

    maps: Tensor
    attention: AttentionMaps
    attributes: tuple[Tensor | None, ...] = ()
    earlier: Earlier = field(default_factory=Earlier)
    streams: tuple[str, ...] = ()

    def maxima(self) -> Tensor:
        """[B, S], the largest value of each subject's map."""
        return self.maps.flatten(2).amax(-1)


COLUMNS = ("auto", "padded", "words")
MOST_CONTRAST, MOST_BLUR = 10000.0, 10.0  # beyond, a map is one cell, or as good as flat


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


@dataclass(frozen=True)
class MapChoice:
    """What somebody asks of the processing; what is left open, "auto" or None, is the next one's to say."""

    columns: str = "auto"
    contrast: float | None = None
    blur: float | None = None

    def check(self) -> None:
        """Raise ValueError for what makes no map."""
        if self.columns not in COLUMNS:
            raise ValueError(f"columns is '{self.columns}'; use one of {', '.join(COLUMNS)}")
        if self.contrast is not None and not 0 < self.contrast <= MOST_CONTRAST:
            most = f"{MOST_CONTRAST:g} at most"
            raise ValueError(f"contrast is {self.contrast:g}; give more than 0, and {most} (the papers: 100)")
        if self.blur is not None and not 0 <= self.blur <= MOST_BLUR:
            raise ValueError(f"blur is {self.blur:g}; give 0 (none) to {MOST_BLUR:g} (the papers: 0.5)")

    def before(self, other: MapChoice) -> MapChoice:
        """Both, of which this one counts where it says something."""
        return MapChoice(
            other.columns if self.columns == "auto" else self.columns,
            other.contrast if self.contrast is None else self.contrast,
            other.blur if self.blur is None else self.blur,
        )

    def given(self) -> dict[str, object]:
        """What is said, by its name."""
        said = {"columns": self.columns, "contrast": self.contrast, "blur": self.blur}
        return {name: value for name, value in said.items() if value not in ("auto", None)}


def subject_maps(
    attention: AttentionMaps, subjects: Subjects, processing: MapProcessing, earlier: Earlier | None = None
) -> SubjectMaps:
    """Turn attention into one map per subject; the streams' maps of a subject are averaged.

    Raises ValueError when no kept stream holds one of the subjects.
    """
    stretched = _stretched_streams(attention.probabilities, subjects, processing)
    per_subject = []
    for subject in subjects.items:
        found = _map_of(subject, stretched)
        if found is None:
            raise ValueError(f"subject '{subject.label}' has no token in stream '{processing.stream}'")
        per_subject.append(found)
    maps = smooth(torch.stack(per_subject, 1), processing.blur)
    if attention.fine is not None:
        stretched = _stretched_streams(attention.fine, subjects, processing)
    attributes = _attribute_maps(stretched, subjects, processing)
    return SubjectMaps(maps, attention, attributes, earlier or Earlier(), tuple(stretched))


def _attribute_maps(stretched: dict, subjects: Subjects, processing: MapProcessing) -> tuple[Tensor | None, ...]:
    result: list[Tensor | None] = []
    for subject in subjects.items:
        found = [one for one in (_map_of(a, stretched) for a in subject.attributes) if one is not None]
        result.append(smooth(torch.stack(found).mean(0)[:, None], processing.blur)[:, 0] if found else None)
    return tuple(result)


def _stretched_streams(probabilities: Tensor, subjects: Subjects, processing: MapProcessing) -> dict:
    streams = [s for s in subjects.streams if processing.stream in ("average", s.name)]
    return {s.name: _stretched(probabilities, s, processing) for s in streams}


def _map_of(subject: Subject, stretched: dict) -> Tensor | None:
    """[B, h, w]: the mean over a subject's words in each stream, then over the streams; None without words."""
    maps = []
    for name, (columns, values) in stretched.items():
        places = [columns.index(p) for p in subject.tokens.get(name, ()) if p in columns]
        if places:
            maps.append(values[..., places].mean(-1))
    return torch.stack(maps).mean(0) if maps else None


def _stretched(probabilities: Tensor, stream: TextStream, processing: MapProcessing):
    """(kept positions of the stream, their contrast-stretched probabilities [B, h, w, kept])."""
    if processing.columns == "words":
        columns = list(stream.words)
    else:
        columns = [p for p in range(stream.length - 1) if p not in stream.starts]
    index = torch.tensor([stream.offset + p for p in columns], device=probabilities.device)
    kept = probabilities.index_select(-1, index)
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

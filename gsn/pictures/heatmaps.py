"""Where the model looked for each subject, over the picture: IMAGE [1, H, W, 3] float32 in 0..1."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..trace import KeptMaps, Trace
from .canvas import TILE, Canvas, Size, fitted, resized, text_width, wrapped
from .colours import INK, MUTED, heat

_PER_LINE = 8  # tiles in a line of a filmstrip
_MOMENTS = 24  # most tiles in a filmstrip

WHEN = ("before | after", "every kept moment")


def heatmaps(
    trace: Trace,
    image: Tensor | None = None,
    words: str = "",
    when: str = WHEN[0],
    opacity: float = 0.7,
) -> Tensor:
    """The subject maps of a run, over its pictures [B, H, W, 3] if given: one block per image of the batch.

    A subject has one colour scale, from 0 to its largest value, for all images and moments. Raises ValueError
    when `words` names an unknown subject or the pictures are not the run's.
    """
    if image is not None and trace.batch and len(image) != trace.batch:
        raise ValueError(
            f"the trace is of a run with batch size {trace.batch}, but {len(image)} pictures are connected;"
            " connect all decoded pictures of that run"
        )
    if not trace.kept:
        return _no_maps(trace, image)
    labels = trace.names(trace.kept[0].maps.shape[1])
    chosen = _choose(labels, words)
    moments = _pairs(trace.kept) if when == WHEN[0] else _thinned(trace.kept)
    film = when != WHEN[0]
    size = _tile(image, moments[0].maps, film)
    em = max(13, round(max(size) / 16))
    per_line = min(len(moments), _PER_LINE) if film else len(moments)
    group = _group_size(size, em, len(moments), per_line)
    across, down = (1, len(chosen)) if film else (len(chosen), 1)
    left = size[0] + 2 * em if image is not None else 0
    width = left + across * (group[0] + 2 * em) - 2 * em
    block = down * (group[1] + em) + em // 2
    head = wrapped(trace.prompt, em * 5 // 4, width) + [""] * (not trace.prompt)
    caption = wrapped(_caption(moments, film, len(trace.kept)), em, width)
    top = len(head) * em * 2 + len(caption) * em * 3 // 2 + em
    canvas = Canvas(width + 4 * em, top + trace.batch * block + 2 * em, em)
    y = canvas.lines(2 * em, 2 * em, head, em * 5 // 4, INK)
    y = canvas.lines(2 * em, y, caption, em, MUTED) + em
    for b in range(trace.batch):
        if image is not None:
            canvas.text(2 * em, y, f"image {b + 1}", em, MUTED)
            canvas.paste(2 * em, y + 2 * em, resized(image[b], size))
        for n, s in enumerate(chosen):
            x = 2 * em + left + (0 if film else n * (group[0] + 2 * em))
            down_to = y + (n * (group[1] + em) if film else 0)
            under = image[b] if image is not None else None
            _group(canvas, x, down_to, labels[s], moments, b, s, under, size, per_line, opacity, film)
        y += block
    return canvas.tensor()


def _no_maps(trace: Trace, image: Tensor | None) -> Tensor:
    """The pictures and the reason why there is nothing to draw over them."""
    why = "No attention maps were kept in this run: " + ("; ".join(trace.notes) or "no action ran") + "."
    pictures = image if image is not None else torch.zeros(0, 8, 8, 3)
    size = fitted(pictures.shape[2], pictures.shape[1])
    em = max(14, round(max(size) / 16))
    width = max(len(pictures) * (size[0] + em) - em, 24 * em)
    lines = wrapped(why, em, width)
    height = size[1] + em if len(pictures) else 0
    canvas = Canvas(width + 4 * em, height + len(lines) * em * 3 // 2 + 4 * em, em)
    for b, picture in enumerate(pictures):
        canvas.paste(2 * em + b * (size[0] + em), 2 * em, resized(picture, size))
    canvas.lines(2 * em, 2 * em + height, lines, em, INK)
    return canvas.tensor()


def _choose(labels: list[str], words: str) -> list[int]:
    """Places of the labels that `words` (a comma list) names; all of them for an empty list."""
    wanted = [w.strip().lower() for w in words.split(",") if w.strip()]
    known = [label.lower() for label in labels]
    missing = [w for w in wanted if w not in known]
    if missing:
        raise ValueError(f"no subject is called '{missing[0]}'; this run has {', '.join(labels)}")
    return [s for s, label in enumerate(known) if not wanted or label in wanted]


def _pairs(kept: list[KeptMaps]) -> list[KeptMaps]:
    """Before and after of each optimisation; without one, the first and the last moment."""
    pairs = [k for k in kept if k.moment in ("before", "after") and k.loops]
    return pairs or (kept if len(kept) < 2 else [kept[0], kept[-1]])


def _thinned(kept: list[KeptMaps]) -> list[KeptMaps]:
    """At most `_MOMENTS`, evenly spread, first and last included."""
    places = np.linspace(0, len(kept) - 1, min(len(kept), _MOMENTS)).round().astype(int)
    return [kept[i] for i in places]


def _caption(moments: list[KeptMaps], film: bool, total: int) -> str:
    steps = list(dict.fromkeys(f"{k.action} at {k.step}" for k in moments))
    text = ", ".join(steps) if len(steps) < 4 else f"{steps[0]} ... {steps[-1]}"
    if film and total > len(moments):
        text += f"; {len(moments)} of {total} kept moments"
    return text + ". Each subject has one colour scale, shared by all its maps on this sheet."


def _name(moment: KeptMaps, film: bool) -> str:
    if moment.loops and not film:
        return moment.moment
    return f"step {moment.step.index}" + (f", {moment.moment}" if moment.loops else "")


def _tile(image: Tensor | None, maps: Tensor, film: bool) -> Size:
    height, width = image.shape[1:3] if image is not None else maps.shape[-2:]
    return fitted(width, height, (176, 176) if film else TILE)


def _overlay(values: Tensor, top: float, under: Tensor | None, size: Size, opacity: float) -> np.ndarray:
    """One map [h, w] in colour over its picture in grey; without a picture the map alone. [H, W, 3]."""
    large = F.interpolate(values[None, None], (size[1], size[0]), mode="bicubic", align_corners=False)[0, 0]
    colour = heat(large.numpy() / top)
    if under is None:
        return colour
    grey = resized(under, size).mean(-1, keepdims=True)
    return opacity * colour + (1 - opacity) * grey


def _group_size(size: Size, em: int, count: int, per_line: int) -> Size:
    lines = -(-count // per_line)
    return per_line * (size[0] + em // 2) - em // 2, 2 * em + lines * (size[1] + em * 5 // 2)


def _group(canvas, x, y, label, moments, b, s, under, size, per_line, opacity, film) -> None:
    """One subject of one image: its name, its colour bar, and its map at each moment."""
    em = canvas.em
    top = max(float(k.maps[:, s].nan_to_num(posinf=0).max()) for k in moments) or 1.0
    width = _group_size(size, em, len(moments), per_line)[0]
    end = f"{top:.2g}"
    bar = max(4 * em, min(width // 3, 9 * em))
    right = x + width - text_width(end, em * 3 // 4) - em // 3
    canvas.text(x, y, label, em * 9 // 8, INK)
    canvas.paste(right - bar, y + em // 5, heat(np.linspace(0, 1, bar))[None].repeat(em * 3 // 4, 0))
    canvas.text(right + em // 3, y + em // 6, end, em * 3 // 4, MUTED)
    canvas.text(right - bar - em // 3, y + em // 6, "0", em * 3 // 4, MUTED, anchor="ra")
    for i, moment in enumerate(moments):
        tx = x + (i % per_line) * (size[0] + em // 2)
        ty = y + 2 * em + (i // per_line) * (size[1] + em * 5 // 2)
        values = moment.maps[b, s]
        canvas.paste(tx, ty, _overlay(values, top, under, size, opacity))
        below = ty + size[1] + em // 3
        canvas.text(tx, below, _name(moment, film), em * 7 // 8, INK)
        canvas.text(tx + size[0], below, f"max {float(values.max()):.2g}", em * 7 // 8, MUTED, anchor="ra")

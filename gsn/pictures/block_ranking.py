"""The ranking of a model's blocks as a bar chart, IMAGE [1, H, W, 3] float32 in 0..1."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..attention.block_scores import BlockScore
from .canvas import Canvas, text_width, wrapped
from .colours import INK, LINES, MUTED, TRACK

_EM = 44  # drawn at twice the size, then reduced
_MOST = 40  # bars
_WIDTH = 1800
_COLUMNS = ("score", "separation", "concentration", "maps")


def block_ranking(scores: Sequence[BlockScore], chosen: int, told: str) -> Tensor:
    """scores: the best first; the first `chosen` are set off; told: a line below the title, of any length."""
    shown, em = scores[:_MOST], _EM
    lines = wrapped(told, em, _WIDTH - 2 * em)
    top = em * 3 + len(lines) * em * 3 // 2 + em * 2
    row = em * 9 // 5
    canvas = Canvas(_WIDTH, top + row * len(shown) + em * (4 if len(scores) > _MOST else 2), em)
    canvas.text(em, em, "How well each block tells the subjects apart", em * 5 // 4, INK)
    canvas.lines(em, em * 3, lines, em, MUTED)
    names = max(text_width(one.name, em) for one in shown)
    widths = [max(text_width(head, em), text_width("128 x 128", em)) + em for head in _COLUMNS]
    left, right = em * 2 + names, _WIDTH - em - sum(widths)
    ends = [right + sum(widths[: n + 1]) for n in range(len(widths))]
    for head, end in zip(_COLUMNS, ends, strict=True):
        canvas.text(end, top - em // 2, head, em, MUTED, "rs")
    most = max(shown[0].score, 1e-9)
    for number, one in enumerate(shown):
        y = top + row * number
        strong = number < chosen
        canvas.text(left - em, y + row // 2, one.name, em, INK if strong else MUTED, "rm")
        canvas.draw.rectangle((left, y + 6, right - 1, y + row - 7), fill=TRACK)
        length = round((right - left) * max(one.score, 0) / most)
        if length > 0:
            canvas.draw.rectangle((left, y + 6, left + length - 1, y + row - 7), fill=LINES[0] if strong else LINES[5])
        h, w = one.grid
        cells = (f"{one.score:.3f}", f"{one.separation:.3f}", f"{one.concentration:.3f}", f"{w} x {h}")
        for text, end in zip(cells, ends, strict=True):
            canvas.text(end, y + row // 2, text, em, INK if strong else MUTED, "rm")
    if len(scores) > _MOST:
        canvas.text(em, top + row * len(shown) + em, f"{len(scores) - _MOST} more blocks score less", em, MUTED)
    return canvas.tensor(2)

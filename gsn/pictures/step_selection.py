"""A step selection as a picture: success and summed score against the noise level, IMAGE [1, H, W, 3] float32 in 0..1.

One line per set with its 95 % intervals, below it the sum that decides, the winner marked in both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..selection.step import Place, Selection
from .axes import ticks, value_range
from .canvas import Canvas, text_width, wrapped
from .colours import INK, LINES, MUTED, NO, RULE

_EM = 36  # drawn at twice the size, then reduced
_WIDTH = 1900
_MARK = (232, 238, 244)  # behind the winner
_SPREAD = 4  # noise levels that differ by more than this factor are spaced by ratio

Points = Sequence[tuple[float, tuple[float, float]]]  # value and interval, one per candidate


def selection_plot(selection: Selection) -> Tensor:
    em, inner = _EM, _WIDTH - 2 * _EM
    chosen = f"refine at {selection.chosen}"
    low, high = selection.margin_interval
    lead = f"leads the next by {selection.margin:.3f} points ({low:.2f} to {high:.2f}); all intervals hold 95 %"
    told = [line for said in selection.warnings for line in wrapped(said, em, inner)]
    panel = 15 * em
    top, line = em * 6, em * 3 // 2
    height = top + 2 * (panel + 4 * em) + (len(told) * line + em if told else 0)
    canvas = Canvas(_WIDTH, height, em)
    canvas.text(em, em, chosen, em * 3 // 2, INK)
    canvas.text(em, em * 13 // 4, lead, em, MUTED)
    sets = []
    for n, one in enumerate(selection.sets):
        name = one.name if one.weight == 1 else f"{one.name} (counts {100 * one.weight:.0f} %)"
        sets.append((name, LINES[n % len(LINES)], list(zip(one.rates, one.intervals, strict=True))))
    _panel(canvas, (em, top, inner, panel), selection, sets, percent=True)
    summed = list(zip(selection.totals, selection.intervals, strict=True))
    total = [("sum of the sets, each scaled to 0..1", INK, summed)]
    _panel(canvas, (em, top + panel + 4 * em, inner, panel), selection, total)
    canvas.lines(em, top + 2 * (panel + 4 * em), told, em, NO)
    return canvas.tensor(2)


def _panel(
    canvas: Canvas, box: tuple[int, int, int, int], selection: Selection,
    lines: Sequence[tuple[str, tuple, Points]], percent: bool = False,
) -> None:  # fmt: skip
    """box = (x, y, width, height); lines: name, colour, points."""
    em = canvas.em
    x, y, width, height = box
    left, right, top, bottom = x + 4 * em, x + width - em, y + 2 * em, y + height - 2 * em
    ends = np.array([end for *_, points in lines for _, interval in points for end in interval])
    low, high = value_range(ends)
    low, high = (max(low, 0.0), min(high, 1.0)) if percent else (max(low, 0.0), high)
    across = _spaced(selection.places)
    gap = em if len(lines) > 1 else 0
    at = [left + 2 * em + a * (right - left - 4 * em) for a in across]

    def up(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    mark = at[selection.best]
    canvas.draw.rectangle((mark - em, top, mark + em, bottom), fill=_MARK)
    for tick in ticks(low, high, 5):
        canvas.draw.line((left, up(tick), right, up(tick)), RULE, em // 15)
        said = f"{100 * tick:.3g} %" if percent else f"{tick:.3g}"
        canvas.text(left - em // 2, up(tick), said, em * 4 // 5, MUTED, "rm")
    _legend(canvas, left, y, right, lines)
    for n, (_, colour, points) in enumerate(lines):
        shift = gap * (n / (len(lines) - 1) - 0.5) * 0.6 if len(lines) > 1 else 0.0  # bars side by side
        where = [a + shift for a in at]
        pale = tuple((c + 2 * 255) // 3 for c in colour)
        for a, (_, (bottom_end, top_end)) in zip(where, points, strict=True):
            canvas.draw.line((a, up(max(bottom_end, low)), a, up(min(top_end, high))), pale, em // 7)
        path = [(a, up(value)) for a, (value, _) in zip(where, points, strict=True)]
        canvas.draw.line(path, colour, em // 8, joint="curve")
        for c, point in enumerate(path):
            canvas.draw.circle(point, em * (0.34 if c == selection.best else 0.2), colour)
    _axis(canvas, selection, at, bottom, right)


def _legend(canvas: Canvas, left: int, y: int, right: int, lines: Sequence[tuple[str, tuple, Points]]) -> None:
    em, x = canvas.em, left
    for name, colour, _ in lines:
        if x + 2 * em + text_width(name, em) > right:
            canvas.text(x, y, "...", em, MUTED, "lm")
            break
        canvas.draw.line((x, y, x + em * 3 // 2, y), colour, em // 6)
        canvas.text(x + 2 * em, y, name, em, INK, "lm")
        x += 4 * em + text_width(name, em)


def _axis(canvas: Canvas, selection: Selection, at: list[float], bottom: int, right: int) -> None:
    """The candidates' values, as many as there is room for, the winner's always; and their unit."""
    em, (values, unit) = canvas.em, _values(selection.places)
    size = em * 4 // 5
    texts = [f"{value:.4g}" for value in values]
    taken: list[tuple[float, float]] = []
    for c in sorted(range(len(at)), key=lambda c: c != selection.best):
        half = text_width(texts[c], size) / 2 + em / 3
        if all(at[c] + half < a or at[c] - half > b for a, b in taken):
            taken.append((at[c] - half, at[c] + half))
            canvas.text(at[c], bottom + em // 2, texts[c], size, INK if c == selection.best else MUTED, "ma")
    canvas.text(right, bottom + em * 7 // 4, unit, size, MUTED, "ra")


def _values(places: Sequence[Place]) -> tuple[list[float], str]:
    """The numbers below the axis, and what they are."""
    if all(one.sigma is not None for one in places):
        return [one.sigma or 0.0 for one in places], "noise level (sigma); sampling goes from left to right"
    percent = places[0].percent is not None
    return [one.step.value for one in places], "percent of the schedule" if percent else "step"


def _spaced(places: Sequence[Place]) -> list[float]:
    """Where each candidate stands on the axis, 0..1."""
    values, _ = _values(places)
    if min(values) > 0 and max(values) / min(values) > _SPREAD:
        values = [math.log(value) for value in values]
    first, last = values[0], values[-1]
    return [(value - first) / (last - first) for value in values]

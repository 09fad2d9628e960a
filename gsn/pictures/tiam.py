"""What a TIAM score saw: pictures with boxes and verdicts, and bars of rates; IMAGE [1, H, W, 3] float32 in 0..1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..metrics.detections import WHOLE, Detection
from ..metrics.tiam import ImageScore, Rate, Summary
from ..metrics.tiam_report import place
from .canvas import Canvas, fitted, resized, text_width, wrapped
from .colours import INK, LINES, MUTED, NO, RULE, TRACK, YES

_MOST = 64  # pictures on a sheet
_PER_LINE = 8
_EM = 44  # of the bars; drawn at twice the size, then reduced
_WIDTH = 1400


@dataclass(frozen=True)
class Verdict:
    """One picture [H, W, 3] and what was decided about it; label: what made it, or ""."""

    picture: Tensor
    prompt: str
    subjects: tuple[str, ...]
    colours: tuple[str | None, ...]
    detections: tuple[Detection, ...]
    score: ImageScore
    label: str = ""


def verdicts(seen: Sequence[Verdict], threshold: float) -> Tensor:
    """Contact sheet: each picture with the boxes of the asked classes; frame and marks below say the verdict."""
    shown = seen[:_MOST]
    size = fitted(max(one.picture.shape[1] for one in shown), max(one.picture.shape[0] for one in shown))
    em = max(13, round(max(size) / 16))
    across = min(_PER_LINE, len(shown))
    texts = [wrapped(f"{one.label}: {one.prompt}" if one.label else one.prompt, em, size[0]) for one in shown]
    room = max(len(lines) + len(one.subjects) for lines, one in zip(texts, shown, strict=True)) * em * 3 // 2
    cell = size[0] + em, size[1] + room + em * 2
    rows = -(-len(shown) // across)
    told = f"Green frame: every subject found at {threshold:g} or more, with its colour where one is asked for."
    told += f" The first {_MOST} of {len(seen)} pictures." if len(seen) > _MOST else ""
    head = wrapped(told, em, max(across * cell[0] - em, 24 * em))
    top = 2 * em + len(head) * em * 3 // 2 + em // 2
    canvas = Canvas(max(across * cell[0] - em, 24 * em) + 4 * em, top + rows * cell[1] + em, em)
    canvas.lines(2 * em, 2 * em, head, em, MUTED)
    for n, (one, lines) in enumerate(zip(shown, texts, strict=True)):
        x, y = 2 * em + n % across * cell[0], top + em + n // across * cell[1]
        _picture(canvas, x, y, one, threshold, size)
        y = canvas.lines(x, y + size[1] + em // 2, lines, em, INK)
        for i, subject in enumerate(one.subjects):
            text, good = _said(one, i)
            canvas.text(x, y, f"{'+' if good else '-'} {subject}{text}", em, YES if good else NO)
            y += em * 3 // 2
    return canvas.tensor()


def bars(main: Summary, told: str) -> Tensor:
    """How often the subject in each place of the prompt was found, with its interval; told: a line below the title."""
    em = _EM
    rows = _bar_rows(main)
    lines = wrapped(told, em, _WIDTH - 2 * em)
    top = em * 5 + len(lines) * em * 3 // 2
    height = em * 9 // 5
    canvas = Canvas(_WIDTH, top + height * len(rows) + em * 4, em)
    canvas.text(em, em, f"TIAM {100 * main.tiam:.1f} %: which subject is found", em * 5 // 4, INK)
    canvas.lines(em, em * 3, lines, em, MUTED)
    left = em * 2 + max(text_width(name, em) for name, _, _ in rows)
    right = _WIDTH - em * 2 - text_width("100.0 %", em)
    bottom = top + height * len(rows)
    for tick in range(0, 101, 25):
        x = left + (right - left) * tick // 100
        canvas.draw.line((x, top - em // 4, x, bottom + em // 4), RULE, 3)
        canvas.text(x, bottom + em // 2, f"{tick} %", em * 4 // 5, MUTED, "ma")
    for n, (name, one, colour) in enumerate(rows):
        y = top + height * n
        middle = y + height // 2
        canvas.text(left - em, middle, name, em, INK, "rm")
        canvas.draw.rectangle((left, y + 8, right, y + height - 9), fill=TRACK)
        if one.rate > 0:
            canvas.draw.rectangle((left, y + 8, left + round((right - left) * one.rate), y + height - 9), fill=colour)
        ends = [left + round((right - left) * end) for end in (one.low, one.high)]
        canvas.draw.line((ends[0], middle, ends[1], middle), INK, 4)
        for end in ends:
            canvas.draw.line((end, middle - em // 4, end, middle + em // 4), INK, 4)
        canvas.text(right + em // 2, middle, f"{100 * one.rate:.1f} %", em, INK, "lm")
    canvas.text(em, bottom + em * 2, "Lines: 95 % intervals (Wilson).", em * 4 // 5, MUTED)
    return canvas.tensor(2)


def _bar_rows(main: Summary) -> list[tuple[str, Rate, tuple]]:
    rows = [("images correct", main.images, LINES[2])]
    rows += [(name, one, LINES[2]) for name, one in main.by_label.items()]
    for i, (found, bound) in enumerate(zip(main.by_position, main.bound_by_position, strict=True)):
        rows.append((f"{place(i)} subject", found, LINES[0]))
        if bound:
            rows.append(("with its colour", bound, LINES[5]))
    return rows


def _picture(canvas: Canvas, x: int, y: int, one: Verdict, threshold: float, limits: tuple[int, int]) -> None:
    """The picture in the upper left of its cell, its boxes (none where only the whole picture is known), its frame."""
    height, width = one.picture.shape[:2]
    factor = min(limits[0] / width, limits[1] / height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    canvas.paste(x, y, resized(one.picture, size))
    em = canvas.em
    for found in one.detections:
        if found.score < threshold or found.label not in one.subjects or found.box == WHOLE:
            continue
        colour = LINES[one.subjects.index(found.label) % len(LINES)]
        x0, y0, x1, y1 = (round(edge * size[n % 2]) for n, edge in enumerate(found.box))
        canvas.draw.rectangle((x + x0, y + y0, x + max(x1 - 1, x0), y + max(y1 - 1, y0)), outline=colour, width=2)
        text = f"{found.label} {found.score:.2f}"
        wide = text_width(text, em * 4 // 5) + em // 2
        left, at = x + max(0, min(x0, size[0] - wide)), max(y, y + y0 - em)
        canvas.draw.rectangle((left, at, left + wide, at + em), fill=colour)
        canvas.text(left + em // 4, at + em // 2, text, em * 4 // 5, (255, 255, 255), "lm")
    canvas.frame(x, y, size, YES if one.score.success else NO)


def _said(one: Verdict, i: int) -> tuple[str, bool]:
    """What is said of subject i, and whether it is as asked."""
    found, bound, colour = one.score.found[i], one.score.bound[i], one.colours[i]
    if not found:
        return " not found", False
    return (f", {colour}" if bound else f", not {colour}") if bound is not None else "", bound is not False

"""Pictures of a Trace, and grids of pictures, as IMAGE tensors [1, H, W, 3] float32 in 0..1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..trace import KeptMaps, Record, Trace
from .canvas import (
    INK,
    LINES,
    MUTED,
    NO,
    PAPER,
    RULE,
    TILE,
    YES,
    Sheet,
    Size,
    fitted,
    resized,
    text_width,
    ticks,
    value_range,
    wrapped,
)

# Nine equidistant colours of matplotlib's "inferno" (CC0): perceptually even, dark = little, bright = much.
_HEAT = np.array(
    [(0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85), (227, 89, 51), (249, 140, 10),
     (249, 201, 50), (252, 255, 164)], np.float32,
) / 255  # fmt: skip
_PER_LINE = 8  # tiles in a line of a filmstrip
_MOMENTS = 24  # most tiles in a filmstrip

WHEN = ("before | after", "every kept moment")
_LOOPS = ("refine", "init_noise", "distribution")  # actions of many iterations at one step


def heat(values: np.ndarray) -> np.ndarray:
    """Colours [..., 3] in 0..1 of values [...] in 0..1; values outside are clipped."""
    place = np.clip(np.nan_to_num(values), 0, 1) * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    part = (place - low)[..., None]
    return _HEAT[low] * (1 - part) + _HEAT[low + 1] * part


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
    labels = _labels(trace, trace.kept[0].maps.shape[1])
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
    sheet = Sheet(width + 4 * em, top + trace.batch * block + 2 * em, em)
    y = sheet.lines(2 * em, 2 * em, head, em * 5 // 4, INK)
    y = sheet.lines(2 * em, y, caption, em, MUTED) + em
    for b in range(trace.batch):
        if image is not None:
            sheet.text(2 * em, y, f"image {b + 1}", em, MUTED)
            sheet.paste(2 * em, y + 2 * em, resized(image[b], size))
        for n, s in enumerate(chosen):
            x = 2 * em + left + (0 if film else n * (group[0] + 2 * em))
            down_to = y + (n * (group[1] + em) if film else 0)
            under = image[b] if image is not None else None
            _group(sheet, x, down_to, labels[s], moments, b, s, under, size, per_line, opacity, film)
        y += block
    return sheet.tensor()


def curves(trace: Trace) -> Tensor:
    """Loss and subject maxima of every action of a run: over iterations for a refinement, else over steps."""
    scale = 2  # drawn at twice the size and reduced, which smooths the lines
    em, width = 15 * scale, 1160 * scale
    runs = _runs(trace.records)
    notes = [line for note in trace.notes for line in wrapped(note, em, width - 4 * em)]
    told = [_stop_lines(trace, run) for run in runs]
    stops = [[line for text in texts for line in wrapped(text, em, width - 4 * em)] for texts in told]
    head = wrapped(trace.prompt or "no subjects", em * 5 // 4, width - 4 * em)
    panel = 17 * em
    body = sum(panel + 6 * em + len(lines) * em * 3 // 2 for lines in stops) or 3 * em
    sheet = Sheet(width, 4 * em + len(head) * em * 2 + body + len(notes) * em * 3 // 2, em)
    y = sheet.lines(2 * em, 2 * em, head, em * 5 // 4, INK) + em // 2
    if not runs:
        y = sheet.lines(2 * em, y, ["No loss was computed in this run."], em, INK) + em
    for run, lines in zip(runs, stops, strict=True):
        sheet.text(2 * em, y, _run_title(run), em, INK)
        y += em * 5 // 2
        labels = _labels(trace, max(len(m) for r in run for m in r.maxima) if run[0].maxima else 0)
        half = (width - 8 * em) // 2
        _panel(sheet, (2 * em, y, half, panel), "loss", run, _loss_lines(run))
        _panel(sheet, (6 * em + half, y, half, panel), "largest value of each subject's map", run,
               _maxima_lines(run, labels))  # fmt: skip
        y = sheet.lines(2 * em, y + panel + em * 2, lines, em, MUTED) + em * 3 // 2
    sheet.lines(2 * em, y, notes, em, NO)
    return sheet.tensor(scale)


def before_after(
    rows: Mapping[str, Tensor],
    columns: Sequence[str],
    success: Mapping[str, Sequence[bool]] | None = None,
    title: str = "",
) -> Tensor:
    """A grid of pictures: rows label -> [N, H, W, 3], N column labels. Frames say where a row succeeded."""
    first = next(iter(rows.values()))
    size = fitted(first.shape[2], first.shape[1])
    em = max(14, round(max(size) / 15))
    success = success or {}
    names = {row: [row] + _score(success.get(row)) for row in rows}
    left = max(text_width(text, em) for lines in names.values() for text in lines) + 2 * em
    headings = [wrapped(c, em, size[0]) for c in columns]
    gap = em * 3 // 4
    width = left + len(columns) * (size[0] + gap) - gap
    head = wrapped(title, em * 5 // 4, width)
    lines = max(map(len, headings), default=0)
    top = len(head) * em * 2 + (em if head else 0)
    sheet = Sheet(width + 4 * em, 4 * em + top + lines * em * 3 // 2 + len(rows) * (size[1] + gap), em)
    sheet.lines(2 * em, 2 * em, head, em * 5 // 4, INK)
    y = 2 * em + top
    for c, text in enumerate(headings):
        sheet.lines(2 * em + left + c * (size[0] + gap), y, text, em, MUTED)
    y += lines * em * 3 // 2 + em // 2
    for row, images in rows.items():
        sheet.lines(2 * em, y + size[1] // 2 - em * 3 // 4 * len(names[row]), names[row], em, INK)
        for c, picture in enumerate(images):
            x = 2 * em + left + c * (size[0] + gap)
            sheet.paste(x, y, resized(picture, size))
            if row in success:
                sheet.frame(x, y, size, YES if success[row][c] else NO)
        y += size[1] + gap
    return sheet.tensor()


# ---- heatmaps --------------------------------------------------------------------------------------------


def _no_maps(trace: Trace, image: Tensor | None) -> Tensor:
    """The pictures and the reason why there is nothing to draw over them."""
    why = "No attention maps were kept in this run: " + ("; ".join(trace.notes) or "no action ran") + "."
    pictures = image if image is not None else torch.zeros(0, 8, 8, 3)
    size = fitted(pictures.shape[2], pictures.shape[1])
    em = max(14, round(max(size) / 16))
    width = max(len(pictures) * (size[0] + em) - em, 24 * em)
    lines = wrapped(why, em, width)
    height = size[1] + em if len(pictures) else 0
    sheet = Sheet(width + 4 * em, height + len(lines) * em * 3 // 2 + 4 * em, em)
    for b, picture in enumerate(pictures):
        sheet.paste(2 * em + b * (size[0] + em), 2 * em, resized(picture, size))
    sheet.lines(2 * em, 2 * em + height, lines, em, INK)
    return sheet.tensor()


def _labels(trace: Trace, count: int) -> list[str]:
    """One label per subject map."""
    return [trace.labels[s] if s < len(trace.labels) else f"subject {s + 1}" for s in range(count)]


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
    pairs = [k for k in kept if k.moment in ("before", "after") and k.action in _LOOPS]
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
    if moment.action in _LOOPS and not film:
        return moment.moment
    return f"step {moment.step.index}" + (f", {moment.moment}" if moment.action in _LOOPS else "")


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


def _group(sheet, x, y, label, moments, b, s, under, size, per_line, opacity, film) -> None:
    """One subject of one image: its name, its colour bar, and its map at each moment."""
    em = sheet.em
    top = max(float(k.maps[:, s].nan_to_num(posinf=0).max()) for k in moments) or 1.0
    width = _group_size(size, em, len(moments), per_line)[0]
    end = f"{top:.2g}"
    bar = max(4 * em, min(width // 3, 9 * em))
    right = x + width - text_width(end, em * 3 // 4) - em // 3
    sheet.text(x, y, label, em * 9 // 8, INK)
    sheet.paste(right - bar, y + em // 5, heat(np.linspace(0, 1, bar))[None].repeat(em * 3 // 4, 0))
    sheet.text(right + em // 3, y + em // 6, end, em * 3 // 4, MUTED)
    sheet.text(right - bar - em // 3, y + em // 6, "0", em * 3 // 4, MUTED, anchor="ra")
    for i, moment in enumerate(moments):
        tx = x + (i % per_line) * (size[0] + em // 2)
        ty = y + 2 * em + (i // per_line) * (size[1] + em * 5 // 2)
        values = moment.maps[b, s]
        sheet.paste(tx, ty, _overlay(values, top, under, size, opacity))
        below = ty + size[1] + em // 3
        sheet.text(tx, below, _name(moment, film), em * 7 // 8, INK)
        sheet.text(tx + size[0], below, f"max {float(values.max()):.2g}", em * 7 // 8, MUTED, anchor="ra")


# ---- curves ----------------------------------------------------------------------------------------------

Line = tuple[str, tuple, int, np.ndarray]  # name ("" = not in the legend), colour, width in em/20, values [n]


def _runs(records: list[Record]) -> list[list[Record]]:
    """Records that share an axis: each optimisation by itself, the steps of each kind of guidance together."""
    runs: list[list[Record]] = []
    places: dict[tuple, int] = {}
    for record in records:
        key = (record.action, record.step.index if record.action in _LOOPS else -1, tuple(record.terms))
        if key not in places or (record.action in _LOOPS and record.iteration == 0):
            places[key] = len(runs)
            runs.append([])
        runs[places[key]].append(record)
    return runs


def _axis(run: list[Record]) -> np.ndarray:
    """[n] the iteration of an optimisation, otherwise the step."""
    return np.array([r.iteration if r.action in _LOOPS else r.step.index for r in run], np.float64)


def _run_title(run: list[Record]) -> str:
    first, last = run[0], run[-1]
    if first.action in _LOOPS:
        return f"{first.action} at {first.step}, {last.iteration} iterations, {last.seconds:.3g} s"
    seconds = sum(r.seconds for r in run)
    where = f"at {first.step}" if len(run) == 1 else f"from {first.step} to {last.step}"
    return f"{first.action} {where}, {seconds:.3g} s"


def _stop_lines(trace: Trace, run: list[Record]) -> list[str]:
    """Why each image stopped, in one sentence where they agree."""
    steps = {r.step for r in run}
    lines = []
    for stop in trace.stops:
        if stop.action != run[0].action or stop.step not in steps:
            continue
        where = "" if len(steps) == 1 else f"step {stop.step.index}, "
        told = [f"{reason} ({n} updates)" for reason, n in zip(stop.reasons, stop.iterations, strict=True)]
        if len(set(told)) == 1:
            lines.append(f"{where}{'every image' if len(told) > 1 else 'image 1'}: {told[0]}")
        else:
            lines += [f"{where}image {b + 1}: {text}" for b, text in enumerate(told)]
    return lines


def _loss_lines(run: list[Record]) -> list[Line]:
    loss = np.array([r.loss for r in run])  # [n, B]
    lines: list[Line] = []
    if loss.shape[1] > 1:
        names = ["each image"] + [""] * (loss.shape[1] - 1)
        lines += [(name, (176, 178, 182), 2, loss[:, b]) for b, name in enumerate(names)]
    if len(run[0].terms) > 1:
        for n, name in enumerate(run[0].terms):
            values = np.array([np.mean(r.terms[name]) for r in run])
            lines.append((name.replace("_", " "), LINES[(n + 2) % len(LINES)], 3, values))
    return [*lines, ("mean" if loss.shape[1] > 1 else "loss", INK, 5, loss.mean(1))]


def _maxima_lines(run: list[Record], labels: list[str]) -> list[Line]:
    maxima = np.array([r.maxima for r in run])  # [n, B, S]
    lines: list[Line] = []
    colours = [LINES[s % len(LINES)] for s in range(len(labels))]
    if maxima.shape[1] > 1:
        for s, colour in enumerate(colours):
            pale = tuple((c + 2 * p) // 3 for c, p in zip(colour, PAPER, strict=True))
            lines += [("", pale, 2, maxima[:, b, s]) for b in range(maxima.shape[1])]
    return lines + [(labels[s], colour, 5, maxima[:, :, s].mean(1)) for s, colour in enumerate(colours)]


def _panel(sheet: Sheet, box: tuple, title: str, run: list[Record], lines: list[Line]) -> None:
    """Axes, ticks, a legend and the lines, inside box = (x, y, width, height)."""
    em = sheet.em
    x, y, width, height = box
    sheet.text(x, y, title, em, MUTED)
    at = x
    for name, colour, thick, _ in (line for line in lines if line[0]):
        if at + em * 3 + text_width(name, em * 7 // 8) > x + width:
            break
        sheet.draw.line((at, y + em * 5 // 2, at + em * 3 // 2, y + em * 5 // 2), colour, em * thick // 20)
        sheet.text(at + em * 2, y + em * 5 // 2, name, em * 7 // 8, INK, anchor="lm")
        at += em * 4 + text_width(name, em * 7 // 8)
    axis = _axis(run)
    values = np.concatenate([line[3] for line in lines])
    low, high = value_range(values[np.isfinite(values)])
    left, top, bottom = x + em * 3, y + em * 4, y + height - em * 2
    right = x + width - em // 2
    first, last = float(axis.min()), float(axis.max())
    if first == last:
        first, last = first - 1, last + 1

    def place(a: float, v: float) -> tuple[float, float]:
        across, up = (a - first) / (last - first), (v - low) / (high - low)
        return left + across * (right - left), bottom - up * (bottom - top)

    for tick in ticks(low, high, 5):
        ty = place(first, tick)[1]
        sheet.draw.line((left, ty, right, ty), RULE, em // 15)
        sheet.text(left - em // 2, ty, f"{tick:.4g}", em * 4 // 5, MUTED, anchor="rm")
    for tick in (t for t in ticks(first, last, 8) if t == int(t)):
        sheet.text(place(tick, low)[0], bottom + em // 2, f"{tick:.0f}", em * 4 // 5, MUTED, anchor="ma")
    unit = "iteration" if run[0].action in _LOOPS else "step"
    sheet.text(right, bottom + em * 7 // 4, unit, em * 4 // 5, MUTED, anchor="ra")
    for _, colour, thick, series in lines:
        points = [place(a, v) if np.isfinite(v) else None for a, v in zip(axis, series, strict=True)]
        for a, b in zip(points, points[1:], strict=False):
            if a and b:
                sheet.draw.line((*a, *b), colour, em * thick // 20, joint="curve")
        for point in filter(None, points if len(points) == 1 else ()):
            sheet.draw.circle(point, em * thick / 15, colour)


def _score(success: Sequence[bool] | None) -> list[str]:
    return [] if success is None else [f"{sum(map(bool, success))} of {len(success)}"]

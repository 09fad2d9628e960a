"""The loss of a run and the largest value of each subject's map, as curves: IMAGE [1, H, W, 3] float32 in 0..1."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..trace import Record, Trace
from .axes import ticks, value_range
from .canvas import Canvas, text_width, wrapped
from .colours import INK, LINES, MUTED, NO, PAPER, RULE

Line = tuple[str, tuple, int, np.ndarray]  # name ("" = not in the legend), colour, width in em/20, values [n]


def loss_curve(trace: Trace) -> Tensor:
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
    canvas = Canvas(width, 4 * em + len(head) * em * 2 + body + len(notes) * em * 3 // 2, em)
    y = canvas.lines(2 * em, 2 * em, head, em * 5 // 4, INK) + em // 2
    if not runs:
        y = canvas.lines(2 * em, y, ["No loss was computed in this run."], em, INK) + em
    for run, lines in zip(runs, stops, strict=True):
        canvas.text(2 * em, y, _run_title(run), em, INK)
        y += em * 5 // 2
        labels = trace.names(max(len(m) for r in run for m in r.maxima) if run[0].maxima else 0)
        half = (width - 8 * em) // 2
        _panel(canvas, (2 * em, y, half, panel), "loss", run, _loss_lines(run))
        _panel(canvas, (6 * em + half, y, half, panel), "largest value of each subject's map", run,
               _maxima_lines(run, labels))  # fmt: skip
        y = canvas.lines(2 * em, y + panel + em * 2, lines, em, MUTED) + em * 3 // 2
    canvas.lines(2 * em, y, notes, em, NO)
    return canvas.tensor(scale)


def _runs(records: list[Record]) -> list[list[Record]]:
    """Records that share an axis: each optimisation by itself, the steps of each kind of guidance together."""
    runs: list[list[Record]] = []
    places: dict[tuple, int] = {}
    for record in records:
        key = (record.action, record.step.index if record.loops else -1, tuple(record.terms))
        if key not in places or (record.loops and record.iteration == 0):
            places[key] = len(runs)
            runs.append([])
        runs[places[key]].append(record)
    return runs


def _axis(run: list[Record]) -> np.ndarray:
    """[n] the iteration of an optimisation, otherwise the step."""
    return np.array([r.iteration if r.loops else r.step.index for r in run], np.float64)


def _run_title(run: list[Record]) -> str:
    first, last = run[0], run[-1]
    if first.loops:
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


def _panel(canvas: Canvas, box: tuple, title: str, run: list[Record], lines: list[Line]) -> None:
    """Axes, ticks, a legend and the lines, inside box = (x, y, width, height)."""
    em = canvas.em
    x, y, width, height = box
    canvas.text(x, y, title, em, MUTED)
    at = x
    for name, colour, thick, _ in (line for line in lines if line[0]):
        if at + em * 3 + text_width(name, em * 7 // 8) > x + width:
            break
        canvas.draw.line((at, y + em * 5 // 2, at + em * 3 // 2, y + em * 5 // 2), colour, em * thick // 20)
        canvas.text(at + em * 2, y + em * 5 // 2, name, em * 7 // 8, INK, anchor="lm")
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
        canvas.draw.line((left, ty, right, ty), RULE, em // 15)
        canvas.text(left - em // 2, ty, f"{tick:.4g}", em * 4 // 5, MUTED, anchor="rm")
    for tick in (t for t in ticks(first, last, 8) if t == int(t)):
        canvas.text(place(tick, low)[0], bottom + em // 2, f"{tick:.0f}", em * 4 // 5, MUTED, anchor="ma")
    unit = "iteration" if run[0].loops else "step"
    canvas.text(right, bottom + em * 7 // 4, unit, em * 4 // 5, MUTED, anchor="ra")
    for _, colour, thick, series in lines:
        points = [place(a, v) if np.isfinite(v) else None for a, v in zip(axis, series, strict=True)]
        for a, b in zip(points, points[1:], strict=False):
            if a and b:
                canvas.draw.line((*a, *b), colour, em * thick // 20, joint="curve")
        for point in filter(None, points if len(points) == 1 else ()):
            canvas.draw.circle(point, em * thick / 15, colour)

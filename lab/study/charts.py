"""Curves and rankings with intervals as inline SVG: no script, no font, no address outside the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 30, 44
KEY = 16  # height of the row that names the lines
NAMES, ROW = 150, 20  # of a ranking: the width of its names, the height of a row
COLOURS = ("#1668b8", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#0e7490", "#be123c", "#475569")


@dataclass(frozen=True)
class Point:
    """`value` with its interval, in 0..1, at the place `x` (one of the chart's ticks)."""

    x: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[Point]


def curve(title: str, ticks: Sequence[str], lines: Sequence[Line], level: Point | None, axis: str) -> str:
    """Lines over evenly spaced ticks; `level`: one more value, drawn as a band over the whole width."""
    highest = max([p.high for line in lines for p in line.points] + ([level.high] if level else []) + [0.1])
    top = min(1.0, -(-highest * 10 // 1) / 10)
    place = {tick: LEFT + (WIDTH - LEFT - RIGHT) * (i + 0.5) / len(ticks) for i, tick in enumerate(ticks)}

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - KEY - BOTTOM) * value / top

    parts = _begun(title, HEIGHT)
    apart = 0.2 if top > 0.4 else 0.1 if top > 0.2 else 0.05
    for i in range(int(top / apart + 1e-6) + 1):
        value = apart * i
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{100 * value:.0f} %</text>')
    if level is not None:
        height = y(level.low) - y(level.high)
        parts.append(f'<rect x="{LEFT}" y="{y(level.high):.1f}" width="{WIDTH - LEFT - RIGHT}" height="{height:.1f}"'
                     ' fill="#999" opacity="0.18"/>')  # fmt: skip
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(level.value):.1f}" y2="{y(level.value):.1f}"'
                     ' stroke="#666" stroke-dasharray="5 4"/>')  # fmt: skip
        parts.append(f'<text x="{WIDTH - RIGHT}" y="{y(level.value) - 4:.1f}" text-anchor="end" fill="#555">'
                     f"{escape(level.x)}</text>")  # fmt: skip
    for tick in ticks:
        at = f'x="{place[tick]:.1f}" y="{HEIGHT - BOTTOM + 16}"'
        parts.append(f'<text {at} text-anchor="middle">{escape(tick)}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(axis)}</text>')
    for i, line in enumerate(lines):
        parts += _drawn(line, COLOURS[i % len(COLOURS)], {tick: x + 5 * (i - (len(lines) - 1) / 2) for tick, x in
                        place.items()}, y, i)  # fmt: skip
    return "\n".join([*parts, "</svg>"])


def ranking(title: str, lines: Sequence[Line], axis: str) -> str:
    """A row for each `x` of the first line, and on it the value of every line, over one scale of 0 to 1."""
    rows = [point.x for point in lines[0].points]
    bottom = TOP + KEY + ROW * len(rows)
    place = {name: TOP + KEY + ROW * (i + 0.5) for i, name in enumerate(rows)}

    def x(value: float) -> float:
        return NAMES + (WIDTH - NAMES - 2 * RIGHT) * value

    parts = _begun(title, bottom + BOTTOM)
    for tenths in range(0, 11, 2):
        at = x(tenths / 10)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP + KEY}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{10 * tenths} %</text>')
    for name, y in place.items():
        parts.append(f'<text x="{NAMES - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>')
    for i, line in enumerate(lines):
        colour, aside = COLOURS[i % len(COLOURS)], 5 * (i - (len(lines) - 1) / 2)
        for p in line.points:
            y = place[p.x] + aside
            parts.append(
                f'<line x1="{x(p.low):.1f}" x2="{x(p.high):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}"/>'
            )
            parts.append(f'<circle cx="{x(p.value):.1f}" cy="{y:.1f}" r="3.2" fill="{colour}">')
            parts.append(f"<title>{escape(_said(line, p))}</title></circle>")
        parts.append(f'<text x="{NAMES + 190 * i}" y="{TOP + 8}" fill="{colour}">{escape(line.name)}</text>')
    parts.append(
        f'<text x="{(NAMES + WIDTH) / 2}" y="{bottom + BOTTOM - 8}" text-anchor="middle">{escape(axis)}</text>'
    )
    return "\n".join([*parts, "</svg>"])


def _begun(title: str, height: float) -> list[str]:
    return [
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" aria-label="{escape(title)}"'
        ' font-family="system-ui, sans-serif" font-size="12">',
        f'<text x="{LEFT}" y="16" font-weight="600">{escape(title)}</text>',
    ]


def _said(line: Line, p: Point) -> str:
    return f"{line.name} at {p.x}: {100 * p.value:.1f} % [{100 * p.low:.1f}, {100 * p.high:.1f}]"


def _drawn(line: Line, colour: str, place: dict[str, float], y, number: int) -> list[str]:
    at = [(place[p.x], p) for p in line.points]
    way = " ".join(f"{x:.1f},{y(p.value):.1f}" for x, p in at)
    parts = [f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{way}"/>']
    for x, p in at:
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y(p.low):.1f}" y2="{y(p.high):.1f}" stroke="{colour}"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y(p.value):.1f}" r="3.2" fill="{colour}">')
        parts.append(f"<title>{escape(_said(line, p))}</title></circle>")
    parts.append(f'<text x="{LEFT + 8 + 130 * number}" y="{TOP + 4}" fill="{colour}">{escape(line.name)}</text>')
    return parts

"""Curves with intervals as inline SVG: no script, no font, no address outside the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 30, 44
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
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{escape(title)}"'
        ' font-family="system-ui, sans-serif" font-size="12">',
        f'<text x="{LEFT}" y="16" font-weight="600">{escape(title)}</text>',
    ]
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


def _drawn(line: Line, colour: str, place: dict[str, float], y, number: int) -> list[str]:
    at = [(place[p.x], p) for p in line.points]
    way = " ".join(f"{x:.1f},{y(p.value):.1f}" for x, p in at)
    parts = [f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{way}"/>']
    for x, p in at:
        said = f"{line.name} at {p.x}: {100 * p.value:.1f} % [{100 * p.low:.1f}, {100 * p.high:.1f}]"
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y(p.low):.1f}" y2="{y(p.high):.1f}" stroke="{colour}"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y(p.value):.1f}" r="3.2" fill="{colour}">')
        parts.append(f"<title>{escape(said)}</title></circle>")
    parts.append(f'<text x="{LEFT + 8 + 130 * number}" y="{TOP + 4}" fill="{colour}">{escape(line.name)}</text>')
    return parts

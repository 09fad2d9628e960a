"""The values that say which words of a prompt are to be seen in the picture, and where their tokens are.

Positions count token columns. A conditioning's text axis is the concatenation of its streams; a `Subject`
states its positions relative to the start (`offset`) of each stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

SUBJECTS_KEY = "gsn"  # key in a CONDITIONING entry's dict under which its Subjects travels


class SubjectError(ValueError):
    """A prompt or a list of subjects that cannot be used; the message says what to change."""


@dataclass(frozen=True)
class TextStream:
    """One text encoder's share of a conditioning's token axis.

    All positions are relative to `offset`. `pieces` has one string per column, made for display: what the
    column spells, or `<start>`, `<end>`, `<pad>`, `<embedding>`.
    """

    name: str  # "clip" (SD1, SD2, SDXL's l and g together, SD3's CLIP part) or "t5"
    offset: int  # first column of this stream on the conditioning's text axis
    length: int  # number of columns
    words: tuple[int, ...]  # positions of word pieces: no start, end or padding
    starts: tuple[int, ...]  # positions of start tokens: one per 77-token chunk, none for T5
    pieces: tuple[str, ...]

    def __post_init__(self):
        if len(self.pieces) != self.length:
            raise SubjectError(f"stream {self.name!r} has {self.length} columns but {len(self.pieces)} pieces")


@dataclass(frozen=True)
class Subject:
    """One thing to be seen, with the words that describe it.

    `tokens` maps a stream's name to positions relative to that stream's offset, ascending and never empty;
    a stream in which the subject could not be found is absent. `box` is (x0, y0, x1, y1) as fractions of
    the picture; `mask`, [H, W] in 0 to 1 of any size, lies over the whole picture.
    """

    label: str
    tokens: Mapping[str, tuple[int, ...]]
    attributes: tuple[Subject, ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: Tensor | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Subjects:
    """What travels in a CONDITIONING entry under `SUBJECTS_KEY`: the prompt, its subjects, its token
    columns."""

    prompt: str  # as it was encoded: marks removed
    items: tuple[Subject, ...]
    streams: tuple[TextStream, ...]

    @property
    def text_length(self) -> int:
        """Columns of the conditioning's whole text axis."""
        return sum(stream.length for stream in self.streams)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(subject.label for subject in self.items)

    def columns_of(self, subject: Subject) -> tuple[int, ...]:
        """On the whole text axis: the words of a subject and of its attributes."""
        return tuple(
            stream.offset + position
            for stream in self.streams
            for one in (subject, *subject.attributes)
            for position in one.tokens.get(stream.name, ())
        )

    def word_columns(self) -> tuple[int, ...]:
        """On the whole text axis: every word piece."""
        return tuple(stream.offset + position for stream in self.streams for position in stream.words)


def token_table(subjects: Subjects, notes: tuple[str, ...] = ()) -> str:
    """A monospace listing of every token column: position, piece, and ● subject or ○ attribute → subject.

    Positions are relative to their stream. Runs of padding take one line. `notes` are printed under the
    table.
    """
    chosen = ", ".join(subjects.labels) or "none"
    lines = [f"subjects: {chosen}"]
    for subject in subjects.items:
        if subject.box is not None:
            x0, y0, x1, y1 = subject.box
            lines.append(f"box of {subject.label}: {x0:.0%} to {x1:.0%} across, {y0:.0%} to {y1:.0%} down")
        if subject.mask is not None:
            lines.append(f"mask of {subject.label}: {float(subject.mask.mean()):.0%} of the picture")
    for stream in subjects.streams:
        lines += ["", f"{stream.name}: {stream.length} columns from {stream.offset}"]
        lines += _stream_lines(stream, _marks(subjects, stream.name))
    if notes:
        lines += ["", *(f"note: {note}" for note in notes)]
    return "\n".join(lines)


def _marks(subjects: Subjects, stream: str) -> dict[int, str]:
    marks: dict[int, str] = {}
    for subject in subjects.items:
        marks |= {p: f"● {subject.label}" for p in subject.tokens.get(stream, ())}
        for attribute in subject.attributes:
            marks |= {p: f"○ {attribute.label} → {subject.label}" for p in attribute.tokens.get(stream, ())}
    return marks


def _stream_lines(stream: TextStream, marks: dict[int, str]) -> Iterator[str]:
    width = min(24, max((len(stream.pieces[p]) for p in stream.words), default=0))
    starts = {start: number for number, start in enumerate(stream.starts, 1)} if len(stream.starts) > 1 else {}
    position = 0
    while position < stream.length:
        piece, end = stream.pieces[position], position + 1
        while piece == "<pad>" and end < stream.length and stream.pieces[end] == "<pad>":
            end += 1
        if position in starts:
            yield f"-- chunk {starts[position]} --"
        if end - position > 1:
            yield f"{position:4d}  {piece} x {end - position}"
        else:
            yield f"{position:4d}  {piece:<{width}}  {marks.get(position, '')}".rstrip()
        position = end

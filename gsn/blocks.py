"""Which blocks of a model to read attention from: the small language of `in7-8, mid, out3-5`, `double9-18` or `12-17`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PART = re.compile(r"(?P<part>[a-z]*)(?P<first>\d+)?(?:-(?:[a-z]*)(?P<last>\d+))?$")
_PARTS = {"in": "input", "input": "input", "mid": "middle", "middle": "middle", "out": "output", "output": "output",
          "double": "double", "single": "single", "": "block"}  # fmt: skip


@dataclass(frozen=True)
class BlockRange:
    """Blocks first..last (inclusive) of a part of the model: "input", "middle", "output", "double", "single" or "block"."""

    part: str
    first: int
    last: int

    def holds(self, part: str, number: int) -> bool:
        return part == self.part and self.first <= number <= self.last


def parse_blocks(text: str) -> tuple[BlockRange, ...] | None:
    """`auto` (or nothing) gives None: the family's own choice. Raises ValueError on anything unreadable."""
    if text.strip().lower() in ("", "auto"):
        return None
    ranges = []
    for piece in re.split(r"[,\s]+", text.strip().lower()):
        match = _PART.match(piece)
        part = _PARTS.get(match["part"]) if match else None
        if match is None or part is None or (match["first"] is None and part != "middle"):
            raise ValueError(f"cannot read block '{piece}'; write for example in7-8, mid, out3-5 or 12-17, or auto")
        first = int(match["first"] or 0)
        last = int(match["last"]) if match["last"] is not None else first
        if last < first:
            raise ValueError(f"block range '{piece}' runs backwards")
        ranges.append(BlockRange(part, first, last))
    return tuple(ranges)

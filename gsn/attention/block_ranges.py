"""Which blocks of a model to read attention from: `in7-8, mid, out3-5`, `double9-18` or `12-17`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PART = re.compile(r"(?P<part>[a-z]*)(?P<first>\d{1,4})?(?:-(?:[a-z]*)(?P<last>\d{1,4}))?$")  # no model has 10,000
_PARTS = {"in": "input", "input": "input", "mid": "middle", "middle": "middle", "out": "output", "output": "output",
          "double": "double", "single": "single", "": "block"}  # fmt: skip


@dataclass(frozen=True)
class BlockRange:
    """Blocks first..last (inclusive; last None = to the end) of a part of the model.

    Parts: "input", "middle", "output" (UNets), "double", "single", "block" (transformers).
    """

    part: str
    first: int
    last: int | None

    def holds(self, part: str, number: int) -> bool:
        return part == self.part and self.first <= number and (self.last is None or number <= self.last)

    def named(self) -> range:
        """The block numbers it names; a whole part names none."""
        return range(0) if self.last is None else range(self.first, self.last + 1)


_SHORT = {"input": "in", "middle": "mid", "output": "out", "block": ""}


def block_name(part: str, number: int) -> str:
    """One block in the language of `parse_blocks`: in7, double3, 12."""
    return f"{_SHORT.get(part, part)}{number}"


def parse_blocks(text: str) -> tuple[BlockRange, ...] | None:
    """`auto` (or nothing) gives None: the family's own choice. Raises ValueError on anything unreadable."""
    if text.strip().lower() in ("", "auto"):
        return None
    ranges = []
    for piece in re.split(r"[,\s]+", text.strip().lower()):
        match = _PART.match(piece)
        part = _PARTS.get(match["part"]) if match else None
        if match is None or part is None or not match["part"] + (match["first"] or ""):
            example = "in7-8, mid, out3-5, double or 12-17, or auto"
            raise ValueError(f"cannot read block '{piece}'; write for example {example}")
        first = int(match["first"] or 0)
        last = None if match["first"] is None else int(match["last"] or first)
        if last is not None and last < first:
            raise ValueError(f"block range '{piece}' runs backwards")
        ranges.append(BlockRange(part, first, last))
    return tuple(ranges)

"""Which blocks of a model tell the subjects of a prompt apart: a score per block, a ranking, a choice.

From one block's subject maps, each made a distribution p_s over the cells:

separation    = 1 - mean over pairs of sum_cells min(p_s, p_t)     0: all in the same place, 1: no cell shared
concentration = 1 - mean over subjects of H(p_s) / log(cells)      0: everywhere alike, 1: a single cell
score         = separation * concentration

A block is of use to a loss on maps when both hold, so they are multiplied: an even map has no place that could be
moved, and maps that point to one spot together do not say which subject it is. Maps go through the same processing as
those of the losses, so a block scores by what a loss would see of it; and each is judged on its own grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from math import log

import torch
from torch import Tensor

from ..trace import BlockSeen
from .block_ranges import block_name


@dataclass(frozen=True)
class BlockScore:
    """One block's means over images, steps and prompts. grid: (h, w) of its maps."""

    part: str
    number: int
    grid: tuple[int, int]
    separation: float
    concentration: float

    @property
    def name(self) -> str:
        return block_name(self.part, self.number)

    @property
    def score(self) -> float:
        return self.separation * self.concentration


def separation(maps: Tensor) -> Tensor:
    """[B], from subject maps [B, S, h, w] with S >= 2."""
    places = _distributions(maps)
    shared = [torch.minimum(places[:, s], places[:, t]).sum(-1) for s, t in combinations(range(places.shape[1]), 2)]
    return 1 - torch.stack(shared).mean(0)


def concentration(maps: Tensor) -> Tensor:
    """[B], from subject maps [B, S, h, w]; 1 where there is only one cell."""
    places = _distributions(maps)
    cells = places.shape[-1]
    if cells == 1:
        return torch.ones(len(maps), device=maps.device)
    entropy = -(places * places.clamp(min=1e-12).log()).sum(-1)
    return 1 - entropy.mean(1) / log(cells)


def _distributions(maps: Tensor) -> Tensor:
    flat = maps.flatten(2).float()
    return flat / flat.sum(-1, keepdim=True).clamp(min=1e-12)


def ranking(seen: Iterable[BlockSeen]) -> list[BlockScore]:
    """Every block once, the best first."""
    scores = []
    by_block: dict[tuple[str, int], list[BlockSeen]] = {}
    for one in seen:
        by_block.setdefault((one.part, one.number), []).append(one)
    for (part, number), all_of in by_block.items():
        means = [
            torch.tensor([value for one in all_of for value in values(one)]).mean().item()
            for values in (lambda one: one.separation, lambda one: one.concentration)
        ]
        scores.append(BlockScore(part, number, all_of[0].grid, *means))
    return sorted(scores, key=lambda one: -one.score)


def block_text(chosen: Sequence[BlockScore]) -> str:
    """In the language of AttentionCapture's `blocks`, neighbours joined: "in7-8, out3"."""
    order = list(dict.fromkeys(one.part for one in sorted(chosen, key=lambda one: _PARTS.index(one.part))))
    pieces = []
    for part in order:
        numbers = sorted(one.number for one in chosen if one.part == part)
        for _, neighbours in groupby(enumerate(numbers), lambda place: place[1] - place[0]):
            run = [number for _, number in neighbours]
            end = f"-{run[-1]}" if len(run) > 1 else ""
            pieces.append(block_name(part, run[0]) + end)
    return ", ".join(pieces)


_PARTS = ("input", "middle", "output", "double", "single", "block")


def table(scores: Sequence[BlockScore]) -> str:
    """A monospace listing, the best first."""
    width = max(len("block"), *(len(one.name) for one in scores))
    lines = [f"rank  {'block':<{width}}  score  separation  concentration  maps"]
    for rank, one in enumerate(scores, 1):
        h, w = one.grid
        lines.append(
            f"{rank:4d}  {one.name:<{width}}  {one.score:.3f}  {one.separation:10.3f}  {one.concentration:13.3f}"
            f"  {w} x {h}"
        )
    return "\n".join(lines)

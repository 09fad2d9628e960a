"""Look at every block by itself: how well its maps tell the subjects apart at a step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention.block_scores import concentration, separation
from ..attention.maps import AttentionMaps, subject_maps
from ..losses.objective import Objective
from ..trace import BlockSeen
from .context import Context, Forward
from .intervention import Intervention, Phase


@dataclass(frozen=True)
class BlockProbe(Intervention):
    name = "block probe"
    phase = Phase.LOOK
    changes = False

    def needs(self, objective: Objective) -> frozenset[str]:
        return frozenset({"blocks"})

    def describe(self) -> str:
        return "look at every block's attention maps; nothing is changed"

    def apply(self, latent: Tensor, forwards: tuple[Forward, ...], context: Context) -> Tensor:
        """The same latent; the blocks' scores go into the trace."""
        context.check()
        for forward in forwards:
            with torch.no_grad():
                attention = forward(latent, slice(0, len(latent)))
            for (part, number), probabilities in attention.blocks.items():
                maps = subject_maps(AttentionMaps(probabilities), forward.subjects, context.processing).maps
                apart, dense = separation(maps).tolist(), concentration(maps).tolist()
                grid = (maps.shape[-2], maps.shape[-1])
                context.trace.blocks.append(BlockSeen(context.step, part, number, grid, apart, dense))
        context.progress(1, None)
        return latent

"""What a method without gradients does to attention: a change of the logits between image and text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class LogitEdit:
    """l' = factor * l + bias, for the logits l [B, h w, T] of an image's cells towards a text's columns.

    factor: [T], None = 1; bias: [B, h, w, T] (B may be 1), None = 0. All else keeps its logits: text to text, image
    to image.
    """

    factor: Tensor | None = None
    bias: Tensor | None = None

    def then(self, later: LogitEdit) -> LogitEdit:
        """This edit, then the other."""
        factor, bias = self.factor, self.bias
        if later.factor is not None:
            factor = later.factor if factor is None else factor * later.factor
            bias = None if bias is None else bias * later.factor
        if later.bias is not None:
            bias = later.bias if bias is None else bias + later.bias
        return LogitEdit(factor, bias)

    def repeated(self, copies: int) -> LogitEdit:
        """For a text axis that holds the text several times."""
        if copies == 1:
            return self
        factor = None if self.factor is None else self.factor.repeat(copies)
        return LogitEdit(factor, None if self.bias is None else self.bias.repeat(1, 1, 1, copies))


def on_grid(owners: Tensor, grid: tuple[int, int]) -> Tensor:
    """[B, S, h, w] bool on another grid, each cell as the one that lies in its place."""
    if owners.shape[-2:] == grid:
        return owners
    return F.interpolate(owners.to(torch.float32), grid, mode="nearest") > 0.5

"""From a model call to attention maps: the reports of the layers that are read, averaged."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ...attention.maps import AttentionMaps
from ..errors import GsnError
from ..families import ImageAttention, Layer, TextAttention
from .early_exit import CaptureDone
from .softmax import cell_probabilities, text_probabilities


class Collector:
    """Averages the text attention of the chosen layers over heads and layers, in float32.

    Ends the model call with `CaptureDone` after the layer `last`, so nothing behind it is computed or kept.
    columns: the positions on the text axis that are wanted, None for all; the others stay zero. fine: layers whose
    attention makes `AttentionMaps.fine`, None where that is not wanted. images: make `AttentionMaps.self_rows`.
    apart: layers that make `AttentionMaps.blocks`.
    """

    def __init__(
        self, layers: tuple[Layer, ...], columns: tuple[int, ...] | None = None,
        fine: tuple[Layer, ...] | None = None, images: bool = False, last: tuple | None = None,
        apart: tuple[Layer, ...] = (),
    ):  # fmt: skip
        self.wanted = {layer.key for layer in layers}
        self.fine = None if fine is None else {layer.key for layer in fine}
        self.images = images
        self.last = layers[-1].key if last is None else last
        self.columns = columns
        self.closed = False
        self.found: list[Tensor] = []  # each [B, h, w, T], the mean over that layer's heads
        self.found_fine: list[Tensor] = []
        self.found_images: list[ImageAttention] = []
        self.apart = {layer.key: layer for layer in apart}
        self.found_apart: dict[tuple[str, int], Tensor] = {}  # the sum over a block's layers

    def sink(self, key: tuple, call: TextAttention | ImageAttention) -> None:
        if isinstance(call, ImageAttention):
            if key in self.wanted and not self.closed:
                _refuse_changed_cells(key, call)
                self.found_images.append(call)
            return
        # A recomputed block reports again: it must do the same arithmetic, and nothing more.
        fine = self.fine is not None and key in self.fine
        if key in self.wanted or fine or key in self.apart:
            found = text_probabilities(call, self.columns).unflatten(1, call.grid)
            if not self.closed and (key in self.wanted or fine):
                (self.found_fine if fine else self.found).append(found)
            if not self.closed and key in self.apart:
                block = (self.apart[key].part, self.apart[key].number)
                before = self.found_apart.get(block)
                self.found_apart[block] = found if before is None else before + found
        if key == self.last and not self.closed:
            self.closed = True
            raise CaptureDone

    def maps(self) -> AttentionMaps:
        """Raises GsnError when no layer reported."""
        if not self.found:
            raise GsnError("AttentionCapture: the model call ran through without any of the chosen attention layers")
        if self.images and not self.found_images:
            raise GsnError(
                "AttentionCapture: no chosen layer said how the picture attends to itself, which this loss reads"
            )
        grid = max((one.shape[1:3] for one in self.found), key=lambda g: g[0] * g[1])
        probabilities = sum(_on_grid(one, grid) for one in self.found) / len(self.found)
        fine = None
        if self.fine is not None:  # a model with one size of maps has no finer ones
            nearest = [_on_grid(one, grid, "nearest") for one in self.found_fine]
            fine = sum(nearest) / len(nearest) if nearest else probabilities
        rows = partial(_self_rows, tuple(self.found_images), tuple(grid)) if self.images else None
        layers = [(layer.part, layer.number) for layer in self.apart.values()]
        blocks = {block: found / layers.count(block) for block, found in self.found_apart.items()}
        return AttentionMaps(probabilities, fine, rows, blocks)


def _refuse_changed_cells(key: tuple, call: ImageAttention) -> None:
    cells = call.grid[0] * call.grid[1]
    if call.q.shape[2] != cells or call.k.shape[2] < call.image.stop:
        raise GsnError(
            f"AttentionCapture: another node on this model changed the picture's {cells} cells in block"
            f" {key[0]}{key[1]}, and this loss reads how they attend to each other; leave that node out, or choose"
            " blocks that it spares"
        )


def _self_rows(calls: tuple[ImageAttention, ...], grid: tuple[int, int], cells: Tensor) -> Tensor:
    """AttentionMaps.self_rows: the mean over calls of each one's mean over heads, every one summing to 1."""
    found = [cell_probabilities(call, _on_other_grid(cells, grid, call.grid)) for call in calls]
    found = [rows if rows.shape[2:] == grid else F.interpolate(rows, grid, mode="bilinear") for rows in found]
    return sum(rows / rows.sum((-1, -2), keepdim=True) for rows in found) / len(found)


def _on_other_grid(cells: Tensor, grid: tuple[int, int], other: tuple[int, int]) -> Tensor:
    y, x = cells // grid[1], cells % grid[1]
    return (y * other[0] // grid[0]) * other[1] + x * other[1] // grid[1]


def _on_grid(maps: Tensor, grid: torch.Size, mode: str = "bilinear") -> Tensor:
    """[B, h, w, T] stretched to another grid, for block choices that mix resolutions."""
    if maps.shape[1:3] == grid:
        return maps
    return F.interpolate(maps.permute(0, 3, 1, 2), tuple(grid), mode=mode).permute(0, 2, 3, 1)

"""From a model call to attention maps: which layers count, and stopping once the last of them has spoken."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blocks import parse_blocks
from ..maps import AttentionMaps
from ..plan import CaptureSpec, GsnError
from ..presets import ModelPreset
from .families import Family, Layer, TextAttention


class CaptureDone(Exception):
    """Raised inside the model once the last wanted layer has reported; never leaves the host."""


def choose_layers(family: Family, model: Any, spec: CaptureSpec, preset: ModelPreset) -> tuple[Layer, ...]:
    """The layers to read. Raises GsnError where the model has no such block or resolution."""
    offered = family.layers(model)
    blocks = parse_blocks(preset.blocks) if spec.blocks is None else spec.blocks
    ratio = spec.ratio or (preset.ratio if spec.blocks is None else None)
    chosen = list(offered)
    if spec.blocks is not None:
        for wanted in spec.blocks:
            missing = [n for n in wanted.named()
                       if not any(layer.part == wanted.part and layer.number == n for layer in offered)]  # fmt: skip
            if missing:
                raise GsnError(
                    f"AttentionCapture: the model has no text attention in {wanted.part} block {missing[0]};"
                    f" it has {_offer(offered)}"
                )
    if blocks is not None:
        chosen = [one for one in chosen if any(wanted.holds(one.part, one.number) for wanted in blocks)]
    if ratio is not None:
        chosen = [layer for layer in chosen if abs(layer.ratio - ratio) < 1e-6]
    if not chosen:
        ratios = sorted({f"1/{round(1 / layer.ratio)}" for layer in offered})
        raise GsnError(
            f"AttentionCapture: no text attention at 1/{round(1 / (ratio or 1))} of the latent's size in these"
            f" blocks; the model has {_offer(offered)} at {', '.join(ratios)}"
        )
    return tuple(chosen)


def _offer(layers: tuple[Layer, ...]) -> str:
    seen = dict.fromkeys(f"{layer.part}{layer.number}" for layer in layers)
    return ", ".join(seen)


class Collector:
    """Averages the text attention of the chosen layers over heads and layers, in float32.

    Ends the model call with `CaptureDone` after the last one, so nothing behind it is computed or kept.
    columns: the positions on the text axis that are wanted, None for all; the others stay zero.
    """

    def __init__(self, layers: tuple[Layer, ...], columns: tuple[int, ...] | None = None):
        self.wanted = {layer.key for layer in layers}
        self.last = layers[-1].key
        self.columns = columns
        self.closed = False
        self.found: list[Tensor] = []  # each [B, h, w, T], the mean over that layer's heads

    def sink(self, key: tuple, call: TextAttention) -> None:
        # A recomputed block reports again: it must do the same arithmetic, and nothing more.
        if key in self.wanted:
            found = text_probabilities(call, self.columns).unflatten(1, call.grid)
            if not self.closed:
                self.found.append(found)
        if key == self.last and not self.closed:
            self.closed = True
            raise CaptureDone

    def maps(self) -> AttentionMaps:
        """Raises GsnError when no layer reported."""
        if not self.found:
            raise GsnError("AttentionCapture: the model call ran through without any of the chosen attention layers")
        grid = max((one.shape[1:3] for one in self.found), key=lambda g: g[0] * g[1])
        total = sum(_on_grid(one, grid) for one in self.found)
        return AttentionMaps(total / len(self.found))


def text_probabilities(call: TextAttention, columns: tuple[int, ...] | None = None) -> Tensor:
    """The text columns of softmax(q k^T), mean over heads: [B, N, T] float32; nothing of size N x N is formed."""
    q, k = call.q.float(), call.k.float()
    length = call.text.stop - call.text.start
    if k.shape[2] == length and call.mask is None:
        return ((q @ k.transpose(-1, -2)) * call.scale).softmax(-1).mean(1)
    wanted = torch.arange(length, device=q.device) if columns is None else torch.tensor(columns, device=q.device)
    found = _columns(q, k, wanted + call.text.start, call.scale, call.mask)
    return found if columns is None else q.new_zeros(*found.shape[:2], length).index_copy(-1, wanted, found)


def _columns(q: Tensor, k: Tensor, index: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """softmax(q k^T)[..., index], mean over heads, by fused attention whose values are one-hot vectors."""
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(q.dtype)
    size, found = q.shape[-1], []
    for some in index.split(size):
        values = q.new_zeros(k.shape[2], size)
        values[some, torch.arange(len(some), device=q.device)] = 1
        out = F.scaled_dot_product_attention(q, k, values.expand(*k.shape[:2], -1, -1), attn_mask=mask, scale=scale)
        found.append(out[..., : len(some)].mean(1))
    return torch.cat(found, -1)


def _on_grid(maps: Tensor, grid: torch.Size) -> Tensor:
    """[B, h, w, T] stretched to another grid, for block choices that mix resolutions."""
    if maps.shape[1:3] == grid:
        return maps
    return F.interpolate(maps.permute(0, 3, 1, 2), tuple(grid), mode="bilinear").permute(0, 2, 3, 1)

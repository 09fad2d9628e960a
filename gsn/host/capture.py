"""From a model call to attention maps: which layers count, and stopping once the last of them has spoken."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..maps import AttentionMaps
from ..plan import CaptureSpec, GsnError
from ..presets import ModelPreset
from .families import Family, Layer


class CaptureDone(Exception):
    """Raised inside the model once the last wanted layer has reported; never leaves the host."""


def choose_layers(family: Family, model: Any, spec: CaptureSpec, preset: ModelPreset) -> tuple[Layer, ...]:
    """The layers to read. Raises GsnError where the model has no such block or resolution."""
    offered = family.layers(model)
    ratio = spec.ratio or (preset.ratio if spec.blocks is None else None)
    chosen = list(offered)
    if spec.blocks is not None:
        for wanted in spec.blocks:
            missing = [n for n in range(wanted.first, wanted.last + 1)
                       if not any(layer.part == wanted.part and layer.number == n for layer in offered)]  # fmt: skip
            if missing:
                raise GsnError(
                    f"AttentionCapture: the model has no text attention in {wanted.part} block {missing[0]};"
                    f" it has {_offer(offered)}"
                )
        chosen = [one for one in chosen if any(wanted.holds(one.part, one.number) for wanted in spec.blocks)]
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
    """

    def __init__(self, layers: tuple[Layer, ...]):
        self.wanted = {layer.key for layer in layers}
        self.last = layers[-1].key
        self.found: list[Tensor] = []  # each [B, h, w, T], the mean over that layer's heads

    def sink(self, key: tuple, q: Tensor, k: Tensor, heads: int, grid: tuple[int, int]) -> None:
        if key in self.wanted:
            self.found.append(text_probabilities(q, k, heads).unflatten(1, grid))
        if key == self.last:
            raise CaptureDone

    def maps(self) -> AttentionMaps:
        """Raises GsnError when no layer reported."""
        if not self.found:
            raise GsnError("AttentionCapture: the model call ran through without any of the chosen attention layers")
        grid = max((one.shape[1:3] for one in self.found), key=lambda g: g[0] * g[1])
        total = sum(_on_grid(one, grid) for one in self.found)
        return AttentionMaps(total / len(self.found))


def text_probabilities(q: Tensor, k: Tensor, heads: int) -> Tensor:
    """softmax over the text keys, mean over heads: q [B, N, H d], k [B, T, H d] -> [B, N, T] float32."""
    q = q.float().unflatten(-1, (heads, -1)).transpose(1, 2)
    k = k.float().unflatten(-1, (heads, -1)).transpose(1, 2)
    return ((q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5).softmax(-1).mean(1)


def _on_grid(maps: Tensor, grid: torch.Size) -> Tensor:
    """[B, h, w, T] stretched to another grid, for block choices that mix resolutions."""
    if maps.shape[1:3] == grid:
        return maps
    return F.interpolate(maps.permute(0, 3, 1, 2), tuple(grid), mode="bilinear").permute(0, 2, 3, 1)

"""Which attention layers of a model are read, and the grid of the maps they give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...attention.block_ranges import parse_blocks
from ...methods.model_presets import ModelPreset
from ...methods.plan import CaptureSpec
from ..errors import GsnError
from ..families import Family, Layer


def choose_layers(family: Family, model: Any, spec: CaptureSpec, preset: ModelPreset) -> tuple[Layer, ...]:
    """The layers to read. Raises GsnError where the model has no such block or resolution."""
    offered = family.layers(model)
    blocks = parse_blocks(preset.blocks) if spec.blocks is None else spec.blocks
    ratio = spec.ratio or (preset.ratio if spec.blocks is None else None)
    chosen = list(offered)
    if spec.blocks is not None:
        for wanted in spec.blocks:
            there = [layer.number for layer in offered if layer.part == wanted.part]
            missing = [f" block {n}" for n in wanted.named() if n not in there] or ([] if there else [" blocks"])
            if missing:
                raise GsnError(
                    f"AttentionCapture: the model has no text attention in {wanted.part}{missing[0]};"
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


def check_images(origin: str, needs: frozenset[str], layers: tuple[Layer, ...], offered: Sequence[Layer]) -> None:
    """Raises GsnError where rows of self-attention are asked of layers that have none."""
    if "self_rows" in needs and not any(layer.image for layer in layers):
        raise GsnError(
            f"{origin}: its loss reads how the picture attends to itself, and in {_offer(layers)} it does not; have"
            f" AttentionCapture read others of this model: {_offer(tuple(one for one in offered if one.image))}"
        )


def grid_of(layers: tuple[Layer, ...], latent: Sequence[int]) -> tuple[int, int]:
    """(h, w) of the maps that `Collector` will make of a latent of this shape, [..., h, w]: networks round up."""
    cell = round(1 / max(layer.ratio for layer in layers))
    return -(-latent[-2] // cell), -(-latent[-1] // cell)


def finer_layers(offered: tuple[Layer, ...], layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Those of the offered that see more detail than any of these."""
    finest = max(layer.ratio for layer in layers)
    return tuple(layer for layer in offered if layer.ratio > finest * (1 + 1e-6))


def _offer(layers: tuple[Layer, ...]) -> str:
    seen = dict.fromkeys(f"{layer.part}{layer.number}" for layer in layers)
    return ", ".join(seen)

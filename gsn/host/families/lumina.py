"""Lumina 2 and Z-Image: one stream, text first, rotary positions.

Refiner blocks see text or image alone and do not count. Z-Image fills text and image up to multiples of 32,
each behind its own tokens. With reference images (Omni) the text is no longer the sequence's beginning: those
calls are longer and do not match. Checked with comfy/ldm/lumina/model.py, `patchify_and_embed`, of ComfyUI 0.30.0.
"""

from typing import Any

from .joint import Joint


def _behind_padding(network: Any, queries: int, keys: int, text: int, image: int) -> tuple[int, int] | None:
    multiple = network.pad_tokens_multiple or 1
    padded = [-(-length // multiple) * multiple for length in (text, image)]
    return (0, padded[0]) if queries == keys == sum(padded) else None


LUMINA = Joint(
    title="Lumina 2, Z-Image",
    kinds=(("Lumina2", "transformer"), ("ZImagePixelSpace", "transformer")),
    parts=lambda network: [("block", network.layers)],
    patch=lambda network: network.patch_size,
    where=_behind_padding,
    kept={"block": 3.1},
)

FAMILIES = (LUMINA,)

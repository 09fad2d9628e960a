"""Flux.1, Chroma, LongCat-Image and Flux.2: double blocks, then single blocks, text first, rotary positions.

Flux.1's CLIP gives the pooled vector alone; the text axis is T5's (Chroma's too). Reference images (Kontext)
follow the image's tokens. Flux.2 fills its text up to 512 columns from the front, in its `extra_conds`. Checked
with comfy/ldm/flux/model.py and layers.py, comfy/ldm/chroma/model.py of ComfyUI 0.30.0.
"""

from typing import Any

from .joint import Joint


def _parts(network: Any):
    return [("double", network.double_blocks), ("single", network.single_blocks)]


def _patch(network: Any) -> int:
    return network.patch_size


def _filled_up(text: int) -> int:
    return max(512, text)


def _behind_filling(network: Any, queries: int, keys: int, text: int, image: int) -> tuple[int, int] | None:
    given = _filled_up(text)
    return (given - text, given) if keys >= queries >= given + image else None


FLUX = Joint(
    title="Flux.1, Chroma, LongCat-Image",
    kinds=(("Flux", "flux"), ("Chroma", "flux"), ("ChromaRadiance", "flux"), ("LongCatImage", "flux")),
    parts=_parts,
    patch=_patch,
    counts_references=True,
    kept={"double": 1.18, "single": 2.8},
)
FLUX2 = Joint(
    title="Flux.2", kinds=(("Flux2", "flux"),), parts=_parts, patch=_patch,
    where=_behind_filling, given=_filled_up, counts_references=True,
    kept={"double": 1.22, "single": 2.95},
)  # fmt: skip

FAMILIES = (FLUX, FLUX2)

"""Cosmos-Predict2 text to image and Anima: cross-attention from the image to the text in every block, after
self-attention.

Anima's adapter writes one column for each T5 token, before sampling, and fills up to 512 columns from the back;
Qwen's columns, from which it makes them, may be more or fewer.
Checked with comfy/ldm/cosmos/predict2.py and comfy/ldm/anima/model.py, `preprocess_text_embeds`, of ComfyUI 0.30.0.
"""

from typing import Any

from .family import tokens_brought
from .joint import Joint, cross, cross_first


class _Cosmos(Joint):
    def preset_name(self, model: Any) -> str | None:
        return None if getattr(model, "image_to_video", False) else super().preset_name(model)


def _parts(network: Any):
    return [("block", network.blocks)]


def _patch(network: Any) -> int:
    return network.patch_spatial


def _written(entry: dict) -> int:
    ids = entry.get("t5xxl_ids")
    return tokens_brought(entry) if ids is None else ids.shape[-1]


COSMOS = _Cosmos(
    title="Cosmos-Predict2 (text to image)", kinds=(("CosmosPredict2", "cosmos"),), parts=_parts, patch=_patch,
    where=cross, call=1, kept={"block": 2.2},
)  # fmt: skip
ANIMA = Joint(
    title="Anima", kinds=(("Anima", "transformer"),), parts=_parts, patch=_patch,
    where=cross_first, call=1, brought=_written, kept={"block": 2.2},
)  # fmt: skip

FAMILIES = (COSMOS, ANIMA)

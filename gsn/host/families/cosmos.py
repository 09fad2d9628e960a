"""Cosmos-Predict2 text to image: cross-attention from the image to the text in every block, after self-attention.

Checked with comfy/ldm/cosmos/predict2.py of ComfyUI 0.30.0.
"""

from typing import Any

import comfy.model_base as known

from .joint import Joint, cross


class _Cosmos(Joint):
    def preset_name(self, model: Any) -> str | None:
        return None if getattr(model, "image_to_video", False) else super().preset_name(model)


COSMOS = _Cosmos(
    title="Cosmos-Predict2 (text to image)",
    kinds=((known.CosmosPredict2, "cosmos"),),
    parts=lambda network: [("block", network.blocks)],
    patch=lambda network: network.patch_spatial,
    where=cross,
    call=1,
)

"""Qwen-Image and Mage-Flow: double blocks, text first, rotary positions; 5-D latents of one frame
(Mage-Flow: ordinary ones, whose cells are its tokens).

Reference images (Edit) follow the image's tokens. Checked with comfy/ldm/qwen_image/model.py of ComfyUI 0.30.0.
"""

from .joint import Joint

QWEN_IMAGE = Joint(
    title="Qwen-Image, Mage-Flow",
    kinds=(("QwenImage", "transformer"), ("MageFlow", "transformer")),
    parts=lambda network: [("block", network.transformer_blocks)],
    patch=lambda network: network.patch_size,
    kept={"block": 1.13},
)

FAMILIES = (QWEN_IMAGE,)

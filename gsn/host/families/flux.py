"""Flux.1 dev and schnell: double blocks, then single blocks, T5 text first, rotary positions.

CLIP gives the pooled vector alone. Reference images (Kontext) follow the image's tokens. Checked with
comfy/ldm/flux/model.py and layers.py of ComfyUI 0.30.0.
"""

import comfy.model_base as known

from .joint import Joint

FLUX = Joint(
    title="Flux.1",
    kinds=((known.Flux, "flux"),),
    parts=lambda network: [("double", network.double_blocks), ("single", network.single_blocks)],
    patch=lambda network: network.patch_size,
)

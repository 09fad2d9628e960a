"""ERNIE-Image: one stream, image first; the latent's cells are its tokens.

Checked with comfy/ldm/ernie/model.py of ComfyUI 0.30.0.
"""

from .joint import Joint, image_first

ERNIE_IMAGE = Joint(
    title="ERNIE-Image",
    kinds=(("ErnieImage", "transformer"),),
    parts=lambda network: [("block", network.layers)],
    patch=lambda network: network.patch_size,
    where=image_first,
    silent="comfy.ldm.ernie.model",
    kept={"block": 2.5},
)

FAMILIES = (ERNIE_IMAGE,)

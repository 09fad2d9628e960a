"""Lens and JoyImage: double blocks that put the image first and the text behind it.

Lens takes the latent's cells as its tokens; JoyImage's reference images would stand between image and text, and
such a run is refused for want of maps. Checked with comfy/ldm/lens/model.py and comfy/ldm/joyimage/model.py of
ComfyUI 0.30.0.
"""

from .joint import Joint, image_first

LENS = Joint(
    title="Lens",
    kinds=(("Lens", "transformer"),),
    parts=lambda network: [("block", network.transformer_blocks)],
    patch=lambda network: 1,
    where=image_first,
    kept={"block": 1.28},
)
JOYIMAGE = Joint(
    title="JoyImage",
    kinds=(("JoyImage", "transformer"),),
    parts=lambda network: [("block", network.double_blocks)],
    patch=lambda network: network.patch_size[-1],
    where=image_first,
    kept={"block": 1.14},
)

FAMILIES = (JOYIMAGE, LENS)

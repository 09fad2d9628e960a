"""SD3, SD3.5 medium and large: MM-DiT, text first, no rotary positions.

The text axis is CLIP (77 a chunk), then T5; either may be absent. SD3.5-medium's second attention of a
block sees the image alone. Checked with comfy/ldm/modules/
diffusionmodules/mmdit.py, `_block_mixing`, of ComfyUI 0.30.0.
"""

from .joint import Joint

SD3 = Joint(
    title="SD3, SD3.5",
    kinds=(("SD3", "sd3"),),
    parts=lambda network: [("block", network.joint_blocks)],
    patch=lambda network: network.patch_size,
    call=0,
    kept={"block": 1.2},
)

FAMILIES = (SD3,)

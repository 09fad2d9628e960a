"""HunyuanImage 2.1: double, then single blocks; text, glyph text (byT5), image.

The token refiner of the text sees text alone and does not count. Checked with comfy/ldm/hunyuan_video/model.py,
`forward_orig`, of ComfyUI 0.30.0.
"""

from .joint import Joint, image_last

HUNYUAN_IMAGE = Joint(
    title="HunyuanImage 2.1",
    kinds=(("HunyuanImage21", "transformer"),),
    parts=lambda network: [("double", network.double_blocks), ("single", network.single_blocks)],
    patch=lambda network: network.patch_size[-1],
    where=image_last,
    kept={"double": 1.17, "single": 2.79},
)

FAMILIES = (HUNYUAN_IMAGE,)

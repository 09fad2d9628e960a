"""OmniGen 2: one stream of text, reference images, image; refiner blocks see one of them and do not count.

Checked with comfy/ldm/omnigen/omnigen2.py, `forward`, of ComfyUI 0.30.0.
"""

from .joint import Joint, image_last

OMNIGEN2 = Joint(
    title="OmniGen 2",
    kinds=(("Omnigen2", "transformer"),),
    parts=lambda network: [("block", network.layers)],
    patch=lambda network: network.patch_size,
    where=image_last,
    kept={"block": 2.2},
)

FAMILIES = (OMNIGEN2,)

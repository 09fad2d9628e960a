"""Boogu: double blocks, then single blocks; text, reference images, image.

A double block's second attention sees the images alone. Checked with comfy/ldm/boogu/model.py of ComfyUI 0.30.0.
"""

from .joint import Joint, image_last

BOOGU = Joint(
    title="Boogu",
    kinds=(("Boogu", "transformer"),),
    parts=lambda network: [("double", network.double_stream_layers), ("single", network.single_stream_layers)],
    patch=lambda network: network.patch_size,
    where=image_last,
    call=0,
    kept={"double": 1.06, "single": 2.15},
)

FAMILIES = (BOOGU,)

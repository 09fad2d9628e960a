"""HiDream I1: double, then single blocks; image, T5, Llama's last layer, Llama's layer of this block.

The conditioning's text axis is T5's; Llama's columns travel beside it and are not read. Its experts run by the
branch that autograd can follow. Checked with comfy/ldm/hidream/model.py of ComfyUI 0.30.0, `_forward` and
`MOEFeedForwardSwiGLU.forward`.
"""

from .joint import Joint, image_then_texts

HIDREAM = Joint(
    title="HiDream I1",
    kinds=(("HiDream", "transformer"),),
    parts=lambda network: [("double", network.double_stream_blocks), ("single", network.single_stream_blocks)],
    patch=lambda network: network.patch_size,
    where=image_then_texts,
    kept={"double": 0.88, "single": 1.22},
)

FAMILIES = (HIDREAM,)

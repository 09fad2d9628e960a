"""Kandinsky 5 Image: cross-attention from the image to the text in every visual block, after
self-attention.

Checked with comfy/ldm/kandinsky5/model.py of ComfyUI 0.30.0.
"""

from .joint import Joint, cross

KANDINSKY5 = Joint(
    title="Kandinsky 5 Image",
    kinds=(("Kandinsky5Image", "transformer"),),
    parts=lambda network: [("block", network.visual_transformer_blocks)],
    patch=lambda network: network.patch_size[-1],
    where=cross,
    call=1,
    kept={"block": 1.56},
)

FAMILIES = (KANDINSKY5,)

"""PixArt Alpha and Sigma: cross-attention from the image to the text in every block, after self-attention.

The text's T5 columns are as many as its tokens, without filling. Checked with comfy/ldm/pixart/pixartms.py and
blocks.py of ComfyUI 0.30.0.
"""

from .joint import Joint, cross

PIXART = Joint(
    title="PixArt Alpha, PixArt Sigma",
    kinds=(("PixArt", "ddpm transformer"),),
    parts=lambda network: [("block", network.blocks)],
    patch=lambda network: network.patch_size,
    where=cross,
    call=1,
    silent="comfy.ldm.pixart.blocks",
    kept={"block": 1.66},
)

FAMILIES = (PIXART,)

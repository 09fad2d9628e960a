"""PixelDiT text to image: joint blocks over patches of pixels, text first; at most 300 text tokens reach the model.

The blocks behind them work on pixels, without text, and do not count. Checked with comfy/ldm/pixeldit/model.py of
ComfyUI 0.30.0.
"""

from .joint import Joint

PIXELDIT = Joint(
    title="PixelDiT",
    kinds=(("PixelDiTT2I", "transformer"),),
    parts=lambda network: [("block", network.patch_blocks)],
    patch=lambda network: network.patch_size,
    most=lambda network: network.txt_max_length,
    kept={"block": 1.34},
)

FAMILIES = (PIXELDIT,)

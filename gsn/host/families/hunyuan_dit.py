"""HunyuanDiT 1.0 to 1.2: cross-attention from the image to the text in every block, after self-attention.

Two encoders read the prompt. The conditioning's text axis is BERT's; mT5's columns stand behind it, inside the
model alone, and are not read. Checked with comfy/ldm/hydit/models.py and attn_layers.py of ComfyUI 0.30.0.
"""

from .joint import Joint, cross_first

HUNYUAN_DIT = Joint(
    title="HunyuanDiT",
    kinds=(("HunyuanDiT", "ddpm transformer"),),
    parts=lambda network: [("block", network.blocks)],
    patch=lambda network: network.patch_size,
    where=cross_first,
    call=1,
    silent="comfy.ldm.hydit.attn_layers",
    kept={"block": 1.7},
)

FAMILIES = (HUNYUAN_DIT,)

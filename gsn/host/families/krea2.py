"""Krea 2: one stream, text first, grouped queries. Its text-fusion blocks see text alone and do not count.

Checked with comfy/ldm/krea2/model.py, `_forward`, of ComfyUI 0.30.0.
"""

from .joint import Joint

KREA2 = Joint(
    title="Krea 2",
    kinds=(("Krea2", "transformer"),),
    parts=lambda network: [("block", network.blocks)],
    patch=lambda network: network.patch,
    kept={"block": 2.6},
)

FAMILIES = (KREA2,)

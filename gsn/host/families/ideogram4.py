"""Ideogram 4: one stream, text first; the latent's cells are its tokens.

Checked with comfy/ldm/ideogram4/model.py, `_run_conditional`, of ComfyUI 0.30.0.
"""

from .joint import Joint

IDEOGRAM4 = Joint(
    title="Ideogram 4",
    kinds=(("Ideogram4", "transformer"),),
    parts=lambda network: [("block", network.layers)],
    patch=lambda network: 1,
    kept={"block": 3.1},
)

FAMILIES = (IDEOGRAM4,)

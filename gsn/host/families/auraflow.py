"""AuraFlow: double, then single blocks; register tokens, text, image.

Checked with comfy/ldm/aura/mmdit.py, `_forward`, of ComfyUI 0.30.0.
"""

from .joint import Joint, image_last


def _behind_registers(network, queries, keys, text, image):
    found = image_last(network, queries, keys, text, image)
    return None if found is None else (network.register_tokens.shape[1], found[1])


AURAFLOW = Joint(
    title="AuraFlow",
    kinds=(("AuraFlow", "transformer"),),
    parts=lambda network: [("double", network.double_layers), ("single", network.single_layers)],
    patch=lambda network: network.patch_size,
    where=_behind_registers,
    kept={"double": 1.07, "single": 2.28},
)

FAMILIES = (AURAFLOW,)

"""Boogu: double blocks, then single blocks, text first.

A double block's second attention sees the images alone. With reference images it may be as long as text and
image together, so only calls of exactly that length count: such a run is refused for want of maps. Checked with
comfy/ldm/boogu/model.py of ComfyUI 0.30.0.
"""

import comfy.model_base as known

from .joint import Joint


def _text_and_image(network, queries, keys, text, image):
    return (0, text) if queries == keys == text + image else None


BOOGU = Joint(
    title="Boogu",
    kinds=((known.Boogu, "transformer"),),
    parts=lambda network: [("double", network.double_stream_layers), ("single", network.single_stream_layers)],
    patch=lambda network: network.patch_size,
    where=_text_and_image,
)

"""Which kinds of model are known, and what is known of each. One file per family, one line here."""

from __future__ import annotations

from typing import Any

from ...plan import GsnError
from .family import Block, Family, Layer, Position, TextAttention
from .flux import FLUX, FLUX2
from .lumina import LUMINA
from .qwen_image import QWEN_IMAGE
from .sd3 import SD3
from .unet import UNET

FAMILIES: tuple[Family, ...] = (UNET, SD3, FLUX, FLUX2, LUMINA, QWEN_IMAGE)

__all__ = ["FAMILIES", "Block", "Family", "Layer", "Position", "TextAttention", "family_of"]


def family_of(model: Any, origin: str) -> Family:
    """The family of a `comfy.model_base.BaseModel`. Raises GsnError, listing the known ones."""
    for family in FAMILIES:
        if family.preset_name(model) is not None:
            return family
    known = "; ".join(family.title for family in FAMILIES)
    kind = type(getattr(model, "model_config", model)).__name__
    raise GsnError(f"{origin}: models of kind '{kind}' are not supported yet. Supported: {known}.")

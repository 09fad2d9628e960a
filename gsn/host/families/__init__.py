"""Which kinds of model are known, and what is known of each: a file per family.

A new one is a file here, which ends in its FAMILIES, and its name in FILES.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import GsnError
from .family import Block, Family, ImageAttention, Layer, Position, TextAttention
from .refused import refusal

# The first that recognises a model is its family.
FILES = (
    "unet",
    "sd3",
    "flux",
    "lumina",
    "qwen_image",
    "auraflow",
    "boogu",
    "cosmos",
    "ernie",
    "hidream",
    "hunyuan_dit",
    "hunyuan_image",
    "ideogram4",
    "kandinsky5",
    "krea2",
    "lens",
    "omnigen2",
    "pixart",
    "pixeldit",
)
FAMILIES: tuple[Family, ...] = tuple(
    family for file in FILES for family in import_module(f".{file}", __name__).FAMILIES
)

__all__ = ["FAMILIES", "Block", "Family", "ImageAttention", "Layer", "Position", "TextAttention", "family_of"]


def family_of(model: Any, origin: str) -> Family:
    """The family of a `comfy.model_base.BaseModel`. Raises GsnError, listing the known ones."""
    for family in FAMILIES:
        if family.preset_name(model) is not None:
            return family
    kind = type(model).__name__
    reason = refusal(model)
    if reason is not None:
        raise GsnError(f"{origin}: models of kind '{kind}' are not supported: {reason}. Supported: {_known()}.")
    raise GsnError(f"{origin}: models of kind '{kind}' are not supported yet. Supported: {_known()}.")


def _known() -> str:
    return "; ".join(family.title for family in FAMILIES)

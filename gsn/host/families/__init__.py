"""Which kinds of model are known, and what is known of each. One file per family, one line here."""

from __future__ import annotations

from typing import Any

from ..errors import GsnError
from .auraflow import AURAFLOW
from .boogu import BOOGU
from .cosmos import ANIMA, COSMOS
from .ernie import ERNIE_IMAGE
from .family import Block, Family, ImageAttention, Layer, Position, TextAttention
from .flux import FLUX, FLUX2
from .hidream import HIDREAM
from .hunyuan_dit import HUNYUAN_DIT
from .hunyuan_image import HUNYUAN_IMAGE
from .ideogram4 import IDEOGRAM4
from .kandinsky5 import KANDINSKY5
from .krea2 import KREA2
from .lens import JOYIMAGE, LENS
from .lumina import LUMINA
from .omnigen2 import OMNIGEN2
from .pixart import PIXART
from .pixeldit import PIXELDIT
from .qwen_image import QWEN_IMAGE
from .refused import refusal
from .sd3 import SD3
from .unet import UNET

FAMILIES: tuple[Family, ...] = (
    UNET,
    SD3,
    FLUX,
    FLUX2,
    LUMINA,
    QWEN_IMAGE,
    AURAFLOW,
    BOOGU,
    COSMOS,
    ANIMA,
    ERNIE_IMAGE,
    HIDREAM,
    HUNYUAN_DIT,
    HUNYUAN_IMAGE,
    IDEOGRAM4,
    KANDINSKY5,
    KREA2,
    JOYIMAGE,
    LENS,
    OMNIGEN2,
    PIXART,
    PIXELDIT,
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

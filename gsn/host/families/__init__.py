"""Which kinds of model are known, and what is known of each. One file per family, one line here."""

from __future__ import annotations

from typing import Any

from ...plan import GsnError
from .family import Family, Layer
from .unet import UNET

FAMILIES: tuple[Family, ...] = (UNET,)

__all__ = ["FAMILIES", "Family", "Layer", "family_of"]


def family_of(model: Any, origin: str) -> Family:
    """The family of a `comfy.model_base.BaseModel`. Raises GsnError, listing the known ones."""
    for family in FAMILIES:
        if family.preset_name(model) is not None:
            return family
    known = "; ".join(family.title for family in FAMILIES)
    kind = type(getattr(model, "model_config", model)).__name__
    raise GsnError(f"{origin}: models of kind '{kind}' are not supported yet. Supported: {known}.")

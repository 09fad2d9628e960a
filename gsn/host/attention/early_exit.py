"""The early exit: a model call ends after the last attention layer that is read, so nothing behind it is computed."""

from __future__ import annotations

from collections.abc import Sequence

from ..families import Layer
from .layers import finer_layers


class CaptureDone(Exception):
    """Raised inside the model once the last wanted layer has reported; never leaves the host."""


def last_layer(offered: Sequence[Layer], layers: tuple[Layer, ...], needs: frozenset[str]) -> tuple:
    """Key of the layer after which a call may end that reads these, and what else is needed: see `AttentionMaps`."""
    if "blocks" in needs:
        return offered[-1].key
    read = layers + finer_layers(tuple(offered), layers) if "fine" in needs else layers
    return next(layer.key for layer in reversed(offered) if layer in read)

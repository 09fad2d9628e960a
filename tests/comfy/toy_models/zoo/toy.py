"""What one toy of the zoo is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Toy:
    """base: ComfyUI's supported_models class; config: what its detection would have found, made tiny.

    width: channels of the text; streams: ((name, columns), ...); extras: (generator, columns) -> further entries of
    the conditioning's dict; text_at: (text length) -> (first text key, first image query), "behind" where the text
    follows the image. cross: (text length) -> keys of the cross-attention, where text and image do not share one.
    patch: latent cells per map cell and side, of the maps that the family's preset reads. neutral_scale: a norm's
    `scale` when it does nothing.
    calls: how many attention calls of one pass are text meeting image, found by reading the model.
    residual: factor on a UNet's weights that write into what goes on from block to block; where there are many blocks,
    random ones of full size amplify every rounding, as trained ones do not.
    silent: the Python module whose attention calls pass no options. state: what its class looks for in a
    checkpoint. smaller: (owner, name, what stands there while the model is made), for sizes that no config reaches.
    """

    base: type
    config: dict
    width: int
    calls: int
    streams: tuple = (("t5", 20),)
    extras: Any = field(default=lambda generator, columns: {})
    text_at: Any = field(default=lambda text: (0, text))
    patch: int = 2
    residual: float = 1.0
    neutral_scale: float = 1.0
    cross: Callable[[int], int] | None = None
    silent: ModuleType | None = None
    state: dict = field(default_factory=dict)
    smaller: tuple[Any, str, Any] | None = None

"""What one toy transformer is."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Toy:
    """base: ComfyUI's supported_models class; config: what its detection would have found, made tiny.

    width: channels of the text; streams: ((name, columns), ...); extras: (generator, columns) -> further entries of
    the conditioning's dict; text_at: (text length) -> (first text key, first image query), None for
    cross-attention, "behind" where the text follows the image. neutral_scale: a norm's `scale` when it does
    nothing.
    calls: how many attention calls of one pass are text meeting image, found by reading the model.
    """

    base: type
    config: dict
    width: int
    calls: int
    streams: tuple = (("t5", 20),)
    extras: Any = field(default=lambda generator, columns: {})
    text_at: Any = field(default=lambda text: (0, text))
    patch: int = 2
    neutral_scale: float = 1.0

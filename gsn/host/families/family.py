"""What a family file must state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

# sink(layer key, queries [B, N, heads * d], text keys [B, T, heads * d], heads, (h, w))
Sink = Callable[[tuple, Tensor, Tensor, int, tuple[int, int]], None]


@dataclass(frozen=True)
class Layer:
    """One attention call where text meets image, in execution order.

    key: the call's address; part, number: as in the block language; ratio: its grid / the latent's grid.
    """

    key: tuple
    part: str
    number: int
    ratio: float


class Family(Protocol):
    title: str

    def preset_name(self, model: Any) -> str | None:
        """Key into MODEL_PRESETS, or None where the model is not of this family."""

    def layers(self, model: Any) -> tuple[Layer, ...]: ...

    def attach(self, model_options: dict, sink: Sink) -> None:
        """Make every call of `layers` report to the sink, in this clone of the model options only."""

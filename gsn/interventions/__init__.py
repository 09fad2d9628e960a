"""What may happen to the latent at a step: one file each, a dataclass of parameters with `apply`.

`apply(latent, forwards, context) -> latent` knows no ComfyUI. `latent` is [B, C, h, w] float32 in the
papers' VP scale; each forward maps such a latent to `AttentionMaps` that autograd can go through.
"""

from typing import Protocol

from torch import Tensor

from ..losses import Objective
from .context import Context, Forward, History, NoiseLevel
from .distribution import Distribution
from .guide import Guide
from .init_noise import InitNoise
from .observe import Observe
from .refine import Refine


class Intervention(Protocol):
    """name: as the trace calls it; evaluations: model calls it announces to the progress bar."""

    name: str

    @property
    def idle(self) -> bool:
        """It would do nothing, so that nothing needs to be opened for it."""
        ...

    @property
    def evaluations(self) -> int: ...

    @property
    def gradients(self) -> int:
        """How many of them take a gradient, at most."""
        ...

    def check(self, objective: Objective) -> None:
        """Raise ValueError for parameters that cannot work."""

    def describe(self) -> str:
        """Its parameters in plain words."""
        ...

    def apply(self, latent: Tensor, forwards: tuple[Forward, ...], context: Context) -> Tensor: ...


# those that a preset may hold
INTERVENTIONS: dict[str, type] = {one.name: one for one in (Distribution, InitNoise, Refine, Guide)}

__all__ = [
    "INTERVENTIONS",
    "Context",
    "Distribution",
    "Forward",
    "Guide",
    "History",
    "InitNoise",
    "Intervention",
    "NoiseLevel",
    "Observe",
    "Refine",
]

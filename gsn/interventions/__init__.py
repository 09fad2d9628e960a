"""What may happen to the latent at a step: one file each, a dataclass of parameters with `apply`.

`apply(latent, forwards, context) -> latent` knows no ComfyUI. `latent` is [B, C, h, w] float32 in the
papers' VP scale; each forward maps such a latent to `AttentionMaps` that autograd can go through.
"""

from typing import Protocol

from ..losses import Objective
from .block_probe import BlockProbe
from .context import Context, Forward, History, NoiseLevel
from .distribution import Distribution
from .guide import Guide
from .init_noise import InitNoise
from .observe import Observe
from .refine import Refine
from .reweight import Reweight
from .temperature import Temperature


class Intervention(Protocol):
    """name: as the trace calls it; evaluations: model calls it announces to the progress bar.

    reads_maps: it has `apply`. edits: it has `edit(subjects, length, owners)`, what to do to the attention of the
    ordinary model calls at its steps. draws_noise: it takes fresh noise from its context, and has
    `warnings(level, first, noise)` for the runs that this does not suit. needs_subjects: it can do nothing without
    `Subjects`.
    """

    name: str
    reads_maps: bool
    edits: bool
    draws_noise: bool

    @property
    def needs_subjects(self) -> bool: ...

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


_PRESET = (Distribution, InitNoise, Refine, Guide, Temperature, Reweight)
INTERVENTIONS: dict[str, type] = {one.name: one for one in _PRESET}  # those that a preset may hold

__all__ = [
    "INTERVENTIONS",
    "BlockProbe",
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
    "Reweight",
    "Temperature",
]

"""What may happen to the latent at a step: one file each, a dataclass of parameters with `apply`.

`apply(latent, forwards, context) -> latent` knows no ComfyUI. `latent` is [B, C, h, w] float32 in the
papers' VP scale; each forward maps such a latent to `AttentionMaps` that autograd can go through.
"""

from .context import Context, Forward, History, NoiseLevel
from .distribution import Distribution
from .guide import Guide
from .init_noise import InitNoise
from .observe import Observe
from .refine import Refine

Intervention = Observe | Distribution | InitNoise | Refine | Guide

__all__ = [
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

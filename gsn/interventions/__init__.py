"""What may happen to the latent at a step: one file each, a dataclass of parameters with `apply`.

`apply(latent, forwards, context) -> latent` knows no ComfyUI. `latent` is [B, C, h, w] float32 in the
papers' VP scale; each forward maps such a latent to `AttentionMaps` that autograd can go through.
"""

from .context import Context, Forward, History, NoiseLevel
from .guide import Guide
from .observe import Observe
from .refine import Refine

__all__ = ["Context", "Forward", "Guide", "History", "NoiseLevel", "Observe", "Refine"]

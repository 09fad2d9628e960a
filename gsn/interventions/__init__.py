"""What may happen to the latent at a step: one file each, a dataclass of parameters with `apply`.

`apply(latent, forwards, context) -> latent` knows no ComfyUI. `latent` is [B, C, h, w] float32 in the
papers' VP scale; each forward maps such a latent to `AttentionMaps` that autograd can go through.

gradients: it takes gradients. reads_maps: it has `apply`. edits: it has `edit(subjects, length, owners)`, what to do
to the attention of the ordinary model calls at its steps. needs_subjects: it can do nothing without `Subjects`.
"""

from .block_probe import BlockProbe
from .context import Context, Forward, History, NoiseLevel
from .guide import Guide
from .observe import Observe
from .refine import Refine
from .reweight import Reweight
from .temperature import Temperature

__all__ = [
    "BlockProbe",
    "Context",
    "Forward",
    "Guide",
    "History",
    "NoiseLevel",
    "Observe",
    "Refine",
    "Reweight",
    "Temperature",
]

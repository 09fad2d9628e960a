"""SD3-medium, SD3.5-medium (a second, image-only attention in its first block) and SD3.5-large."""

import torch

from . import known
from .toy import Toy

_MMDIT = {
    "input_size": None,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "depth": 3,  # hidden size is 64 per block of depth
    "adm_in_channels": 128,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 32, "out_features": 192}},
    "num_patches": 32 * 32,
    "pos_embed_max_size": 32,
    "pos_embed_scaling_factor": None,
    "pos_embed_offset": None,
}
_SD35_MEDIUM = _MMDIT | {"qk_norm": "rms", "x_block_self_attn_layers": [0, 1]}


def pooled(generator, columns):
    return {"pooled_output": torch.randn(1, 128, generator=generator)}


TOYS = {
    "sd3_clip": Toy(known.SD3, _MMDIT, 32, 3, (("clip", 77),), pooled),
    "sd3_both": Toy(known.SD3, _MMDIT, 32, 3, (("clip", 77), ("t5", 77)), pooled),
    "sd35_medium": Toy(known.SD3, _SD35_MEDIUM, 32, 3, (("clip", 77), ("t5", 77)), pooled),
    "sd35_large": Toy(known.SD3, _MMDIT | {"qk_norm": "rms"}, 32, 3, (("t5", 77),), pooled),
}

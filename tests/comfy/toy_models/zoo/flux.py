"""Flux.1 dev (guidance embedding) and schnell (none)."""

import comfy.supported_models as known
import torch

from .toy import Toy

FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": 32,
    "context_in_dim": 32,
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [8, 12, 12],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}


def pooled(generator):
    # guidance 4, because the model multiplies it by 1000 in its own precision, and bfloat16 has 4000 but not 3500
    return {"pooled_output": torch.randn(1, 32, generator=generator), "guidance": 4.0}


TOYS = {
    "flux_dev": Toy(known.Flux, FLUX, 32, 4, extras=pooled),
    "flux_schnell": Toy(known.FluxSchnell, FLUX | {"guidance_embed": False}, 32, 4, extras=pooled),
}

"""Flux.1 dev (guidance embedding) and schnell (none), LongCat-Image, Chroma and Flux.2."""

import torch

from . import known
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

_CHROMA = {key: value for key, value in FLUX.items() if key != "guidance_embed"} | {
    "image_model": "chroma",
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 64,
    "hidden_dim": 64,
    "n_layers": 1,
}
_RADIANCE = _CHROMA | {
    "image_model": "chroma_radiance",
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": 16,
    "nerf_hidden_size": 8,
    "nerf_mlp_ratio": 2,
    "nerf_depth": 1,
    "nerf_max_freqs": 2,
    "nerf_tile_size": 512,
    "nerf_final_head_type": "linear",
    "nerf_embedder_dtype": torch.float32,
    "use_x0": False,
    "use_sequential_txt_ids": False,
}
_LONGCAT = FLUX | {"guidance_embed": False, "vec_in_dim": None, "txt_ids_dims": [1, 2]}
_FLUX2 = FLUX | {
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "patch_size": 1,
    "axes_dim": [8, 8, 8, 8],
    "theta": 2000,
    "vec_in_dim": None,
    "global_modulation": True,
    "mlp_silu_act": True,
    "qkv_bias": False,
    "ops_bias": False,
    "txt_ids_dims": [3],
}


def guided(generator, columns):
    # 4, because the model multiplies it by 1000 in its own precision, and bfloat16 has 4000 but not 3500
    return {"guidance": 4.0}


def pooled(generator, columns):
    return {"pooled_output": torch.randn(1, 32, generator=generator), **guided(generator, columns)}


def filled(generator, columns):
    """The picture to be filled in, in its right half."""
    mask = (torch.arange(152) > 76).float().expand(1, 1, 104, 152)
    latent = torch.randn(1, 16, 13, 19, generator=generator)
    return {"concat_mask": mask, "concat_latent_image": latent, **pooled(generator, columns)}


TOYS = {
    "flux_dev": Toy(known.Flux, FLUX, 32, 4, extras=pooled),
    "flux_fill": Toy(known.FluxInpaint, FLUX | {"in_channels": 96}, 32, 4, extras=filled),
    "longcat": Toy(
        known.LongCatImage, FLUX | {"guidance_embed": False, "vec_in_dim": None, "txt_ids_dims": [1, 2]}, 32, 4
    ),
    "chroma": Toy(known.Chroma, _CHROMA, 32, 4),
    "chroma_radiance": Toy(known.ChromaRadiance, _RADIANCE, 32, 4, patch=16),
    "flux2": Toy(known.Flux2, _FLUX2, 32, 4, extras=guided, patch=1, text_at=lambda text: (512 - text, 512)),
    "flux_schnell": Toy(known.FluxSchnell, FLUX | {"guidance_embed": False}, 32, 4, extras=pooled),
}

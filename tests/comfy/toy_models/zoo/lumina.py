"""Lumina 2 (grouped queries) and Z-Image (padded text and image)."""

from . import known
from .toy import Toy

_LUMINA = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 64,
    "cap_feat_dim": 32,
    "n_layers": 2,
    "n_refiner_layers": 1,
    "qk_norm": True,
    "n_heads": 4,
    "n_kv_heads": 2,
    "axes_dims": [4, 6, 6],
    "axes_lens": [300, 512, 512],
    "rope_theta": 10000.0,
    "ffn_dim_multiplier": 1.0,
}
_Z_IMAGE = _LUMINA | {
    "dim": 256,  # its timestep embedding is no narrower
    "n_heads": 8,
    "n_kv_heads": 8,
    "axes_dims": [8, 12, 12],
    "rope_theta": 256.0,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
_Z_PIXEL = _Z_IMAGE | {
    "image_model": "zimage_pixel",
    "patch_size": 16,
    "in_channels": 3,
    "decoder_hidden_size": 32,
    "decoder_num_res_blocks": 1,
}


def padded(text):
    return (0, -(-text // 32) * 32)


TOYS = {
    "lumina2": Toy(known.Lumina2, _LUMINA, 32, 2, (("gemma2", 20),)),
    "z_image": Toy(known.ZImage, _Z_IMAGE, 32, 2, (("qwen3", 20),), text_at=padded),
    "z_image_pixel": Toy(known.ZImagePixelSpace, _Z_PIXEL, 32, 2, (("qwen3", 20),), text_at=padded, patch=16),
}

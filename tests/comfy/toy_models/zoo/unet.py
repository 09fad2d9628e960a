"""The UNets: SD 1.x, SD 2.x, SDXL, what was distilled from them, and their inpainting and editing forms.

Block for block the layouts that comfy/model_detection.py knows, at a tenth of the width, so that block names, map
sizes and the up path's skip shapes are the real ones.
"""

import comfy.clip_vision
import torch

from . import known
from .toy import Toy

WIDTH = 64  # of a text encoder
ADM = WIDTH + 6 * 256  # SDXL's pooled text and six size numbers

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "use_spatial_transformer": True,
    "legacy": False,
    "use_temporal_attention": False,
    "adm_in_channels": None,
    "disable_self_attentions": None,
}
SD1_LAYOUT = {
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": (1, 2, 2, 2),
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
}
VEGA_LAYOUT = {
    "num_res_blocks": [2, 2, 2],
    "channel_mult": (1, 2, 2),
    "transformer_depth": [0, 0, 1, 1, 2, 2],
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "transformer_depth_middle": -1,
}
_SDXL_LAYOUT = VEGA_LAYOUT | {
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
}
# SDXL's blocks, in each fewer of the layers: for what differs from SDXL in anything but its depth.
_SHALLOW_LAYOUT = _SDXL_LAYOUT | {
    "transformer_depth": [0, 0, 2, 2, 3, 3],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 3, 3, 3],
    "transformer_depth_middle": 3,
}
_SSD_LAYOUT = VEGA_LAYOUT | {
    "transformer_depth": [0, 0, 2, 2, 4, 4],
    "transformer_depth_output": [0, 0, 0, 1, 1, 2, 10, 4, 4],
}
_KOALA_LAYOUT = VEGA_LAYOUT | {
    "num_res_blocks": [1, 1, 1],
    "transformer_depth": [0, 2, 5],
    "transformer_depth_output": [0, 0, 2, 2, 5, 5],
    "transformer_depth_middle": -2,
}
_KOALA_1B_LAYOUT = _KOALA_LAYOUT | {
    "transformer_depth": [0, 2, 6],
    "transformer_depth_output": [0, 0, 2, 2, 6, 6],
    "transformer_depth_middle": 6,
}
_XS_LAYOUT = _KOALA_LAYOUT | {"transformer_depth": [0, 1, 1], "transformer_depth_output": [0, 0, 1, 1, 1, 1]}
_XS_09_LAYOUT = _XS_LAYOUT | {
    "transformer_depth": [1, 1, 1],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1],
    "disable_self_attentions": [True, False, False],
}
SD1 = UNET | {"context_dim": WIDTH, "use_linear_in_transformer": False, "num_heads": 2, "num_head_channels": -1}
SD2 = UNET | {"context_dim": WIDTH, "use_linear_in_transformer": True, "num_heads": -1, "num_head_channels": 16}
_UNCLIP = SD2 | SD1_LAYOUT | {"num_classes": "sequential"}
SDXL = SD2 | {"context_dim": 2 * WIDTH, "num_classes": "sequential", "adm_in_channels": ADM}
# What the classes look for in a checkpoint to tell what it predicts.
SD2_PREDICTS_V = {"output_blocks.11.1.transformer_blocks.0.norm1.bias": torch.tensor([-1.0, 1.0])}
_ZERO_SNR_V = {"v_pred": torch.ones(1), "ztsnr": torch.ones(1)}
_COSXL = {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.002)}
_PLAYGROUND = {"edm_mean": torch.zeros(4), "edm_std": torch.ones(4)}
_INPAINT = {"in_channels": 9}
_EDIT = {"in_channels": 8}


def pooled(generator, columns):
    return {"pooled_output": torch.randn(1, WIDTH, generator=generator)}


def picture(generator, columns):
    """The picture to be edited."""
    return {"concat_latent_image": torch.randn(1, 4, 13, 19, generator=generator), **pooled(generator, columns)}


def picture_and_mask(generator, columns):
    """The picture to be filled in, in its right half."""
    mask = (torch.arange(152) > 76).float().expand(1, 1, 104, 152)
    return {"concat_mask": mask, **picture(generator, columns)}


def pictures(width, *noise):
    """Pictures that a CLIP vision model has read, one for each share of noise: what unCLIPConditioning appends."""

    def extras(generator, columns):
        read = []
        for share in noise:
            output = comfy.clip_vision.Output()
            output.image_embeds = torch.randn(1, width, generator=generator)
            read.append({"clip_vision_output": output, "strength": 0.7, "noise_augmentation": share})
        return {"unclip_conditioning": read}

    return extras


def _toy(base, config, calls, extras=pooled, state=None):
    deep = config["context_dim"] > WIDTH  # SDXL and what was made of it
    return Toy(
        base, config, config["context_dim"], calls, (("clip", 77),), extras, patch=4, cross=int, state=state or {},
        residual=0.3 if deep else 1.0,
    )  # fmt: skip


TOYS = {
    "sd15": _toy(known.SD15, SD1 | SD1_LAYOUT, 16),
    "sd15_inpaint": _toy(known.SD15, SD1 | SD1_LAYOUT | _INPAINT, 16, picture_and_mask),
    "sd15_edit": _toy(known.SD15_instructpix2pix, SD1 | SD1_LAYOUT | _EDIT, 16, picture),
    "sd_xs": _toy(known.SD15, SD1 | _XS_LAYOUT, 6),
    "sd2": _toy(known.SD20, SD2 | SD1_LAYOUT, 16),
    "sd21_v": _toy(known.SD20, SD2 | SD1_LAYOUT, 16, state=SD2_PREDICTS_V),
    "sd2_inpaint": _toy(known.SD20, SD2 | SD1_LAYOUT | _INPAINT, 16, picture_and_mask),
    "sd21_unclip_l": _toy(
        known.SD21UnclipL, _UNCLIP | {"adm_in_channels": 1536}, 16, pictures(768, 0.3), SD2_PREDICTS_V
    ),
    "sd21_unclip_h": _toy(
        known.SD21UnclipH, _UNCLIP | {"adm_in_channels": 2048}, 16, pictures(1024, 0.0, 0.2), SD2_PREDICTS_V
    ),
    "sd_xs_09": _toy(known.SD20, SD2 | _XS_09_LAYOUT, 9),
    "sdxl": _toy(known.SDXL, SDXL | _SDXL_LAYOUT, 70),
    "sdxl_zero_snr_v": _toy(known.SDXL, SDXL | _SHALLOW_LAYOUT, 28, state=_ZERO_SNR_V),
    "sdxl_inpaint": _toy(known.SDXL, SDXL | _SHALLOW_LAYOUT | _INPAINT, 28, picture_and_mask),
    "sdxl_edit": _toy(known.SDXL_instructpix2pix, SDXL | _SHALLOW_LAYOUT | _EDIT, 28, picture),
    "cosxl": _toy(known.SDXL, SDXL | _SHALLOW_LAYOUT, 28, state=_COSXL),
    "playground": _toy(known.SDXL, SDXL | _SHALLOW_LAYOUT, 28, state=_PLAYGROUND),
    "ssd_1b": _toy(known.SSD1B, SDXL | _SSD_LAYOUT, 34),
    "segmind_vega": _toy(known.Segmind_Vega, SDXL | VEGA_LAYOUT, 15),
    "koala_700m": _toy(known.KOALA_700M, SDXL | _KOALA_LAYOUT, 21),
    "koala_1b": _toy(known.KOALA_1B, SDXL | _KOALA_1B_LAYOUT, 30),
}

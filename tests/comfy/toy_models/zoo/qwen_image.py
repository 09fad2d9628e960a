"""Qwen-Image and Mage-Flow."""

from . import known
from .toy import Toy

_QWEN_IMAGE = {
    "image_model": "qwen_image",
    "in_channels": 64,
    "out_channels": 16,
    "num_layers": 2,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "axes_dims_rope": (8, 12, 12),
}
_MAGE_FLOW = _QWEN_IMAGE | {
    "image_model": "mage_flow",
    "in_channels": 128,
    "out_channels": 128,
}

TOYS = {
    "mage_flow": Toy(known.MageFlow, _MAGE_FLOW, 32, 2, (("qwen3", 20),), patch=1),
    "qwen_image": Toy(known.QwenImage, _QWEN_IMAGE, 32, 2, (("qwen2.5", 20),)),
}

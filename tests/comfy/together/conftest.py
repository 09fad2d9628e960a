"""What the patches need on disk, and ComfyUI's extra nodes among them."""

import pytest
import torch

from ..lora import write_lora
from .patches import HYPERNETWORK

EXTRAS = """
lora_debug apg attention_multiply cfg context_windows differential_diffusion edit_model eps fresca
hypernetwork hypertile ip2p latent lumina2 mahiro model_downscale model_merging model_patch nag pag rope sag
slg tcfg tomesd torch_compile video_model flux
"""


@pytest.fixture(scope="session", autouse=True)
def prepared(comfy):
    (comfy.base / "models" / "hypernetworks").mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(9)
    write_lora(comfy, generator)
    layers = [
        {
            f"linear.{n}.{kind}": torch.randn(*shape, generator=generator) * 0.1
            for n in (0, 1)
            for kind, shape in (("weight", (64, 64)), ("bias", (64,)))
        }
        for _ in range(2)
    ]
    made = {64: layers, "activation_func": "relu", "is_layer_norm": False, "activate_output": False}
    torch.save(made, str(comfy.base / "models" / "hypernetworks" / HYPERNETWORK))
    for name in EXTRAS.split():
        comfy.extra(f"nodes_{name}")

"""LoRAs on the attention of text and picture of toy models, strong enough to be seen."""

import torch

LORA = "toy_lora.safetensors"
# The layers of each: attn2's q and k of the UNet, every qkv of the joint ones.
_LAYERS = {"sd15": ("attn2.to_q", "attn2.to_k"), "sd3": ("attn.qkv",), "flux_dev": ("img_attn.qkv", "txt_attn.qkv")}


def lora_of(family):
    """The name of its file."""
    return LORA if family == "sd15" else f"toy_lora_{family}.safetensors"


def write_lora(comfy, generator, family="sd15"):
    import safetensors.torch

    model = comfy.model(family) if family in ("sd15", "sd3") else comfy.toy.build_transformer(family)
    state = {}
    for name, p in model.model.diffusion_model.named_parameters():
        if any(name.endswith(f"{layer}.weight") for layer in _LAYERS[family]):
            key = f"diffusion_model.{name.removesuffix('.weight')}"
            state[f"{key}.lora_up.weight"] = torch.randn(p.shape[0], 2, generator=generator)
            state[f"{key}.lora_down.weight"] = torch.randn(2, p.shape[1], generator=generator) * p.shape[1] ** -0.5
    safetensors.torch.save_file(state, str(comfy.base / "models" / "loras" / lora_of(family)))

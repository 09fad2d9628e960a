"""A LoRA on every text attention of the toy SD 1.x model, strong enough to be seen."""

import torch

LORA = "toy_lora.safetensors"


def write_lora(comfy, generator):
    import safetensors.torch

    state = {}
    for name, p in comfy.model("sd15").model.diffusion_model.named_parameters():
        if "attn2.to_q.weight" in name or "attn2.to_k.weight" in name:
            key = f"diffusion_model.{name.removesuffix('.weight')}"
            state[f"{key}.lora_up.weight"] = torch.randn(p.shape[0], 2, generator=generator)
            state[f"{key}.lora_down.weight"] = torch.randn(2, p.shape[1], generator=generator) * p.shape[1] ** -0.5
    safetensors.torch.save_file(state, str(comfy.base / "models" / "loras" / LORA))

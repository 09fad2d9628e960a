"""Tiny models of real families with seeded random weights, made of ComfyUI's own classes.

Every tensor is created inside inference mode, because that is how ComfyUI's executor creates them and it is
what makes autograd refuse them; `normal_weights=True` gives the same values as ordinary tensors, to compare
gradients. The UNets keep the real block numbering at a tenth of the width, so block names, map sizes and the
up path's skip shapes are the real ones.
"""

import json
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import comfy.cldm.cldm
import comfy.cldm.mmdit
import comfy.controlnet
import comfy.latent_formats
import comfy.ldm.flux.controlnet
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.quant_ops
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.t2i_adapter.adapter
import comfy.taesd.taesd
import comfy.text_encoders.sd2_clip
import comfy.text_encoders.sd3_clip
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from .zoo import TOYS
from .zoo.toy import Toy
from .zoo.unet import SD1, SD1_LAYOUT, SDXL, UNET, VEGA_LAYOUT, WIDTH

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
DTYPES |= {"fp8": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
_MMDIT = {
    "input_size": None,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "depth": 3,  # hidden size is 64 per block of depth
    "adm_in_channels": 2 * WIDTH,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": 4096, "out_features": 192},
    },
    "num_patches": 192 * 192,
    "pos_embed_max_size": 192,
    "pos_embed_scaling_factor": None,
    "pos_embed_offset": None,
}

SDXL_LAYOUT = VEGA_LAYOUT | {"transformer_depth_middle": 2}
FAMILIES = {
    "sd15": TOYS["sd15"],
    "sd15_inpaint": TOYS["sd15_inpaint"],
    "sd15_edit": TOYS["sd15_edit"],
    "sd_xs": TOYS["sd_xs"],
    "sd21_v": TOYS["sd21_v"],
    "sd21_unclip_h": TOYS["sd21_unclip_h"],
    "sdxl": Toy(comfy.supported_models.SDXL, SDXL | SDXL_LAYOUT, 2 * WIDTH, 17),
    "sd3": Toy(comfy.supported_models.SD3, _MMDIT, 4096, 3),
}


def random_values(module, seed):
    """Random weights that keep activations near unit size: 1/sqrt(fan in), norms near one, small biases."""
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for name, p in module.named_parameters():
        value = values[name] = torch.randn(p.shape, generator=generator)
        if name.endswith("embedding.weight"):
            pass  # unit size: tokens differ clearly from each other
        elif p.ndim > 1:
            value *= p[0].numel() ** -0.5
        elif name.endswith("weight") or "scale" in name:
            value.mul_(0.05).add_(1)
        else:
            value *= 0.05
    return values


def predict_noise(values, last_block):
    """Makes an eps-predicting UNet answer its input plus a little of everything else, as trained ones begin.

    A random prediction would leave the latent at the size of the first sigma. The input takes the outermost
    skip: channels 0-3 carry it, 4-7 its negative, and silu(x) - silu(-x) = x undoes the last activation.
    """
    first, last = values["input_blocks.0.0.weight"], values["out.2.weight"]
    skip = values[f"output_blocks.{last_block}.0.skip_connection.weight"]
    first[:8] = skip[:8] = 0
    last *= 0.1
    for c in range(4):
        first[c, c, 1, 1], first[c + 4, c, 1, 1] = 1, -1
        last[c, c, 1, 1], last[c, c + 4, 1, 1] = 1, -1
    for c in range(8):
        skip[c, c - first.shape[0]] = 1
    for name in ("0.out_layers.3.weight", "1.proj_out.weight"):
        if f"output_blocks.{last_block}.{name}" in values:
            values[f"output_blocks.{last_block}.{name}"][:8] *= 0.1


# Weights of a UNet that write into what goes on from block to block.
INTO_THE_STREAM = ("proj_out.weight", "out_layers.3.weight", "to_out.0.weight", "ff.net.2.weight")


def fill(module, seed, eps_unet=False):
    values = random_values(module, seed)
    if eps_unet:
        predict_noise(values, len(module.output_blocks) - 1)
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(values[name])
    return module.requires_grad_(False).eval()


def build_model(family="sd15", seed=0, dtype="fp32", normal_weights=False, compute_dtype=torch.float32):
    """A ModelPatcher as a loader returns it: weights stored as `dtype`, computed in `compute_dtype`."""
    return _patcher(FAMILIES[family], seed, dtype, normal_weights, compute_dtype)


def build_transformer(name, seed=0, dtype="fp32", normal_weights=False, compute_dtype=torch.float32):
    """A ModelPatcher of a toy of the zoo, as `build_model` makes one of the others."""
    return _patcher(TOYS[name], seed, dtype, normal_weights, compute_dtype)


def _patcher(toy, seed, dtype, normal_weights, compute_dtype):
    with torch.inference_mode(not normal_weights):
        storage = DTYPES[dtype]
        model = _empty(toy, storage, None if storage == compute_dtype else compute_dtype)
        is_unet = isinstance(model.diffusion_model, UNetModel)
        predicts_noise = model.model_type == comfy.model_base.ModelType.EPS
        network = fill(model.diffusion_model, seed, eps_unet=is_unet and predicts_noise)
        for name, p in network.named_parameters():
            if is_unet and name.endswith(INTO_THE_STREAM):
                p.copy_(p.float() * toy.residual)
        for scale in (p for name, p in network.named_parameters() if name.endswith("scale")):
            scale.copy_(scale.float() + toy.neutral_scale - 1)
        for buffer in (b for name, b in network.named_buffers() if name.endswith("pos_embed")):
            buffer.copy_(torch.randn(buffer.shape, generator=torch.Generator().manual_seed(seed)))
        return comfy.model_patcher.CoreModelPatcher(
            model,
            load_device=comfy.model_management.get_torch_device(),
            offload_device=torch.device("cpu"),
        )


def _empty(toy, storage, compute, quantised=False):
    """The toy's model, its weights not yet set."""
    config = toy.base(dict(toy.config))
    config.unet_config |= toy.config  # some classes fill in the real sizes
    if quantised:
        config.quant_config = {"mixed_ops": True}
    config.set_inference_dtype(storage, compute)
    with patch.object(*toy.smaller) if toy.smaller else nullcontext():
        return config.get_model(dict(toy.state), "", device="cpu")


# Name -> ComfyUI's format, how its layout is told to round, and what the file's header says of that.
_ROTATED = {"convrot": True, "convrot_groupsize": 16}
QUANTISED = {
    "fp8_scaled": ("float8_e4m3fn", {"scale": "recalculate"}, {}),
    "fp8_scaled_e5m2": ("float8_e5m2", {"scale": "recalculate"}, {}),
    "mxfp8": ("mxfp8", {}, {}),
    "nvfp4": ("nvfp4", {}, {}),
    "nvfp4_smoothed": ("nvfp4", {}, {}),  # with a factor for each input channel, as ModelOpt writes it
    "int8": ("int8_tensorwise", {}, {}),
    "int8_rotated": ("int8_tensorwise", {"per_channel": True} | _ROTATED, _ROTATED),
    "int4_rotated": ("convrot_w4a4", _ROTATED, _ROTATED),
}


def build_quantised(name, kind="fp8_scaled", seed=0):
    """A toy of the zoo as a file in one of ComfyUI's quantised formats loads, and a dictionary of the rounded
    weights in float32."""
    form, options, header = QUANTISED[kind]
    layout, generator = comfy.quant_ops.QUANT_ALGOS[form]["comfy_tensor_layout"], torch.Generator().manual_seed(seed)
    state = {k: v.clone() for k, v in build_transformer(name, seed).model.diffusion_model.state_dict().items()}
    rounded = dict(state)
    toy = TOYS[name]
    with torch.inference_mode():
        model = _empty(toy, torch.float32, torch.float32, quantised=True)
        for key, module in model.diffusion_model.named_modules():
            in_block = type(module).__name__ == "Linear" and any(part.isdigit() for part in key.split("."))
            weight = state.get(f"{key}.weight")
            if not in_block or min(weight.shape) < 32 or any(size % 16 for size in weight.shape):
                continue
            if form == "convrot_w4a4" and weight.shape[1] % 64:  # its groups
                continue
            factor = torch.ones(weight.shape[1])
            if kind == "nvfp4_smoothed":
                factor = state[f"{key}.pre_quant_scale"] = 0.5 + torch.rand(weight.shape[1], generator=generator)
            small = comfy.quant_ops.QuantizedTensor.from_float(weight / factor, layout, **options)
            rounded[f"{key}.weight"] = small.dequantize() * factor
            state |= small.state_dict(f"{key}.weight")
            told = json.dumps({"format": form} | header).encode()
            state[f"{key}.comfy_quant"] = torch.frombuffer(bytearray(told), dtype=torch.uint8)
        model.diffusion_model.load_state_dict(state)
        patcher = comfy.model_patcher.CoreModelPatcher(
            model.requires_grad_(False).eval(),
            load_device=comfy.model_management.get_torch_device(),
            offload_device=torch.device("cpu"),
        )
        return patcher, rounded


_NOT_OF_A_CONTROLNET = (
    "out_channels", "transformer_depth_output", "use_linear_in_transformer", "disable_self_attentions",
    "use_temporal_attention",
)  # fmt: skip


def build_controlnet(family="sd15", seed=0):
    """A ControlNet of the toy SD1.x, SD3 or Flux model, with residuals that are not zero."""
    made = {"dtype": torch.float32, "operations": comfy.ops.disable_weight_init}
    device = comfy.model_management.get_torch_device()
    with torch.inference_mode():
        if family == "sd15":
            config = SD1 | SD1_LAYOUT | {"hint_channels": 3, "context_dim": WIDTH, "num_heads": 2}
            for unused in _NOT_OF_A_CONTROLNET:
                config.pop(unused, None)
            network = fill(comfy.cldm.cldm.ControlNet(**config, **made), seed + 3)
            return comfy.controlnet.ControlNet(network, load_device=device)
        if family == "sd3":
            network = fill(comfy.cldm.mmdit.ControlNet(num_blocks=1, **_MMDIT, **made), seed + 3)
            network.pos_embed.copy_(torch.randn(network.pos_embed.shape, generator=torch.Generator().manual_seed(seed)))
            latent, extra = comfy.latent_formats.SD3(), ["y"]
            latent.shift_factor = 0  # as ComfyUI's loader sets it
        else:
            config = TOYS[family].config | {"depth": 1, "depth_single_blocks": 1}
            network = comfy.ldm.flux.controlnet.ControlNetFlux(latent_input=True, **config, **made)
            network, latent, extra = fill(network, seed + 3), comfy.latent_formats.Flux(), ["y", "guidance"]
        return comfy.controlnet.ControlNet(
            network, compression_ratio=1, latent_format=latent, load_device=device, extra_conds=extra
        )


def build_t2i_adapter(seed=0):
    """A T2I adapter of the toy SD1.x model."""
    with torch.inference_mode():
        network = comfy.t2i_adapter.adapter.Adapter(
            channels=[32, 64, 64, 64], nums_rb=1, cin=192, ksize=1, sk=True, use_conv=False, xl=False
        )
        return comfy.controlnet.T2IAdapter(fill(network, seed + 4), 3, 8, "nearest-exact")


def _clip_target(family):
    target = comfy.supported_models_base.ClipTarget
    if family.startswith("sd21_"):
        sd2 = comfy.text_encoders.sd2_clip
        return target(sd2.SD2Tokenizer, sd2.SD2ClipModel)
    if family == "sdxl":
        return target(comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel)
    if family == "sd3":
        sd3 = comfy.text_encoders.sd3_clip
        return target(sd3.SD3Tokenizer, sd3.sd3_clip(clip_l=True, clip_g=True, t5=False))
    return target(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)


def build_clip(family="sd15", seed=0, normal_weights=False):
    """The family's own tokenizer and text encoder class, three layers wide enough to tell words apart."""
    small = {"num_hidden_layers": 3, "intermediate_size": 64, "hidden_size": WIDTH, "num_attention_heads": 4}
    # the bare "_model_config" is SD2's: its encoder class never tells its name
    options = {f"{name}_model_config": small for name in ("clip_l", "clip_g", "clip_h", "")}
    options["dtype"] = torch.float32
    with torch.inference_mode(not normal_weights):
        clip = comfy.sd.CLIP(_clip_target(family), model_options=options, parameters=1)
        fill(clip.cond_stage_model, seed + 1)
        return clip


def build_vae(family="sd15", seed=0):
    """A tiny autoencoder with the family's latent channels; pictures are noise of the right size."""
    channels = 16 if family == "sd3" else 4
    with torch.inference_mode():
        return comfy.sd.VAE(sd=fill(comfy.taesd.taesd.TAESD(latent_channels=channels), seed + 2).state_dict())


def write_checkpoint(path, seed=0):
    """A small SD1.x file that the stock CheckpointLoaderSimple takes: three narrow UNet levels, empty CLIP layers.

    The stock CLIP-L cannot be made smaller, so its layers are written as zeros: what it returns is then the
    normalised token and position embedding, which still tells every word apart.
    """
    import safetensors.torch

    config = comfy.supported_models.SD15(
        UNET
        | {
            "model_channels": 320,
            "context_dim": 768,
            "use_linear_in_transformer": False,
            "num_res_blocks": [1, 1, 1],
            "channel_mult": [1, 1, 1],
            "transformer_depth": [1, 1, 1],
            "transformer_depth_output": [1] * 6,
            "transformer_depth_middle": -2,
        }
    )
    config.set_inference_dtype(torch.float32, None)
    unet = fill(config.get_model({}, "", device="cpu").diffusion_model, seed)
    state = {f"model.diffusion_model.{k}": v for k, v in unet.state_dict().items()}
    vae = fill(comfy.taesd.taesd.TAESD(), seed + 2)
    state |= {f"first_stage_model.{k}": v for k, v in vae.state_dict().items()}
    clip = comfy.sd1_clip.SDClipModel(device="cpu", dtype=torch.float16)
    generator = torch.Generator().manual_seed(seed + 1)
    for name, p in clip.transformer.state_dict().items():
        if name.endswith("embedding.weight"):
            value = torch.randn(p.shape, generator=generator)
        elif "layer_norm" in name and name.endswith("weight"):
            value = torch.ones(p.shape)
        else:
            value = torch.zeros(p.shape)
        state[f"cond_stage_model.transformer.{name}"] = value
    state = {k: v.half().contiguous() for k, v in state.items() if "text_projection" not in k}
    safetensors.torch.save_file(state, str(path))
    return Path(path)

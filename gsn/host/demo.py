"""The demo models that come with the pack: MODEL, CLIP and VAE from one small file each, no download.

The file has the usual checkpoint layout (``model.diffusion_model.*``, ``cond_stage_model.*``, ``first_stage_model.*``)
with two differences, both stated in its metadata: the networks' sizes, which ComfyUI's detection does not know, and a
token table that holds only the rows of the model's vocabulary. The MM-DiT is SD3's network on the UNet's text encoder
and latents. Everything built here is of ComfyUI's own classes, so stock nodes work on it.
"""

from __future__ import annotations

import json
import logging
import re
from functools import partial
from pathlib import Path

import comfy.latent_formats
import comfy.model_management as mm
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.utils
import torch
from comfy.cli_args import args
from comfy_execution.utils import get_executing_context
from safetensors import safe_open
from server import PromptServer

from .bfloat16 import computes_in_bfloat16

log = logging.getLogger("gsn-nodes")

FOLDER = Path(__file__).resolve().parents[2] / "demo"
TOKENS = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
TOKEN_COUNT = 49408


def demo_names() -> list[str]:
    """The models that are there, the default first: ``unet`` for ``demo/gsn_demo_unet.safetensors``."""
    names = (path.stem.removeprefix("gsn_demo_") for path in FOLDER.glob("gsn_demo_*.safetensors")
             if "unet_config" in _metadata(path))
    return sorted(names, key=lambda name: (name != "unet", name))


def load_demo(name: str = "unet", path: str | Path | None = None):
    """(ModelPatcher, CLIP, VAE) of a demo model, as ``CheckpointLoaderSimple`` would return them."""
    path = _path(name, path)
    about = _metadata(path)
    weights, _ = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    weights[TOKENS] = _full_table(weights[TOKENS], about["token_ids"])
    text = _sd15(about["unet_config"])  # the MM-DiT's text encoder is the UNet's
    config = _sd3(about["unet_config"]) if about.get("family") == "sd3" else text
    return _model(config, weights), _clip(text, weights, about), _vae(weights)


def _sd15(sizes: dict):
    config = comfy.supported_models.SD15(sizes)
    config.unet_config |= sizes  # the class has its own num_heads
    config.gsn_preset = "demo"  # read by the family: the validated noise level is this model's own
    return config


def _sd3(sizes: dict):
    config = comfy.supported_models.SD3(sizes)
    config.latent_format = comfy.latent_formats.SD15()
    config.gsn_preset = "demo mmdit"
    return config


def vocabulary(name: str = "unet", path: str | Path | None = None) -> list[str]:
    """The nouns that the model can draw."""
    return list(_metadata(_path(name, path))["nouns"])


def _path(name: str, path: str | Path | None) -> Path:
    found = Path(path) if path else FOLDER / f"gsn_demo_{name}.safetensors"
    if not found.is_file():
        raise FileNotFoundError(f"The demo model {name!r} is not there: {found}. There are: {demo_names() or 'none'}.")
    return found


def _metadata(path: Path) -> dict:
    """The JSON values of the file's metadata; strings that are not JSON stay strings."""
    with safe_open(path, framework="pt") as file:
        raw = file.metadata() or {}
    about = {}
    for key, value in raw.items():
        try:
            about[key] = json.loads(value)
        except ValueError:
            about[key] = value
    return about


def _full_table(rows: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """[49408, width]: the known rows at their token ids, the last row of the file (an unknown word) everywhere else."""
    table = rows[-1:].repeat(TOKEN_COUNT, 1)
    table[torch.tensor(ids)] = rows[:-1]
    return table


def _model(config, weights):
    """The steps of ``comfy.sd.load_state_dict_guess_config``, with the configuration known instead of detected."""
    prefix = "model.diffusion_model."
    parameters = comfy.utils.calculate_parameters(weights, prefix)
    device = mm.get_torch_device()
    dtype = mm.unet_dtype(model_params=parameters, supported_dtypes=list(config.supported_inference_dtypes),
                          weight_dtype=comfy.utils.weight_dtype(weights, prefix))
    dtype = _fastest(dtype, device)
    cast = mm.unet_manual_cast(dtype, device, config.supported_inference_dtypes)
    config.set_inference_dtype(dtype, cast)
    model = config.get_model(weights, prefix, device=mm.unet_inital_load_device(parameters, dtype))
    # Older ComfyUI has one patcher class and no dynamic loading.
    patcher_class = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    patcher = patcher_class(model, load_device=device, offload_device=mm.unet_offload_device())
    dynamic = {"assign": True} if getattr(patcher, "is_dynamic", bool)() else {}
    model.load_model_weights(weights, prefix, **dynamic)
    return patcher


def _fastest(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """bfloat16 on processors that compute in it, where ComfyUI would take float32 and nobody has asked for that.

    Half the time for a batch of 16. It is right for this model: its success was measured in bfloat16.
    """
    asked = args.force_fp32 or args.fp32_unet
    slow = dtype == torch.float32 and device.type == "cpu" and not asked
    return torch.bfloat16 if slow and computes_in_bfloat16() else dtype


def _clip(config, weights, about):
    encoder = config.process_clip_state_dict(weights)
    target = config.clip_target(state_dict=weights)
    target.tokenizer = partial(DemoTokenizer, about=about)
    return comfy.sd.CLIP(target, tokenizer_data=encoder, parameters=comfy.utils.calculate_parameters(encoder),
                         state_dict=encoder, model_options={"clip_l_model_config": about["text_config"]})


def _vae(weights):
    prefix = "first_stage_model."
    return comfy.sd.VAE(sd={key[len(prefix):]: value for key, value in weights.items() if key.startswith(prefix)})


class DemoTokenizer(comfy.sd1_clip.SD1Tokenizer):
    """SD1.x's tokenizer that says, on the node that encodes a prompt, which of its words the model has never read."""

    def __init__(self, *args, about: dict, **kwargs):
        super().__init__(*args, **kwargs)
        self.words, self.nouns = frozenset(about["words"]), list(about["nouns"])

    def tokenize_with_weights(self, text: str, *args, **kwargs):
        note = unknown_words_note(text, self.words, self.nouns)
        if note:
            log.warning(note)
            node = get_executing_context()
            if node is not None:
                PromptServer.instance.send_progress_text(note, node.node_id)
        return super().tokenize_with_weights(text, *args, **kwargs)


def unknown_words_note(text: str, words: frozenset[str], nouns: list[str]) -> str:
    """What to tell about words of ``text`` that are not in ``words``, in order and once each; "" when all are."""
    found = dict.fromkeys(re.findall(r"[^\W\d_]+", text.lower()))
    unknown = [word for word in found if word not in words]
    if not unknown:
        return ""
    return f"The demo model has never read: {', '.join(unknown)}. It can draw: {', '.join(nouns)}."

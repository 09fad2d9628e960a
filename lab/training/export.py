"""Writes the shipped checkpoint: the usual layout in fp16, with a compact token table and what it needs to be read."""

from __future__ import annotations

import json
from pathlib import Path

import art
import host
import net
import scenes
import torch
import vae
from models import DemoModel
from safetensors.torch import save_file

RECIPE = 1


def write(which: DemoModel, work: Path, preset: dict) -> None:
    """``preset``: step, sigma, lr, cfg and slice that validation chose; empty before it."""
    model = which.load(work)
    weights = {f"model.diffusion_model.{key}": value for key, value in model.network.state_dict().items()}
    for key, value in model.text.state_dict().items():
        weights[f"cond_stage_model.transformer.text_model.{key}"] = value
    for key, value in vae.load(work).state_dict().items():
        weights[f"first_stage_model.{key}"] = value
    table = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    # No caption holds an unknown word, so its row was never trained: the mean of the nouns' rows stands for "a thing".
    nouns = [model.ids.index(net.tokens(noun)[1]) for noun in scenes.NOUNS]
    weights[table] = torch.cat([weights[table][:-1], weights[table][nouns].mean(0, keepdim=True)])
    words = ["a", "an", "photo", "picture", "of", "and", *scenes.NOUNS]
    about = {
        "family": which.family, "unet_config": which.network_config, "text_config": net.TEXT_CONFIG,
        "nouns": scenes.NOUNS, "words": words, "token_ids": model.ids, "seed": which.seed, "recipe": RECIPE,
        "art_sha256": art.fingerprint(), "sampling": which.sampling, "preset": preset,
    }
    host.DEMO.mkdir(exist_ok=True)
    save_file({key: value.half().contiguous() for key, value in weights.items()}, which.file,
              {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()})

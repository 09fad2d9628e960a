"""Scoring models of the real classes, with random weights and tokenisers of a few letters, as folders on disk."""

import json

import torch
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from gsn.metrics.aesthetic import network

LETTERS = "abcdefghijklmnopqrstuvwxyz-."
SAID = ("cat", "dog", "red", "photo", "with", "table", "the", "and", "of", "on")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *SAID]
SIDE = 32
VISION = {"image_size": SIDE, "patch_size": 8, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
          "num_attention_heads": 4, "projection_dim": 24}  # fmt: skip


def _pixels(kind):
    size = {"crop_size": {"height": SIDE, "width": SIDE}, "size": {"shortest_edge": SIDE}}
    return kind(**(size if kind is CLIPImageProcessor else {"size": {"height": SIDE, "width": SIDE}}))


def _restless(model):
    """Random weights large enough that pictures and texts differ."""
    torch.manual_seed(5)
    for name, weight in model.named_parameters():
        if weight.dim() < 2:
            torch.nn.init.normal_(weight, 1.0 if name.endswith("weight") else 0.0, 0.1)
        else:
            torch.nn.init.normal_(weight, std=1.0 if "embed" in name else 2 / weight[0].numel() ** 0.5)
    return model


def clip(folder, length=128):
    vocabulary = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    end = len(vocabulary) - 1
    text = {"vocab_size": len(vocabulary), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_position_embeddings": length, "projection_dim": 24, "bos_token_id": end - 1,
            "eos_token_id": end, "pad_token_id": end}  # fmt: skip
    config = CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24)
    _restless(CLIPModel(config)).save_pretrained(folder)
    CLIPProcessor(_pixels(CLIPImageProcessor), tokenizer).save_pretrained(folder)
    return folder


def aesthetic(folder):
    _restless(network()(CLIPVisionConfig(**VISION))).save_pretrained(folder)
    _pixels(CLIPImageProcessor).save_pretrained(folder)
    return folder


def blip(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizer.from_pretrained(folder, local_files_only=True, bos_token="[DEC]")
    text = {"vocab_size": len(WORDS), "hidden_size": 32, "encoder_hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": 40, "bos_token_id": 5,
            "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0, "projection_dim": 24}  # fmt: skip
    vision = {**VISION, "num_hidden_layers": 1}
    model = _restless(BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision)))
    with torch.no_grad():
        model.text_decoder.cls.predictions.bias[: len(WORDS) - len(SAID)] = -100  # words only, up to the usual length
    model.save_pretrained(folder)
    BlipProcessor(_pixels(BlipImageProcessor), tokenizer).save_pretrained(folder)
    return folder


def pictures(count=3, height=40, width=56):
    """[count, height, width, 3] in whole 255ths, as loaded from files: coarse squares of different colours."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    large = torch.nn.functional.interpolate(coarse, (height, width))
    return (large.movedim(1, -1) * 255).round() / 255

"""Attend-and-Excite's similarities (Chefer et al. 2023), as Grimal et al. 2025 compute them: cosines by CLIP ViT-B/16.

A text's embedding is the mean of its unit embeddings in CLIP's 80 templates, of unit length again. The prompt goes in
without its "a photo of ".

    full prompt    = cos(picture, prompt)
    minimum object = min over the objects of cos(picture, object): bare class names, without article and colour
    text-text      = cos(BLIP's caption of the picture, prompt); the caption goes in as it is, in no template

Deviation from Chefer et al.'s own script: that splits the prompt at " and " or " with " into two objects with their
articles and colours, so its minimum is another one and is not defined for three subjects.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .clip_encoder import ClipEncoder
from .imagenet_templates import TEMPLATES

_OPENING = "a photo of "


def in_templates(text: str) -> list[str]:
    """The text in each template, with doubled articles taken out as the published code does, which also makes an apple
    of "the apple"."""
    filled = (template.format(text) for template in TEMPLATES)
    return [one.replace("  ", " ").replace(" a a ", " a ").replace("the a", "a") for one in filled]


def without_opening(prompt: str) -> str:
    return prompt.replace(_OPENING, "") if prompt.startswith(_OPENING.rstrip()) else prompt


def text_embedding(encoder: ClipEncoder, text: str) -> Tensor:
    """[D] of unit length."""
    return normalize(encoder.texts(in_templates(text)).mean(0), dim=0)


def full_prompt(encoder: ClipEncoder, images: Tensor, prompt: str) -> Tensor:
    """[B] of the pictures' embeddings [B, D]."""
    return images @ text_embedding(encoder, without_opening(prompt))


def minimum_object(encoder: ClipEncoder, images: Tensor, objects: Sequence[str]) -> Tensor:
    """[B] of the pictures' embeddings [B, D]: the object that each shows least."""
    if not objects:
        raise ValueError("the minimum over objects needs at least one; name them, such as: cat, dog")
    return torch.stack([images @ text_embedding(encoder, one) for one in objects]).amin(0)


def text_text(encoder: ClipEncoder, captions: Sequence[str], prompt: str) -> Tensor:
    """[B] of the pictures' captions."""
    return encoder.texts(captions) @ text_embedding(encoder, without_opening(prompt))

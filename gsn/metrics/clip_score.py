"""CLIP score (Hessel et al. 2021, as Grimal et al. 2025 report it): 100 cos(picture, prompt), by CLIP ViT-B/16.

The prompt is taken whole, "a photo of" included. An average over pictures is not below 0, a single value may be: so
does torchmetrics' CLIPScore, which the paper used and which gives this value to rounding (a test compares them). It
is not used itself: it gives no value per picture, and its release of the day cannot read what transformers 5 returns.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .clip_encoder import ClipEncoder


def clip_scores(encoder: ClipEncoder, images: Tensor, prompts: Sequence[str]) -> Tensor:
    """[B] of the pictures' embeddings [B, D], and a prompt for each, or one for all."""
    if len(prompts) not in (1, len(images)):
        raise ValueError(f"{len(images)} pictures have {len(prompts)} prompts; give one for each, or one for all")
    return 100 * (images * encoder.texts(prompts)).sum(-1)

"""CLIP's embeddings of pictures and texts, of unit length, through transformers' CLIPModel from a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .local_models import LocalModel, pixel_batches

CLIP = LocalModel("the CLIP model", "openai/clip-vit-base-patch16", "clip", ("tokenizer.json", "vocab.json"))
_AT_ONCE = 16


class ClipEncoder:
    """Embeddings are float32 on the CPU, whatever the device."""

    def __init__(self, model: Any, processor: Any, device: Any = "cpu"):
        self._model, self._processor, self._device = model, processor, device
        self._longest = model.config.text_config.max_position_embeddings

    @classmethod
    def load(cls, folder: Path, device: Any = "cpu") -> ClipEncoder:
        """Raises ModelMissing, or ValueError for a folder of something else."""
        CLIP.check(folder)
        from transformers import CLIPModel, CLIPProcessor

        return cls(CLIP.load(CLIPModel, folder, device), CLIP.load_processor(CLIPProcessor, folder), device)

    @torch.no_grad()
    def images(self, pictures: Tensor) -> Tensor:
        """[B, H, W, 3] in 0..1 -> [B, D]."""
        found = []
        for pixels in pixel_batches(self._processor, pictures, _AT_ONCE, self._device):
            # Not get_image_features: what that returns differs between transformers 4 and 5.
            found.append(self._model.visual_projection(self._model.vision_model(pixel_values=pixels).pooler_output))
        return _unit(torch.cat(found))

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """[N, D]. Words beyond CLIP's length are cut off; `too_long` tells."""
        found = []
        for start in range(0, len(texts), _AT_ONCE):
            inputs = self._processor(
                text=list(texts[start : start + _AT_ONCE]), return_tensors="pt", padding=True, truncation=True,
                max_length=self._longest,
            ).to(self._device)  # fmt: skip
            output = self._model.text_model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
            found.append(self._model.text_projection(output.pooler_output))
        return _unit(torch.cat(found))

    def too_long(self, text: str) -> bool:
        """Whether CLIP does not see the end of the text."""
        return len(self._processor.tokenizer(text)["input_ids"]) > self._longest


def _unit(embeddings: Tensor) -> Tensor:
    return torch.nn.functional.normalize(embeddings.float().cpu(), dim=-1)

"""What a picture shows, in BLIP's words: for the text-text similarity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .local_models import LocalModel, pixel_batches

BLIP = LocalModel(
    "the captioning model", "Salesforce/blip-image-captioning-base", "blip", ("tokenizer.json", "vocab.txt")
)
_AT_ONCE = 8
_LENGTH = 20  # tokens at most, transformers' usual length, which the paper's captions have


class Captioner:
    def __init__(self, model: Any, processor: Any, device: Any = "cpu"):
        self._model, self._processor, self._device = model, processor, device

    @classmethod
    def load(cls, folder: Path, device: Any = "cpu") -> Captioner:
        """Raises ModelMissing, or ValueError for a folder of something else."""
        BLIP.check(folder)
        from transformers import BlipForConditionalGeneration, BlipProcessor

        model = BLIP.load(BlipForConditionalGeneration, folder, device)
        return cls(model, BLIP.load_processor(BlipProcessor, folder), device)

    @torch.no_grad()
    def captions(self, pictures: Tensor) -> list[str]:
        """[B, H, W, 3] in 0..1 -> one caption each, the likeliest word at every place."""
        found = []
        for pixels in pixel_batches(self._processor, pictures, _AT_ONCE, self._device):
            tokens = self._model.generate(pixel_values=pixels, max_length=_LENGTH, num_beams=1, do_sample=False)
            found += self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [caption.strip() for caption in found]

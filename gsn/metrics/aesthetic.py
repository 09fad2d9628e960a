"""LAION's aesthetic score (Schuhmann et al. 2022), about 1 to 10: linear layers on CLIP ViT-L/14's picture embedding.

Five linear layers without activations between them, trained on the sac, logos and ava1 ratings, in the layout of
shunk031's Hugging Face conversion, which the paper used: CLIP's vision half and the layers in one file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .local_models import LocalModel, pixel_batches

AESTHETIC = LocalModel(
    "the aesthetic predictor", "shunk031/aesthetics-predictor-v2-sac-logos-ava1-l14-linearMSE", "clip_vision_model"
)
_WIDTHS = (1024, 128, 64, 16, 1)
_DROPPED = (0.2, 0.2, 0.1)  # in training alone; they number the layers, whose names the file has: 0, 2, 4, 6, 7
_AT_ONCE = 16


class AestheticPredictor:
    def __init__(self, model: Any, processor: Any, device: Any = "cpu"):
        self._model, self._processor, self._device = model, processor, device

    @classmethod
    def load(cls, folder: Path, device: Any = "cpu") -> AestheticPredictor:
        """Raises ModelMissing, or ValueError for a folder of something else, a CLIP without the layers included."""
        AESTHETIC.check(folder)
        from transformers import CLIPImageProcessor

        model = AESTHETIC.load(network(), folder, device)
        return cls(model, AESTHETIC.load_processor(CLIPImageProcessor, folder), device)

    @torch.no_grad()
    def scores(self, pictures: Tensor) -> Tensor:
        """[B, H, W, 3] in 0..1 -> [B]."""
        found = []
        for pixels in pixel_batches(self._processor, pictures, _AT_ONCE, self._device):
            found.append(self._model.score(pixels)[:, 0].float().cpu())
        return torch.cat(found)


def network() -> type:
    """The model's class: transformers' own CLIP vision model with the layers on top of it."""
    from transformers import CLIPVisionModelWithProjection

    class Network(CLIPVisionModelWithProjection):
        def __init__(self, config: Any):
            super().__init__(config)
            layers: list[nn.Module] = []
            for n, width in enumerate(_WIDTHS):
                layers.append(nn.Linear(_WIDTHS[n - 1] if n else config.projection_dim, width))
                layers += [nn.Dropout(share) for share in _DROPPED[n : n + 1]]
            self.layers = nn.Sequential(*layers)
            self.post_init()

        def score(self, pixels: Tensor) -> Tensor:
            """[B, 1]."""
            embedding = self.visual_projection(self.vision_model(pixel_values=pixels).pooler_output)
            return self.layers(nn.functional.normalize(embedding, dim=-1))

    return Network

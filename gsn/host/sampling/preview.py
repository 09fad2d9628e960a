"""The picture in the sampler's live preview while the latent is optimised: the subjects' maps side by side."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from comfy.cli_args import LatentPreviewMethod, args
from PIL import Image
from torch import Tensor

_SIZE = 192  # pixels of one map's longer side


def preview_of(maps: Tensor | None) -> Any:
    """ComfyUI's preview tuple of the first image's maps [B, S, h, w]; None where previews are switched off."""
    if maps is None or args.preview_method == LatentPreviewMethod.NoPreviews:
        return None
    first = maps[0].detach().float().cpu()
    h, w = first.shape[-2:]
    size = (max(1, round(_SIZE * h / max(h, w))), max(1, round(_SIZE * w / max(h, w))))
    large = F.interpolate(first[:, None], size, mode="nearest")[:, 0]
    large = large / large.flatten(1).amax(1).clamp(min=1e-6)[:, None, None]
    strip = torch.cat(list(F.pad(large, (2, 2))), -1)
    return ("JPEG", Image.fromarray((strip * 255).byte().numpy(), "L").convert("RGB"), None)

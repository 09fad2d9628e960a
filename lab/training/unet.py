"""The UNet demo model: SD1.x eps prediction on scene latents, text encoder trained along.

Stratified t, loss weighted by 1 / (running loss of its tenth of the schedule + 0.005), an eighth of the samples at
t < 200, 10 % of the captions dropped, EMA weights kept. bf16 autocast, channels_last, torch.compile.
"""

from __future__ import annotations

import net
import torch
from fit import Recipe, stratified, token_ids


def build(seed: int) -> net.UNet:
    torch.manual_seed(seed)
    return net.UNet(token_ids()).to(memory_format=torch.channels_last)


def timesteps(count: int) -> torch.Tensor:
    t = stratified(count) * 1000
    early = max(1, count // 8)
    t[torch.randperm(count)[:early]] = torch.rand(early) * 200
    return t.long().clamp(0, 999)


def noised(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    t, noise = timesteps(len(z)), torch.randn_like(z)
    a = net.alphas()[t].view(-1, 1, 1, 1)
    return a.sqrt() * z + (1 - a).sqrt() * noise, t, noise


RECIPE = Recipe(
    6000, build, noised,
    predict=lambda model: model.eps,
    weight=lambda running: 1 / (running + 0.005),
    plain=lambda name: "embedding" in name or "input_blocks.0.0" in name or "unet.out.2" in name,
)

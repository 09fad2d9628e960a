"""The MM-DiT demo model: SD3's network and flow on the same latents, captions and text encoder as the UNet's.

The noise's share is drawn half from a logistic-normal distribution, as SD3's (Esser et al. 2024, section 3.1), and half
evenly; the velocity's error is not weighted. Linear layers start as DiT's (Peebles & Xie 2023): Xavier, modulations and
the last layer at zero. AdamW takes the modulations: as Muon's they were two fifths of its cost.
"""

from __future__ import annotations

import net
import torch
from fit import Recipe, stratified, token_ids


def build(seed: int) -> net.MMDiT:
    torch.manual_seed(seed)
    model = net.MMDiT(token_ids())
    for name, p in model.network.named_parameters():
        if "adaLN_modulation" in name or name.startswith("final_layer.linear"):
            torch.nn.init.zeros_(p)
        elif name.endswith(("ln_q.weight", "ln_k.weight")):
            torch.nn.init.ones_(p)
        elif p.ndim == 1:
            torch.nn.init.zeros_(p)
        else:
            torch.nn.init.xavier_uniform_(p.view(p.shape[0], -1))
    return model


def shares(count: int) -> torch.Tensor:
    """[count] shares of noise in 0..1, both halves stratified."""
    u = stratified(count // 2)
    return torch.cat([torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4)).sigmoid(), stratified(count - count // 2)])


def noised(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    sigma, noise = shares(len(z)), torch.randn_like(z)
    share = sigma.view(-1, 1, 1, 1)
    return (1 - share) * z + share * noise, sigma * 1000, noise - z


RECIPE = Recipe(
    3600, build, noised,
    predict=lambda model: model.velocity,
    weight=torch.ones_like,
    plain=lambda name: any(part in name for part in ("embedding", "x_embedder", "final_layer", "adaLN_modulation")),
)

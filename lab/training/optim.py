"""Muon for matrices and convolutions, AdamW for the rest, one learning rate with warm-up and cosine.

Muon: momentum, then the update is replaced by its nearest orthogonal matrix (five Newton-Schulz steps), scaled by
0.2 * sqrt(larger side) so that its RMS is that of an AdamW update. K. Jordan et al. 2024, scaling from Liu et al. 2025.
"""

from __future__ import annotations

import math
from collections import defaultdict

import host
import torch


def orthogonal(g: torch.Tensor) -> torch.Tensor:
    """[k, m, n] with m <= n -> the same shape, each matrix with singular values near one."""
    x = g / (g.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    x = x.bfloat16() if host.BFLOAT16 else x
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.float()


class Muon(torch.optim.Optimizer):
    """Parameters of one shape are updated together: on a CPU the many small products cost more than the big ones."""

    def __init__(self, params, lr=1e-3, momentum=0.95, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            alike = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    m, n = p.shape[0], p[0].numel()
                    alike[min(m, n), max(m, n)].append(p)
            for (_, longer), together in alike.items():
                self._update(group, together, group["lr"] * 0.2 * math.sqrt(longer))

    def _update(self, group, together, rate):
        steep = []
        for p in together:
            buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
            buffer.lerp_(p.grad, 1 - group["momentum"])
            g = p.grad.lerp(buffer, group["momentum"]).reshape(p.shape[0], -1)
            steep.append(g.T if g.shape[0] > g.shape[1] else g)
        for p, update in zip(together, orthogonal(torch.stack(steep)), strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"])
            flat = update.T if p.shape[0] > p[0].numel() else update
            p.add_(flat.reshape(p.shape), alpha=-rate)


class Pair:
    """Both optimisers and the schedule. ``plain(name)`` says which matrices AdamW takes all the same."""

    def __init__(self, named, plain, lr: float, iterations: int, warmup: int):
        muon, adam = [], []
        for name, p in named:
            (muon if p.ndim >= 2 and not plain(name) else adam).append(p)
        self.both = [Muon(muon, lr), torch.optim.AdamW(adam, lr, betas=(0.9, 0.99), weight_decay=0.0, foreach=True)]
        self.lr, self.iterations, self.warmup = lr, iterations, warmup

    def step(self, i: int) -> None:
        done = min(1.0, i / self.iterations)
        lr = self.lr * min(1.0, (i + 1) / self.warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for optimiser in self.both:
            for group in optimiser.param_groups:
                group["lr"] = lr
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state_dict(self):
        return [o.state_dict() for o in self.both]

    def load_state_dict(self, states):
        for o, s in zip(self.both, states, strict=False):
            o.load_state_dict(s)

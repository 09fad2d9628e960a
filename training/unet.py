"""The diffusion model: SD1.x eps prediction on scene latents, text encoder trained along.

Stratified t, loss weighted by 1 / (running loss of its tenth of the schedule + 0.005), an eighth of the samples at
t < 200, 10 % of the captions dropped, EMA weights kept. bf16 autocast, channels_last, torch.compile.
"""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path

import host
import net
import numpy as np
import scenes
import torch
import vae
from latents import Table, agreement
from optim import Pair

ITERATIONS = 6000
BATCH = 32
RATE = 1e-3
SEED = 0


def token_ids() -> list[int]:
    """Every token that captions can hold, in the order of first use."""
    texts = ["", "a picture of an apple"] + [scenes.prompt(noun, "car") for noun in scenes.NOUNS]
    return list(dict.fromkeys(token for text in texts for token in net.tokens(text)))


def build(seed: int = SEED) -> net.Model:
    torch.manual_seed(seed)
    return net.Model(token_ids()).to(memory_format=torch.channels_last)


def timesteps(count: int) -> torch.Tensor:
    u = (torch.arange(count) + torch.rand(count)) / count
    t = u * 1000
    early = max(1, count // 8)
    t[torch.randperm(count)[:early]] = torch.rand(early) * 200
    return t.long().clamp(0, 999)


def train(work: Path, iterations: int = ITERATIONS, seed: int = SEED) -> net.Model:
    model = build(seed)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    table = Table(work, vae.load(work))
    optimiser = Pair(
        model.named_parameters(),
        lambda name: "embedding" in name or "input_blocks.0.0" in name or "unet.out.2" in name,
        RATE,
        iterations,
        200,
    )
    rng, running, start = np.random.default_rng(seed), torch.ones(10), 0
    saved, alpha = work / "unet.state", net.alphas()
    if saved.exists():
        state = torch.load(saved, weights_only=False)
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        rng.bit_generator.state, running, start = state["rng"], state["running"], state["i"]
    eps = torch.compile(model.eps)
    log = (work / "unet.jsonl").open("a")
    began = time.time()
    for i in range(start, iterations):
        torch.manual_seed(seed * 1_000_000 + i)
        said = [scenes.caption(rng) for _ in range(BATCH)]
        z = torch.stack([table.scene(shown, rng) for _, shown in said])
        rows = model.rows(["" if rng.random() < 0.1 else text for text, _ in said])
        t, noise = timesteps(BATCH), torch.randn_like(z)
        a = alpha[t].view(-1, 1, 1, 1)
        noisy = (a.sqrt() * z + (1 - a).sqrt() * noise).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            found = eps(noisy, t, model.encode(rows))
        each = (found.float() - noise).square().mean((1, 2, 3))
        bucket = t // 100
        (each / (running[bucket] + 0.005)).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step(i)
        with torch.no_grad():
            for b in range(10):
                if (bucket == b).any():
                    running[b].lerp_(each[bucket == b].mean(), 0.05)
            decay = min(0.999, (i + 1) / (i + 10))
            torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)
        if i % 20 == 0:
            print(
                json.dumps(
                    {
                        "i": i,
                        "loss": each.mean().item(),
                        "by_t": [round(v, 5) for v in running.tolist()],
                        "seconds": round(time.time() - began, 1),
                    }
                ),
                file=log,
                flush=True,
            )
        if (i + 1) % 250 == 0:
            torch.save(
                {
                    "model": model.state_dict(),
                    "ema": ema.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "rng": rng.bit_generator.state,
                    "running": running,
                    "i": i + 1,
                },
                saved,
            )
    torch.save(ema.state_dict(), work / "unet.pt")
    print("latents of two sprites against the sum of two, rms:", agreement(table, vae.load(work)))
    return ema


def load(work: Path, name: str = "unet.pt") -> net.Model:
    model = build()
    state = torch.load(work / name, weights_only=False)
    model.load_state_dict(state.get("ema", state))
    return model.eval().requires_grad_(False)


if __name__ == "__main__":
    train(host.ROOT / "out" / "train")

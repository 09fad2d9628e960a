"""The training loop that both diffusion models share: scenes, captions, EMA, and going on after an interruption."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import host
import net
import numpy as np
import scenes
import torch
import vae
from latents import Table, agreement
from optim import Pair

BATCH = 32
RATE = 1e-3


@dataclass(frozen=True)
class Recipe:
    """What differs between the models.

    build: seed -> model; noised: latents [B, 4, h, w] -> (noisy latents, t in 0..1000 [B], what to predict);
    predict: model -> the function (noisy, t, context) to train; weight: running losses of the samples' tenths -> the
    samples' weights; plain: parameter name -> whether AdamW takes it although it is a matrix.
    """

    iterations: int
    build: Callable[[int], torch.nn.Module]
    noised: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    predict: Callable[[torch.nn.Module], Callable]
    weight: Callable[[torch.Tensor], torch.Tensor]
    plain: Callable[[str], bool]


def token_ids() -> list[int]:
    """Every token that captions can hold, in the order of first use."""
    texts = ["", "a picture of an apple"] + [scenes.prompt(noun, "car") for noun in scenes.NOUNS]
    return list(dict.fromkeys(token for text in texts for token in net.tokens(text)))


def stratified(count: int) -> torch.Tensor:
    """[count] ascending numbers in 0..1, one from each of so many equal parts."""
    return (torch.arange(count) + torch.rand(count)) / count


def train(recipe: Recipe, name: str, work: Path, seed: int = 0) -> None:
    """Writes ``NAME.pt`` (the averaged weights) into ``work``, and ``NAME.jsonl`` with the losses."""
    model = recipe.build(seed)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    table = Table(work, vae.load(work))
    optimiser = Pair(model.named_parameters(), recipe.plain, RATE, recipe.iterations, 200)
    rng, running, start = np.random.default_rng(seed), torch.ones(10), 0
    saved = work / f"{name}.state"
    if saved.exists():
        state = torch.load(saved, weights_only=False)
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        rng.bit_generator.state, running, start = state["rng"], state["running"], state["i"]
    predict = torch.compile(recipe.predict(model))
    log = (work / f"{name}.jsonl").open("a")
    began = time.time()
    for i in range(start, recipe.iterations):
        torch.manual_seed(seed * 1_000_000 + i)
        said = [scenes.caption(rng) for _ in range(BATCH)]
        z = torch.stack([table.scene(shown, rng) for _, shown in said])
        rows = model.rows(["" if rng.random() < 0.1 else text for text, _ in said])
        noisy, t, wanted = recipe.noised(z)
        with host.fast():
            found = predict(noisy.contiguous(memory_format=torch.channels_last), t, model.encode(rows))
        each = (found.float() - wanted).square().mean((1, 2, 3))
        tenth = (t / 100).long().clamp(max=9)
        (each * recipe.weight(running[tenth])).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step(i)
        with torch.no_grad():
            for b in range(10):
                if (tenth == b).any():
                    running[b].lerp_(each[tenth == b].mean(), 0.05)
            decay = min(0.999, (i + 1) / (i + 10))
            torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)
        if i % 20 == 0:
            told = {"i": i, "loss": each.mean().item(), "by_t": [round(v, 5) for v in running.tolist()],
                    "seconds": round(time.time() - began, 1)}
            print(json.dumps(told), file=log, flush=True)
        if (i + 1) % 250 == 0:
            state = {"model": model.state_dict(), "ema": ema.state_dict(), "optimiser": optimiser.state_dict(),
                     "rng": rng.bit_generator.state, "running": running, "i": i + 1}
            torch.save(state, saved)
    torch.save(ema.state_dict(), work / f"{name}.pt")
    print("latents of two sprites against the sum of two, rms:", agreement(table, vae.load(work)))


def load(recipe: Recipe, name: str, work: Path) -> torch.nn.Module:
    model = recipe.build(0)
    model.load_state_dict(torch.load(work / f"{name}.pt"))
    return model.eval().requires_grad_(False)

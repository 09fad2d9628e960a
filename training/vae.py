"""The VAE: ComfyUI's own TAESD layout (f=8, 4 channels), trained from scratch on crowded sprite pictures.

Loss: L1 + MSE of the picture, the foreground weighted by 3, + 1e-3 * mean(z^2), with noise 0.05 on the latent so that
the decoder forgives the small errors of sampling.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import host
import numpy as np
import torch
from comfy.taesd.taesd import TAESD
from optim import Pair
from scenes import CELL, NOUNS, SIDE, SIZES, Sprites, canvas, paste, place

ITERATIONS = 1000
BATCH = 4
RATE = 2e-3
#: comfy multiplies SD1.x latents by this; storing its inverse in the VAE makes the encoder's own output the model's latent.  # noqa: E501
SD15_SCALE = 0.18215


def crowded(sprites: Sprites, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture [H, W, 3] of one to five things, some overlapping, and its foreground [H, W, 1]."""
    light = rng.uniform(200, 245, 3) if rng.random() < 0.3 else 226
    image = canvas(light)
    front = np.zeros((SIDE, SIDE, 1), np.float32)
    if rng.random() < 0.4:
        boxes = place(rng, int(rng.integers(1, 4)))
    else:
        boxes = [
            (s, *(int(v) * CELL for v in rng.integers(0, (SIDE - s) // CELL + 1, 2)))
            for s in rng.choice(SIZES, int(rng.integers(3, 6)))
        ]
    for size, x, y in boxes:
        sprite = sprites.at(NOUNS[rng.integers(12)], int(size))
        paste(image, sprite, x, y)
        front[y : y + size, x : x + size] = np.maximum(front[y : y + size, x : x + size], sprite[..., 3:])
    return image, front


def build() -> TAESD:
    torch.manual_seed(0)
    model = TAESD()
    for name, p in model.named_parameters():
        if p.ndim == 4:
            torch.nn.init.kaiming_normal_(p, nonlinearity="relu")
            if name.endswith("conv.4.weight"):  # the last of a residual block starts small
                p.data.mul_(0.1)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(p)
    model.vae_scale.data.fill_(SD15_SCALE)
    model.vae_scale.requires_grad_(False)
    model.vae_shift.requires_grad_(False)
    return model.to(memory_format=torch.channels_last)


class Trainer(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.encoder, self.decoder = model.taesd_encoder, model.taesd_decoder

    def forward(self, image, front, noise):
        z = self.encoder(image)
        error = self.decoder(z + 0.05 * noise).float() - image
        weight = (1 + 2 * front) / (1 + 2 * front).mean()
        z = z.float()
        return (
            ((error.abs() + error.square()) * weight).mean() + 1e-3 * z.square().mean(),
            error.square().mean(),
            z.std(),
        )


def train(work: Path, iterations: int = ITERATIONS) -> TAESD:
    model = build()
    net = Trainer(model)
    optimiser = Pair(
        net.named_parameters(), lambda n: n in ("encoder.0.weight", "decoder.18.weight"), RATE, iterations, 30
    )
    rng, sprites = np.random.default_rng(0), Sprites()
    start, saved = 0, work / "vae.state"
    if saved.exists():
        state = torch.load(saved, weights_only=False)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        rng.bit_generator.state = state["rng"]
        start = state["i"]
    step = torch.compile(net)
    log = open(work / "vae.jsonl", "a")  # noqa: SIM115
    began = time.time()
    for i in range(start, iterations):
        images, fronts = zip(*(crowded(sprites, rng) for _ in range(BATCH)), strict=False)
        torch.manual_seed(i)
        image = torch.from_numpy(np.stack(images)).movedim(-1, 1).contiguous(memory_format=torch.channels_last)
        front = torch.from_numpy(np.stack(fronts)).movedim(-1, 1)
        with torch.autocast("cpu", torch.bfloat16):
            loss, mse, std = step(image, front, torch.randn(BATCH, 4, SIDE // 8, SIDE // 8))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step(i)
        if i % 20 == 0:
            print(
                json.dumps(
                    {
                        "i": i,
                        "loss": loss.item(),
                        "psnr": -10 * mse.log10().item(),
                        "std": std.item(),
                        "seconds": round(time.time() - began, 1),
                    }
                ),
                file=log,
                flush=True,
            )
        if (i + 1) % 200 == 0:
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "i": i + 1,
                    "rng": rng.bit_generator.state,
                },
                saved,
            )
    torch.save(model.state_dict(), work / "vae.pt")
    return model


def load(work: Path) -> TAESD:
    model = build()
    model.load_state_dict(torch.load(work / "vae.pt"))
    return model.eval()


if __name__ == "__main__":
    work = host.ROOT / "out" / "train"
    work.mkdir(parents=True, exist_ok=True)
    train(work)

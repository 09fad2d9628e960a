"""The VAE: ComfyUI's own TAESD layout (f=8, 4 channels), trained from scratch on crowded sprite pictures.

Loss: L1 + MSE of the picture, the foreground weighted by 3, + 1e-3 * mean(z^2), with noise 0.05 on the latent so that
the decoder forgives the small errors of sampling. Then the latents of scenes are brought to mean 0 and deviation 1,
as the noise schedule assumes, and the decoder learns on for a while: see `settle`.
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
from safetensors.torch import load_file
from scenes import CELL, NOUNS, SIDE, SIZES, Sprites, canvas, caption, paste, place

ITERATIONS = 1000
SETTLING = 300
BATCH = 4
RATE = 2e-3
#: ComfyUI multiplies SD1.x latents by this, and divides by the VAE's own `vae_scale` before: model latent = encoder's
#: output / `deviation`.
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


def deviation(model: TAESD) -> float:
    """What the encoder's output is divided by to become the diffusion model's latent."""
    return float(model.vae_scale) / SD15_SCALE


def scene(sprites: Sprites, rng: np.random.Generator) -> np.ndarray:
    """A picture [H, W, 3] as captions describe them."""
    _, shown = caption(rng)
    image = canvas()
    for noun, (size, x, y) in zip(shown, place(rng, len(shown)), strict=True):
        paste(image, sprites.at(noun, size), x, y)
    return image


@torch.no_grad()
def centre(model: TAESD, sprites: Sprites) -> None:
    """Move the mean of the scenes' latents into the layers around them, and their deviation into `vae_scale`.

    Without it the even background is most of their size, the things are faint beside it, and sampling decides late.
    The clamp at the decoder's entry makes this exact to first order only; `settle` mends the rest.
    """
    rng = np.random.default_rng(1)
    images = torch.from_numpy(np.stack([scene(sprites, rng) for _ in range(256)])).movedim(-1, 1)
    z = torch.cat([model.taesd_encoder(part) for part in images.split(32)])
    mean = z.mean((0, 2, 3))
    first = model.taesd_decoder[1]
    clamped = 3 * (mean / 3).tanh()
    first.bias += (first.weight * clamped.view(1, -1, 1, 1)).sum((1, 2, 3))
    first.weight *= (1 - (mean / 3).tanh().square()).view(1, -1, 1, 1)
    model.taesd_encoder[-1].bias -= mean
    model.vae_scale.fill_(SD15_SCALE * float((z - mean.view(1, -1, 1, 1)).std()))


def settle(model: TAESD, sprites: Sprites, log) -> None:
    """Centre the latents, then train the decoder alone."""
    centre(model, sprites)
    model.taesd_encoder.requires_grad_(False)
    net, rng = Trainer(model), np.random.default_rng(2)
    named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    optimiser = Pair(named, lambda n: n == "decoder.18.weight", RATE / 2, SETTLING, 30)
    step = torch.compile(net)
    for i in range(SETTLING):
        learn(step, named, optimiser, i, ITERATIONS + i, sprites, rng, log)


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
    for i in range(start, iterations):
        learn(step, list(net.named_parameters()), optimiser, i, i, sprites, rng, log)
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
    settle(model, sprites, log)
    torch.save(model.state_dict(), work / "vae.pt")
    return model


def learn(step, named: list, optimiser: Pair, i: int, seed: int, sprites: Sprites, rng, log) -> None:
    """One update."""
    began = time.time()
    images, fronts = zip(*(crowded(sprites, rng) for _ in range(BATCH)), strict=False)
    torch.manual_seed(seed)
    image = torch.from_numpy(np.stack(images)).movedim(-1, 1).contiguous(memory_format=torch.channels_last)
    front = torch.from_numpy(np.stack(fronts)).movedim(-1, 1)
    with host.fast():
        loss, mse, std = step(image, front, torch.randn(BATCH, 4, SIDE // 8, SIDE // 8))
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
    optimiser.step(i)
    if i % 20 == 0:
        told = {"i": seed, "loss": loss.item(), "psnr": -10 * mse.log10().item(), "std": std.item()}
        print(json.dumps({**told, "seconds": round(time.time() - began, 2)}), file=log, flush=True)


def load(work: Path) -> TAESD:
    """The VAE trained in ``work``; where none was, the one that ships, which a second seed of a model needs alone."""
    model, own = build(), work / "vae.pt"
    model.load_state_dict(torch.load(own) if own.exists() else shipped())
    return model.eval()


def shipped() -> dict[str, torch.Tensor]:
    prefix = "first_stage_model."
    weights = load_file(host.DEMO / "gsn_demo_unet.safetensors")
    return {key.removeprefix(prefix): value.float() for key, value in weights.items() if key.startswith(prefix)}


if __name__ == "__main__":
    work = host.ROOT / "out" / "train"
    work.mkdir(parents=True, exist_ok=True)
    train(work)

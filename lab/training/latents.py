"""Latents of one sprite alone, for every noun, size and place, encoded once; scenes are sums of them.

A scene's latent is taken as the empty picture's plus what each sprite adds on its own. That is not exact where the
encoder sees two sprites at once; ``agreement`` measures by how much.
"""

from __future__ import annotations

from pathlib import Path

import host
import numpy as np
import torch
import vae
from scenes import CELL, NOUNS, SIDE, SIZES, Sprites, canvas, paste, place


@torch.no_grad()
def encode(model, images: list[np.ndarray]) -> torch.Tensor:
    """Pictures [H, W, 3] in 0..1 -> model-space latents [B, 4, 16, 16]."""
    batch = torch.from_numpy(np.stack(images)).movedim(-1, 1).contiguous(memory_format=torch.channels_last)
    with host.fast():
        return model.taesd_encoder(batch).float().contiguous() / vae.deviation(model)


@torch.no_grad()
def decode(model, latents: torch.Tensor) -> torch.Tensor:
    """Model-space latents -> pictures [B, H, W, 3] in 0..1."""
    with host.fast():
        z = latents * vae.deviation(model)
        image = model.taesd_decoder(z.contiguous(memory_format=torch.channels_last))
    return image.float().clamp(0, 1).movedim(1, -1)


def places(size: int) -> int:
    return (SIDE - size) // CELL + 1


class Table:
    """``things[noun, size]`` [places, places, 4, 16, 16] (y, x) differences to ``empty`` [4, 16, 16]."""

    def __init__(self, work: Path, model=None):
        saved = work / "latents.pt"
        if saved.exists():
            self.empty, self.things = torch.load(saved)
            return
        sprites, self.things = Sprites(), {}
        self.empty = encode(model, [canvas()])[0]
        for noun in NOUNS:
            for size in SIZES:
                images = []
                for y in range(places(size)):
                    for x in range(places(size)):
                        images.append(canvas())
                        paste(images[-1], sprites.at(noun, size), x * CELL, y * CELL)
                found = torch.cat([encode(model, images[i : i + 32]) for i in range(0, len(images), 32)])
                self.things[noun, size] = (found - self.empty).view(places(size), places(size), 4, 16, 16)
        torch.save((self.empty, self.things), saved)

    def scene(self, nouns: list[str], rng: np.random.Generator) -> torch.Tensor:
        z = self.empty.clone()
        for noun, (size, x, y) in zip(nouns, place(rng, len(nouns)), strict=True):
            z += self.things[noun, size][y // CELL, x // CELL]
        return z


def agreement(table: Table, model) -> float:
    """RMS difference between encoding a two-sprite picture and adding two sprites' latents (latent units)."""
    rng, sprites, images, sums = np.random.default_rng(7), Sprites(), [], []
    for _ in range(48):
        nouns = [NOUNS[i] for i in rng.choice(12, 2, replace=False)]
        images.append(canvas())
        z = table.empty.clone()
        for noun, (size, x, y) in zip(nouns, place(rng, 2), strict=True):
            paste(images[-1], sprites.at(noun, size), x, y)
            z += table.things[noun, size][y // CELL, x // CELL]
        sums.append(z)
    return (encode(model, images) - torch.stack(sums)).square().mean().sqrt().item()


if __name__ == "__main__":
    folder = host.ROOT / "out" / "train"
    tae = vae.load(folder)
    table = Table(folder, tae)
    print(
        "rms",
        agreement(table, tae),
        "std",
        torch.stack([table.scene([n], np.random.default_rng(0)) for n in NOUNS]).std(),
    )

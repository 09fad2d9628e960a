"""Training and checking of the detector that the success rates rest on.

It learns from two kinds of pictures: scene latents with noise decoded by the VAE, and fresh drawings roughened to look
like what a sampler makes (squashed, blurred, overlapping, faded). Half sprites and chimeras of two are negatives.
"""

from __future__ import annotations

import json
from pathlib import Path

import host
import numpy as np
import scenes
import torch
import torch.nn.functional as F
import vae
from latents import Table, decode, encode
from safetensors.torch import save_file
from scenes import CELL, NOUNS, SIDE, Sprites, canvas, paste, place

from gsn.metrics import demo_detector

ITERATIONS = 700
BATCH = 48
THRESHOLD = 0.5
FILE = host.DEMO / "gsn_demo_detector.safetensors"


def rough(sprites: Sprites, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A roughened drawing [H, W, 3] and its labels [12]: 1 shown, 0 not shown, -1 not to be judged."""
    image = canvas(rng.uniform(215, 238))
    owner = np.full((SIDE, SIDE), -1)
    things = []
    for index in range(rng.choice(5, p=[0.04, 0.3, 0.36, 0.2, 0.1])):
        noun = int(rng.integers(12))
        w, h = (int(v) for v in rng.uniform(42, 62) * np.exp(rng.uniform(-0.15, 0.15, 2)))
        x, y = (int(v) for v in (rng.uniform(-8, SIDE - w + 8), rng.uniform(-8, SIDE - h + 8)))
        sprite = sprites.at(NOUNS[noun], w, h).copy()
        whole = (sprite[..., 3] > 0.5).sum()
        kind, keep = rng.random(), 1.0
        if kind < 0.12:  # a part only
            cut = rng.uniform(0.35, 0.5)
            axis = int(rng.integers(2))
            length = sprite.shape[axis]
            gone = np.arange(length) >= cut * length
            sprite[(gone, slice(None)) if axis == 0 else (slice(None), gone)] = 0
        elif kind < 0.18:  # left half of this, right half of another
            other = sprites.at(NOUNS[rng.integers(12)], w, h)
            sprite[:, w // 2 :] = other[:, w // 2 :]
            keep = 0.0
        elif kind < 0.26:  # a ghost
            keep = rng.uniform(0.1, 0.6)
            sprite *= keep
        paste(image, sprite, x, y)
        solid = sprite[..., 3] > 0.5 * min(1.0, keep or 1.0)
        ys, xs = np.nonzero(solid)
        ys, xs = ys + y, xs + x
        inside = (ys >= 0) & (ys < SIDE) & (xs >= 0) & (xs < SIDE)
        owner[ys[inside], xs[inside]] = index
        things.append((noun, whole, keep))
    label = np.zeros(12, np.float32)
    for index, (noun, whole, keep) in enumerate(things):
        shown = (owner == index).sum() / max(whole, 1) * keep
        verdict = 1 if shown > 0.62 else (0 if shown < 0.3 or keep == 0 else -1)
        if verdict == 1 or (verdict == -1 and label[noun] == 0):
            label[noun] = verdict
    return image, label


def roughen(images: torch.Tensor) -> torch.Tensor:
    """Blur, colour and noise as a sampler's pictures have them. [B, 3, H, W] in 0..1."""
    sigma = float(torch.rand(()) * 1.4) + 0.05
    taps = torch.exp(-torch.arange(-3, 4.0).square() / (2 * sigma * sigma))
    taps = (taps / taps.sum()).view(1, 1, 1, 7).repeat(3, 1, 1, 1)
    images = F.conv2d(F.pad(images, (3, 3, 3, 3), "replicate"), taps, groups=3)
    images = F.conv2d(images, taps.transpose(2, 3), groups=3)
    gain = 1 + 0.12 * (torch.rand(len(images), 3, 1, 1) - 0.5)
    cloud = (
        F.interpolate(torch.randn(len(images), 3, 16, 16), SIDE, mode="bilinear")
        * 0.03
        * torch.rand(len(images), 1, 1, 1)
    )
    return (images * gain + cloud + 0.02 * torch.randn_like(images)).clamp(0, 1)


def renders(table: Table, model, count: int, seed: int, noise: float, chimeras: float):
    """Pictures [B, H, W, 3] through the VAE with up to ``noise`` on the latent, and labels [B, 12].

    A share ``chimeras`` of them is half one sprite, half another in the same place: nothing whole to see.
    """
    rng, latents, labels = np.random.default_rng(seed), [], torch.zeros(count, 12)
    for i in range(count):
        if rng.random() < chimeras:
            (size, x, y), (a, b) = place(rng, 1)[0], rng.choice(12, 2, replace=False)
            left, right = (table.empty + table.things[NOUNS[n], size][y // CELL, x // CELL] for n in (a, b))
            middle = (x + size // 2) // CELL
            z = torch.cat([left[..., :middle], right[..., middle:]], -1)
        else:
            nouns = rng.choice(12, int(rng.integers(1, 3)), replace=False)
            z = table.scene([NOUNS[n] for n in nouns], rng)
            labels[i, nouns] = 1
        latents.append(z + noise * rng.random() * torch.from_numpy(rng.standard_normal(z.shape).astype(np.float32)))
    pictures = [decode(model, torch.stack(latents[i : i + 32])) for i in range(0, count, 32)]
    return torch.cat(pictures), labels


def train(work: Path, iterations: int = ITERATIONS) -> None:
    torch.manual_seed(0)
    tae = vae.load(work)
    table, sprites, rng = Table(work, tae), Sprites(), np.random.default_rng(1)
    decoded, truth = renders(table, tae, 1500, seed=11, noise=0.6, chimeras=0.25)
    decoded = decoded.movedim(-1, 1)
    net = demo_detector.network(12)
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, iterations)
    for i in range(iterations):
        drawn, marks = zip(*(rough(sprites, rng) for _ in range(BATCH // 2)), strict=True)
        pick = torch.from_numpy(rng.integers(0, len(decoded), BATCH // 2))
        images = torch.cat([roughen(torch.from_numpy(np.stack(drawn)).movedim(-1, 1)), decoded[pick]])
        labels = torch.cat([torch.from_numpy(np.stack(marks)), truth[pick]])
        with host.fast():
            logits = net(images * 2 - 1)
        loss = F.binary_cross_entropy_with_logits(logits.float(), labels.clamp(min=0), reduction="none")
        ((loss * (labels >= 0)).sum() / (labels >= 0).sum()).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        if i % 50 == 0:
            print(i, round(loss[labels >= 0].mean().item(), 4), flush=True)
    weights = {key: value.half().contiguous() for key, value in net.state_dict().items()}
    host.DEMO.mkdir(exist_ok=True)
    save_file(weights, FILE, {"nouns": json.dumps(NOUNS), "threshold": str(THRESHOLD), "art": scenes.art.fingerprint()})
    print(json.dumps(check(work)))


def check(work: Path) -> dict:
    """Recall and false positives on fresh renders through the VAE, on chimeras, and on roughened drawings."""
    tae = vae.load(work)
    table, sprites = Table(work, tae), Sprites()
    judge = demo_detector.DemoDetector(FILE)
    report = {}

    def count(name, pictures, labels):
        found = judge.detect(pictures) >= judge.threshold
        shown, absent = labels == 1, labels == 0
        report[name] = {
            "pictures": len(labels),
            "shown": int(shown.sum()),
            "found": int((found & shown).sum()),
            "absent": int(absent.sum()),
            "false": int((found & absent).sum()),
        }

    for noise in (0.0, 0.3, 0.6):
        count(f"renders, latent noise up to {noise}", *renders(table, tae, 300, 900 + int(noise * 10), noise, 0.0))
    count("chimeras", *renders(table, tae, 200, 950, 0.3, 1.0))
    rng = np.random.default_rng(960)
    drawn, marks = zip(*(rough(sprites, rng) for _ in range(300)), strict=True)
    torch.manual_seed(960)
    pictures = torch.from_numpy(np.stack(drawn))
    through = torch.cat([decode(tae, encode(tae, list(pictures[i : i + 30].numpy()))) for i in range(0, 300, 30)])
    count("squashed, overlapping, faded or cut drawings through the VAE", through, torch.from_numpy(np.stack(marks)))
    return report


if __name__ == "__main__":
    train(host.ROOT / "out" / "train")

"""How far to trust `study --score explained` (lab/study/explained.py): the table in docs/study.md.

On fresh pictures of the training generators through the VAE, on chimeras and on the detector's roughened drawings. The
level is chosen on other seeds than those that are reported. Needs the work files of training; prints JSON:
python lab/training/explained_check.py
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import detector
import host
import numpy as np
import torch
import vae
from latents import Table, decode, encode
from scenes import NOUNS, Sprites

WORK = host.ROOT / "out" / "train"
LEVELS = (0.5, 0.6, 0.7, 0.8)


def made(work: Path, count: int, seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Kind -> pictures [B, H, W, 3] and labels [B, 12]: 1 shown whole, 0 not shown, -1 not to be judged."""
    tae = vae.load(work)
    table, sprites = Table(work, tae), Sprites()
    found = {
        f"renders, latent noise up to {noise}": detector.renders(table, tae, count, seed + i, noise, 0.0)
        for i, noise in enumerate((0.0, 0.6))
    }
    found["chimeras"] = detector.renders(table, tae, count, seed + 10, 0.3, 1.0)
    rng = np.random.default_rng(seed + 11)
    drawn, marks = zip(*(detector.rough(sprites, rng) for _ in range(count)), strict=True)
    through = [decode(tae, encode(tae, list(drawn[i : i + 32]))) for i in range(0, count, 32)]
    found["squashed, overlapping, faded or cut drawings"] = torch.cat(through), torch.from_numpy(np.stack(marks))
    return found


def told(explained: list, labels: torch.Tensor) -> dict:
    """labels: [B, 12] as above."""
    values = np.array([one.explained for one in explained])
    found = torch.tensor([[noun in one.nouns for noun in NOUNS] for one in explained])
    return {
        "pictures": len(values),
        "mean": round(float(values.mean()), 3),
        "5 %": round(float(np.quantile(values, 0.05)), 3),
        "things": round(float(np.mean([len(one.things) for one in explained])), 3),
        "shown": int((labels == 1).sum()),
        "found": int((found & (labels == 1)).sum()),
        "absent": int((labels == 0).sum()),
        "false": int((found & (labels == 0)).sum()),
    }


def auc(higher: list, lower: list) -> float:
    """The chance that a picture of the first kind scores above one of the second, ties counted half."""
    a, b = (np.array([one.explained for one in kind]) for kind in (higher, lower))
    return float(((a[:, None] > b).mean() + (a[:, None] >= b).mean()) / 2)


def levels(work: Path) -> None:
    """What `LEVEL` was chosen by: the fewest nouns missed and found wrongly."""
    known = made(work, 50, 2000)
    for level in LEVELS:
        explainer, wrong = _explained().Explainer(level), 0
        for kind, (pictures, labels) in known.items():
            one = told(_all(explainer, pictures), labels)
            wrong += one["shown"] - one["found"] + one["false"]
            print(json.dumps({"level": level, "kind": kind, **one}), flush=True)
        print(json.dumps({"level": level, "wrong": wrong}), flush=True)


def report(work: Path) -> None:
    """The table, at `LEVEL`, on other pictures."""
    explainer = _explained().Explainer()
    known = made(work, 100, 3000)
    found = {kind: _all(explainer, pictures) for kind, (pictures, _) in known.items()}
    for kind, (_, labels) in known.items():
        more = {"auc against chimeras": round(auc(found[kind], found["chimeras"]), 4)} if "renders" in kind else {}
        print(json.dumps({"kind": kind, **told(found[kind], labels), **more}), flush=True)


def _all(explainer, pictures: torch.Tensor) -> list:
    """As saved: in whole levels of 255."""
    return [explainer.explain(one) for one in (pictures * 255).round().numpy() / 255]


def _explained():
    """lab/study/explained.py from its file: the repository root must stay off sys.path, see host."""
    spec = importlib.util.spec_from_file_location("explained", host.ROOT / "lab" / "study" / "explained.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["explained"] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    levels(WORK)
    report(WORK)

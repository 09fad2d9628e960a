"""A demo model's measured behaviour: neglect, the method's gain, and where along the steps it helps.

CFG, learning rate, slice and step are chosen on validation pairs and seeds; everything reported comes from the
test pairs and other seeds. Neither set's pairs were ever named together in training. Every refined picture is
compared with the plain one of the same prompt and seed.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import detector
import scenes
import torch
import vae
from latents import decode
from models import DemoModel

from gsn.metrics.demo_detector import DemoDetector
from gsn.metrics.stats import sign_test, wilson

SEEDS = range(16)
VALIDATION_SEEDS = range(100, 108)
TOGETHER = 32  # images in one batch


def cases(pairs, seeds) -> list:
    """(prompt, nouns, seed), every pair named in both orders."""
    ordered = [order for pair in pairs for order in (pair, pair[::-1])]
    return [(scenes.prompt(*pair), pair, seed) for pair in ordered for seed in seeds]


class Study:
    """Cells over a fixed list of cases. Plain latents are kept per CFG, cells are found again in ``saved``."""

    def __init__(self, model: DemoModel, work: Path, name: str, todo: list):
        self.model, self.tae = model, vae.load(work)
        self.sampler = model.sampler(model.load(work))
        self.judge = DemoDetector(detector.FILE)
        self.todo, self.saved = todo, work / f"{model.name}-{name}.json"
        self.cells = json.loads(self.saved.read_text()) if self.saved.exists() else {}
        self.batches = [self.sampler.batch(todo[i:i + TOGETHER]) for i in range(0, len(todo), TOGETHER)]
        self.plain_runs = {}
        # latents of every prompt's first seed, for the model card
        self.pictures = work / f"{model.name}-{name}-first-seed"
        self.pictures.mkdir(exist_ok=True)

    def _found(self, latents: torch.Tensor, first: int) -> list[list[bool]]:
        present = self.judge.detect(decode(self.tae, latents)) >= self.judge.threshold
        return [[bool(present[i, self.judge.nouns.index(noun)]) for noun in self.todo[first + i][1]]
                for i in range(len(latents))]

    def plain(self, cfg: float) -> dict:
        if f"plain, CFG {cfg}" not in self.cells:
            self._plain_run(cfg)
        return self.cells[f"plain, CFG {cfg}"]

    def _plain_run(self, cfg: float) -> None:
        began, found, kept, finals = time.time(), [], [], []
        for n, batch in enumerate(self.batches):
            z, latents = self.sampler.run(batch, cfg, keep=self.model.steps)
            kept.append(latents)
            finals.append(z)
            found += self._found(z, n * TOGETHER)
        self.plain_runs[cfg] = kept
        self._keep(f"plain, CFG {cfg}", found, finals, began)

    def refined(self, cfg: float, step: int, lr: float, words: bool) -> dict:
        name = f"step {step}, lr {lr}, CFG {cfg}, {'words' if words else '1:-1'}"
        if name not in self.cells:
            if cfg not in self.plain_runs:
                self._plain_run(cfg)
            began, found, finals, before, after, shift = time.time(), [], [], 0.0, 0.0, 0.0
            for n, batch in enumerate(self.batches):
                start = self.plain_runs[cfg][n][step]
                z, first, last = self.sampler.refine(batch, start, step, lr, words)
                before, after = before + first.sum().item(), after + last.sum().item()
                shift += (z - start).square().mean((1, 2, 3)).sqrt().sum().item()
                finals.append(self.sampler.run(batch, cfg, z, step)[0])
                found += self._found(finals[-1], n * TOGETHER)
            total = len(self.todo)
            self._keep(name, found, finals, began,
                       loss_before=before / total, loss_after=after / total, shift=shift / total)
        return self.cells[name]

    def _keep(self, name: str, found, finals, began: float, **more) -> None:
        every = len({case[2] for case in self.todo})
        torch.save(torch.cat(finals)[::every].clone(), self.pictures / f"{name}.pt")
        success = [all(pair) for pair in found]
        low, high = wilson(sum(success), len(success))
        self.cells[name] = {"n": len(success), "success": sum(success) / len(success), "low": low, "high": high,
                            "entities": sum(map(sum, found)) / (2 * len(found)), **more,
                            "seconds": round(time.time() - began, 1), "found": found}
        self.saved.write_text(json.dumps(self.cells))
        print(name, {k: v for k, v in self.cells[name].items() if k != "found"}, flush=True)


def against(cell: dict, plain: dict) -> dict:
    """Images won and lost against plain on the same prompt and seed, with the exact two-sided sign test."""
    pairs = [(all(a), all(b)) for a, b in zip(cell["found"], plain["found"], strict=True)]
    won, lost = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    return {"won": won, "lost": lost, "p": sign_test(won, lost)}


def choose(model: DemoModel, work: Path) -> dict:
    """CFG by plain success nearest 40 %, then slice and rate at one step, then the step."""
    study = Study(model, work, "validation", cases(scenes.VALIDATION_PAIRS, VALIDATION_SEEDS))
    cfg = min(model.cfgs, key=lambda c: abs(study.plain(c)["success"] - 0.40))
    lr, words = max(model.rates, key=lambda choice: study.refined(cfg, model.first, *choice)["success"])
    step = max(model.steps[1:], key=lambda s: study.refined(cfg, s, lr, words)["success"])
    return {"cfg": cfg, "lr": lr, "slice": "words" if words else "1:-1", "step": step, "cells": study.cells}


def measure(model: DemoModel, work: Path, chosen: dict) -> dict:
    """Plain and the whole curve on the test prompts."""
    study = Study(model, work, "test", cases(scenes.TEST_PAIRS, SEEDS))
    words = chosen["slice"] == "words"
    plain = study.plain(chosen["cfg"])
    curve = []
    for step in sorted(model.steps, key=lambda s: abs(s - chosen["step"])):  # the one that matters first
        cell = study.refined(chosen["cfg"], step, chosen["lr"], words)
        curve.append({"step": step, **cell, **against(cell, plain)})
    return {"plain": plain, "curve": sorted(curve, key=lambda c: c["step"])}


def run(model: DemoModel, work: Path) -> dict:
    """The report, which is also written to the model's ``validation*.json``."""
    chosen = choose(model, work)
    print(json.dumps({k: v for k, v in chosen.items() if k != "cells"}), flush=True)
    result = measure(model, work, chosen)
    report = {
        "chosen": {k: v for k, v in chosen.items() if k != "cells"},
        "sigma": model.sampler.sigma(chosen["step"]),
        "validation": {"pairs": scenes.VALIDATION_PAIRS, "seeds": list(VALIDATION_SEEDS),
                       "cells": {k: {a: b for a, b in v.items() if a != "found"} for k, v in chosen["cells"].items()}},
        "test": {"pairs": scenes.TEST_PAIRS, "prompts": [c[0] for c in cases(scenes.TEST_PAIRS, [0])],
                 "seeds": list(SEEDS), "sampler": model.sampler.named, **result},
        "detector": detector.check(work),
    }
    model.report.write_text(compact(report))
    return report


def compact(report: dict) -> str:
    """JSON with each innermost list on one line: every picture's verdict on a line of its own would be most of it."""
    innermost = re.compile(r"\[\s+([^][{}]*?)\s+\]")
    return innermost.sub(lambda found: f"[{' '.join(found[1].split())}]", json.dumps(report, indent=1))

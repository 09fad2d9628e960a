"""What do the methods without gradients bring? Success on the demo model against plain sampling, and seconds.

As inner_loop.py: the real server, stock nodes, validation prompts alone (demo/validation.json), n = 96 per setting.
Cells that are there are not made again: `without_gradients.json` beside this file. `--only NAME` makes some of them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from pathlib import Path

import inner_loop  # beside this file
from inner_loop import ROOT, VALIDATION, all_found, judge
from PIL import Image

from gsn.metrics.stats import wilson
from lab.tools.environment import Environment
from lab.tools.server import Server

FOUND = Path(__file__).with_suffix(".json")


def temperature(factor: float, words: str) -> tuple[str, dict]:
    return "GSNAttentionTemperature", {"factor": factor, "words": words}


def reweight(own: float, others: float) -> tuple[str, dict]:
    return "GSNAttentionReweight", {"own": own, "others": others, "threshold": 1.0}


SETTINGS: dict[str, tuple[tuple[str, dict], ...]] = {
    "plain": (),
    "temperature 1.2, whole text": (temperature(1.2, "whole text"),),
    "temperature 1.5, whole text": (temperature(1.5, "whole text"),),
    "temperature 1.5, subjects": (temperature(1.5, "subjects"),),
    "reweight 2, 0": (reweight(2.0, 0.0),),
    "reweight 1, 0": (reweight(1.0, 0.0),),
    "reweight 2, 1": (reweight(2.0, 1.0),),
    "reweight 5, 0": (reweight(5.0, 0.0),),
    "temperature 1.2 and reweight 2, 0": (temperature(1.2, "whole text"), reweight(2.0, 0.0)),
}


def graph(prompt: str, seed: int, images: int, patches: tuple[tuple[str, dict], ...]) -> dict:
    nodes = inner_loop.graph(prompt, seed, images, None)
    for number, (kind, settings) in enumerate(patches):
        inputs = {"model": nodes["sample"]["inputs"]["model"], **settings}
        nodes[f"patch{number}"] = {"class_type": kind, "inputs": inputs}
        nodes["sample"]["inputs"]["model"] = [f"patch{number}", 0]
    return nodes


def cell(server: Server, prompts: list[str], patches: tuple[tuple[str, dict], ...]) -> dict:
    """Per picture whether every noun was found."""
    (seed, images), found, began = VALIDATION, [], time.monotonic()
    for prompt in prompts:
        outputs = server.run(graph(prompt, seed, images, patches))
        pictures = [Image.open(io.BytesIO(server.image(one))).convert("RGB") for one in outputs["look"]["images"]]
        found += [all_found(score) for score in judge(pictures, prompt)]
    return {"found": found, "seconds": round(time.monotonic() - began, 1)}


def row(name: str, one: dict, plain: dict) -> str:
    k, n = sum(one["found"]), len(one["found"])
    low, high = wilson(k, n)
    pairs = list(zip(one["found"], plain["found"], strict=True))
    against = f"{sum(a and not b for a, b in pairs)} / {sum(b and not a for a, b in pairs)}"
    rate = f"{100 * k / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    return f"| {name} | {rate} | {n} | {against} | {one['seconds'] / plain['seconds']:.2f} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(SETTINGS), help="names of settings; plain is always made")
    options = parser.parse_args()
    pairs = json.loads((ROOT / "demo" / "validation.json").read_text())["validation"]["pairs"]
    prompts = [f"a photo of a {a} and a {b}" for pair in pairs for a, b in (pair, pair[::-1])]
    cells = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    environment = Environment(Path(sys.executable), Path(os.environ["GSN_COMFYUI"]), ROOT / ".comfyui" / "base")
    with Server(environment) as server:
        for name in dict.fromkeys(["plain", *options.only]):
            if name not in cells:
                cells[name] = cell(server, prompts, SETTINGS[name])
                FOUND.write_text(json.dumps(cells))
            print(row(name, cells[name], cells["plain"]), file=sys.stderr, flush=True)
    print("| setting | success [95 %] | n | won / lost, to plain | time, to plain |\n|---|---|---|---|---|")
    for name, one in cells.items():
        print(row(name, one, cells["plain"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What each method costs: a whole run of the demo model with it, as a multiple of the plain run beside it.

`.venv/bin/python benchmarks/methods.py [NAME...]` in the environment that `dev.py bench` makes. Every method and the
plain run take turns on the same prompts (validation's) and seeds through the real server: 50 steps of ddpm, CFG 3,
four images at once; a ratio is between the sums of seconds. methods.json holds them for README's table.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from devtools.environment import Environment  # noqa: E402
from devtools.server import Server  # noqa: E402
from gsn.presets import PRESETS  # noqa: E402

FOUND = Path(__file__).with_suffix(".json")
PROMPTS, IMAGES, SEED = 1, 4, 200
NEED_BOXES = ("BoxDiff", "SAGA boxes")
BOXES = [{"x": 8, "y": 24, "width": 52, "height": 80}, {"x": 70, "y": 24, "width": 52, "height": 80}]


def graph(prompt: str, seed: int, name: str | None) -> dict:
    nodes = {
        "model": {"class_type": "GSNDemoModel", "inputs": {"which": "unet"}},
        "positive": {"class_type": "GSNSubjects", "inputs": {"clip": ["model", 1], "text": prompt, "subjects": ""}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["model", 1], "text": ""}},
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": IMAGES}},
    }
    model = ["model", 0]
    if name in NEED_BOXES:
        drawn = {"width": 128, "height": 128, "editor_state": {"__value__": BOXES}}  # as the editor sends a list
        nodes["boxes"] = {"class_type": "CreateBoundingBoxes", "inputs": drawn}
        nodes["positive"]["inputs"] |= {"boxes": ["boxes", 1], "canvas_width": 128, "canvas_height": 128}
    if name is not None:
        nodes["preset"] = {"class_type": "GSNPreset", "inputs": {"model": model, "preset": name}}
        model = ["preset", 0]
    sampler = {"model": model, "seed": seed, "steps": 50, "cfg": 3.0, "sampler_name": "ddpm",
               "scheduler": "ddim_uniform", "positive": ["positive", 0], "negative": ["negative", 0],
               "latent_image": ["latent", 0], "denoise": 1.0}  # fmt: skip
    nodes["sample"] = {"class_type": "KSampler", "inputs": sampler}
    nodes["decode"] = {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["model", 2]}}
    nodes["look"] = {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}}
    return nodes


def seconds(server: Server, *what) -> float:
    began = time.monotonic()
    server.run(graph(*what))
    return time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", metavar="NAME", help="methods to measure (all that run on the demo model)")
    runs = [name for name, one in PRESETS.items() if one.moves and one.noise != "flow" and one.family == "any"]
    names = parser.parse_args().name or runs
    about = json.loads((ROOT / "demo" / "validation.json").read_text())
    prompts = [f"a photo of a {a} and a {b}" for a, b in about["validation"]["pairs"][:PROMPTS]]
    found = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    environment = Environment(Path(sys.executable), Path(os.environ["GSN_COMFYUI"]), ROOT / ".comfyui" / "base")
    with Server(environment) as server:
        seconds(server, prompts[0], SEED - 1, None)  # warms up
        for name in names:
            spent = {"plain": 0.0, "with": 0.0}
            for i, prompt in enumerate(prompts):
                spent["plain"] += seconds(server, prompt, SEED + i, None)
                spent["with"] += seconds(server, prompt, SEED + i, name)
            found[name] = {"ratio": spent["with"] / spent["plain"], "n": PROMPTS * IMAGES, **spent}
            FOUND.write_text(json.dumps(found, indent=1))
            print(name, found[name], file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

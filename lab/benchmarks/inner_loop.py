"""How short may the inner loop be? Success on the demo model against the gradients it costs.

Every picture is made by the real server with stock nodes and `SingleStepIterRef`. Settings are compared on the demo
model's validation prompts; the best short one and the paper's fifty iterations are then measured on its test prompts
(demo/validation.json: pairs that training never named together, none in both sets). Batches hold the images of one
seed, the same in every setting. Cells that are there are not made again: `inner_loop.json` beside this file.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from gsn.metrics.stats import wilson  # noqa: E402
from lab.tools.demo import all_found, judge  # noqa: E402
from lab.tools.environment import Environment  # noqa: E402
from lab.tools.server import Server  # noqa: E402

FOUND = Path(__file__).with_suffix(".json")
VALIDATION, TEST = (100, 8), (0, 8)  # seed, images


@dataclass(frozen=True)
class Setting:
    """threshold: the loss at which an image stops; blocks: of AttentionCapture; patience: see Refine."""

    iterations: int
    lr: float
    threshold: float | None = None
    blocks: str = "auto"
    patience: int = 0

    @property
    def name(self) -> str:
        more = "" if self.threshold is None else f", stops at {self.threshold:g}"
        more += "" if not self.patience else f", patience {self.patience}"
        more += "" if self.blocks == "auto" else f", {self.blocks}"
        return f"{self.iterations} x {self.lr:g}{more}"


PAPER = Setting(50, 0.06)
SETTINGS = (
    PAPER,
    *(Setting(n, lr) for n, lr in ((20, 0.06), (20, 0.12), (20, 0.2), (10, 0.12), (10, 0.2), (10, 0.3), (5, 0.3))),
    Setting(50, 0.06, threshold=0.1),
    Setting(20, 0.12, threshold=0.1),
    Setting(50, 0.06, patience=5),
    Setting(20, 0.2, patience=3),
    Setting(50, 0.06, blocks="in1,in3"),
    Setting(20, 0.12, blocks="in1,in3"),
)


def graph(prompt: str, seed: int, images: int, setting: Setting | None) -> dict:
    nodes = {
        "model": {"class_type": "GSNDemoModel", "inputs": {"which": "unet"}},
        "positive": {"class_type": "GSNSubjects", "inputs": {"clip": ["model", 1], "text": prompt, "subjects": ""}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["model", 1], "text": ""}},
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": images}},
    }
    # The training measured in bfloat16 as well; on processors that know it this halves the time.
    nodes["bf16"] = {"class_type": "ModelComputeDtype", "inputs": {"model": ["model", 0], "dtype": "bf16"}}
    model = ["bf16", 0]
    if setting is not None:
        capture = {"model": model, "blocks": setting.blocks, "resolution": "auto", "columns": "auto",
                   "record_steps": ""}  # fmt: skip
        refine = {"model": ["capture", 0], "step": 0, "step_unit": "auto", "iterations": setting.iterations,
                  "lr": setting.lr, "stop_early": setting.threshold is not None,
                  "threshold": setting.threshold or 0.0, "patience": setting.patience}  # fmt: skip
        nodes["capture"] = {"class_type": "AttentionCapture", "inputs": capture}
        nodes["refine"] = {"class_type": "SingleStepIterRef", "inputs": refine}
        nodes["curve"] = {"class_type": "GSNLossCurve", "inputs": {"trace": ["refine", 1], "after": ["decode", 0]}}
        nodes["account"] = {"class_type": "PreviewAny", "inputs": {"source": ["curve", 2]}}
        model = ["refine", 0]
    sampler = {"model": model, "seed": seed, "steps": 50, "cfg": 3.0, "sampler_name": "ddpm",
               "scheduler": "ddim_uniform", "positive": ["positive", 0], "negative": ["negative", 0],
               "latent_image": ["latent", 0], "denoise": 1.0}  # fmt: skip
    nodes["sample"] = {"class_type": "KSampler", "inputs": sampler}
    nodes["decode"] = {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["model", 2]}}
    nodes["look"] = {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}}
    return nodes


def cell(server: Server, prompts: list[str], seed: int, images: int, setting: Setting | None) -> dict:
    """Per picture whether every noun was found, and the gradients that were taken."""
    from PIL import Image

    found, gradients, began = [], [], time.monotonic()
    for prompt in prompts:
        outputs = server.run(graph(prompt, seed, images, setting))
        pictures = [Image.open(io.BytesIO(server.image(one))).convert("RGB") for one in outputs["look"]["images"]]
        found += [all_found(score) for score in judge(pictures, prompt)]
        if setting is not None:
            account = json.loads(outputs["account"]["text"][0])
            gradients += account["stops"][0]["iterations"]
    return {"found": found, "gradients": sum(gradients) / max(1, len(gradients)),
            "seconds": round(time.monotonic() - began, 1)}  # fmt: skip


def row(name: str, one: dict, other: dict | None = None) -> str:
    k, n = sum(one["found"]), len(one["found"])
    low, high = wilson(k, n)
    against = ""
    if other is not None:
        pairs = list(zip(one["found"], other["found"], strict=True))
        against = f"{sum(a and not b for a, b in pairs)} / {sum(b and not a for a, b in pairs)}"
    rate = f"{100 * k / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    return f"| {name} | {one['gradients']:.1f} | {rate} | {n} | {against} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", metavar="ITERATIONS,LR", help="the short setting to measure on the test prompts")
    options = parser.parse_args()
    about = json.loads((ROOT / "demo" / "validation.json").read_text())
    validation = [f"a photo of a {a} and a {b}" for pair in about["validation"]["pairs"] for a, b in (pair, pair[::-1])]
    cells = json.loads(FOUND.read_text()) if FOUND.exists() else {"validation": {}, "test": {}}
    todo = [("validation", validation, VALIDATION, one) for one in (None, *SETTINGS)]
    if options.fast:
        iterations, lr = options.fast.split(",")
        chosen = Setting(int(iterations), float(lr))
        todo = [("test", about["test"]["prompts"], TEST, one) for one in (None, PAPER, chosen)] + todo
    environment = Environment(Path(sys.executable), Path(os.environ["GSN_COMFYUI"]), ROOT / ".comfyui" / "base")
    with Server(environment) as server:
        for part, prompts, (seed, images), setting in todo:
            name = "plain" if setting is None else setting.name
            if name not in cells[part]:
                made = cell(server, prompts, seed, images, setting)
                cells[part][name] = {**made, "setting": setting and asdict(setting)}
                FOUND.write_text(json.dumps(cells))
            print(part, row(name, cells[part][name]), cells[part][name]["seconds"], file=sys.stderr, flush=True)
    for part, made in cells.items():
        print(f"\n| {part}: iterations x rate | gradients per image | success [95 %] | n | won / lost, to 50 x 0.06 |")
        print("|---|---|---|---|---|")
        for name, one in made.items():
            print(row(name, one, made[PAPER.name] if name not in (PAPER.name,) else None))
    return 0


if __name__ == "__main__":
    sys.exit(main())

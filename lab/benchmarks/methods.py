"""What each method costs: a whole run of a demo model with it, as a multiple of the plain run beside it.

`GSN_COMFYUI=... .venv/bin/python lab/benchmarks/methods.py [NAME...] [--study DIR]` in the environment that `dev.py
bench` makes. Presets of the pack run on the UNet, or, those that name noise levels of flow models, on the MM-DiT; the
methods of a study's folder run on its own demo models. Every method and the plain run take turns on the same prompt
(validation's) and seed through the real server, four images at once: 50 steps of ddpm on the UNet, 28 of euler
on the MM-DiT. A ratio is between processor seconds of the server, which has one thread, so that other work on the
machine does not count. methods.json holds them, by model and method, for README's table and lab/study/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from gsn.methods.presets import PRESETS  # noqa: E402
from lab.study.models import Model, demo_model  # noqa: E402
from lab.study.store import ABOUT  # noqa: E402
from lab.study.study import PLAIN, Method, from_json  # noqa: E402
from lab.tools.environment import Environment, make_base  # noqa: E402
from lab.tools.server import Server  # noqa: E402

FOUND = Path(__file__).with_suffix(".json")
IMAGES, SEED = 4, 200
NEED_BOXES = ("BoxDiff", "SAGA boxes")
BOXES = [{"x": 8, "y": 24, "width": 52, "height": 80}, {"x": 70, "y": 24, "width": 52, "height": 80}]


def graph(on: Model, prompt: str, seed: int, method: Method) -> dict:
    nodes = {
        "model": {"class_type": "GSNDemoModel", "inputs": {"which": on.name}},
        "positive": {"class_type": "GSNSubjects", "inputs": {"clip": ["model", 1], "text": prompt, "subjects": ""}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["model", 1], "text": ""}},
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": IMAGES}},
    }
    model = ["model", 0]
    if method.name in NEED_BOXES:
        drawn = {"width": 128, "height": 128, "editor_state": {"__value__": BOXES}}  # as the editor sends a list
        nodes["boxes"] = {"class_type": "CreateBoundingBoxes", "inputs": drawn}
        nodes["positive"]["inputs"] |= {"boxes": ["boxes", 1], "canvas_width": 128, "canvas_height": 128}
    if method.name != PLAIN:
        chosen = {"file": f"{method.name}.json"} if method.file else {"preset": method.name}
        nodes["preset"] = {"class_type": "GSNPreset", "inputs": {"model": model, "preset": PLAIN, **chosen}}
        model = ["preset", 0]
    sampler = {"model": model, "seed": seed, "steps": on.steps, "cfg": on.cfg, "sampler_name": on.sampler,
               "scheduler": on.scheduler, "positive": ["positive", 0], "negative": ["negative", 0],
               "latent_image": ["latent", 0], "denoise": 1.0}  # fmt: skip
    nodes["sample"] = {"class_type": "KSampler", "inputs": sampler}
    nodes["decode"] = {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["model", 2]}}
    nodes["look"] = {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}}
    return nodes


def seconds(server: Server, *what) -> float:
    """Of a processor, for one run of `graph`."""
    process = psutil.Process(server.process.pid)
    before = process.cpu_times()
    server.run(graph(*what))
    after = process.cpu_times()
    return after.user + after.system - before.user - before.system


def presets(names: list[str]) -> list[tuple[Model, Method]]:
    """The pack's own (all that run on a demo model, if none is named), each with the model it is measured on."""
    models = {noise: demo_model("mmdit" if noise == "flow" else "unet") for noise in ("any", "ddpm", "flow")}
    runs = [name for name, one in PRESETS.items() if one.moves and one.family == "any"]
    return [(models[PRESETS[name].noise], Method(name)) for name in names or runs]


def studied(folder: Path, names: list[str]) -> list[tuple[Model, Method]]:
    study = from_json((folder / ABOUT).read_text(encoding="utf-8"), str(folder))
    methods = [one for one in study.methods if one.name != PLAIN and one.name in (names or [one.name])]
    return [(demo_model(on.name), method) for on in study.models for method in methods]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", metavar="NAME", help="methods to measure (all that run on a demo model)")
    parser.add_argument("--study", type=Path, metavar="DIR", help="its methods on its models, in place of presets")
    options = parser.parse_args()
    todo = studied(options.study, options.name) if options.study else presets(options.name)
    about = json.loads((ROOT / "demo" / "validation.json").read_text())
    prompt = "a photo of a {} and a {}".format(*about["validation"]["pairs"][0])
    found = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as base:
        environment = Environment(Path(sys.executable), Path(os.environ["GSN_COMFYUI"]), make_base(Path(base)))
        with Server(environment) as server:
            for on in {on.name: on for on, _ in todo}.values():
                seconds(server, on, prompt, SEED - 1, Method(PLAIN))  # warms up
            for on, method in todo:
                if method.file:
                    (environment.base / "input" / f"{method.name}.json").write_text(method.file, encoding="utf-8")
                spent = {name: seconds(server, on, prompt, SEED, one) for name, one in
                         (("plain", Method(PLAIN)), ("with", method))}  # fmt: skip
                cost = {"ratio": spent["with"] / spent["plain"], "n": IMAGES, **spent}
                found.setdefault(on.name, {})[method.name] = cost
                FOUND.write_text(json.dumps(found, indent=1) + "\n")
                print(f"{method.name} on {on.name}", cost, file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

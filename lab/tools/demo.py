"""The demo, run inside the virtual environment: one template, every seed, through the real server.

The template is queued once per seed, so that each picture is the one a user gets who types that seed. No seed
is left out and none is chosen: seeds 0 to N-1, and the counts are over all of them.
"""

import io
import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from lab.study.models import demo_model

from .compose import before_after
from .environment import ROOT, Environment, SetupError, log
from .server import Server, ServerError
from .ui_to_api import ui_to_api

TEMPLATE = ROOT / "workflows" / "gsn_before_after.json"
DETECTOR = ROOT / "demo" / "gsn_demo_detector.safetensors"
SAMPLER, SUBJECTS, MODEL = "GSNKSampler", "GSNSubjects", "GSNDemoModel"
# What a saved picture shows, by the node it comes from; the sampler's outputs go by their own names.
SHOWS = {"GSNHeatmaps": "heatmaps", "GSNLossCurve": "loss"}


def run(request):
    began = time.monotonic()
    out = Path(request["out"])
    out.mkdir(parents=True, exist_ok=True)
    if request["seeds"] < 1:
        raise SetupError("--seeds must be at least 1")
    environment = Environment(Path(sys.executable), Path(request["comfyui"]), Path(request["base"]))
    log("Starting ComfyUI ...")
    with Server(environment, log_file=out / "comfyui.log") as server:
        version = server.get("/system_stats")["system"]["comfyui_version"]
        info = server.get("/object_info")
        prompt = ui_to_api(json.loads(TEMPLATE.read_text()), info)
        text = configure(prompt, info, request)
        log(f'ComfyUI {version}: "{text}", seeds 0 to {request["seeds"] - 1}')
        pictures = {"refined": [], "plain": []}
        for seed in range(request["seeds"]):
            start = time.monotonic()
            found = pictures_of_seed(server, prompt, info, seed)
            for name in pictures:
                pictures[name].append(found.pop(name))
            for name, image in found.items():
                image.save(out / f"{name}.png")
            log(f"  seed {seed}: {time.monotonic() - start:.1f} s ({seed + 1} of {request['seeds']})")
    scores = {name: judge(images, text) for name, images in pictures.items()}
    before_after(text, pictures, scores).save(out / "before_after.png", optimize=True)
    names = [n for n in ("before_after", "heatmaps", "loss") if (out / f"{n}.png").exists()]
    return {
        "comfyui": version,
        "model": request["model"],
        "method": prompt_value(prompt, SAMPLER, "method"),
        "prompt": text,
        "seeds": request["seeds"],
        "plain_success": sum(map(all_found, scores["plain"])),
        "refined_success": sum(map(all_found, scores["refined"])),
        "images": [str(out / f"{n}.png") for n in names],
        "seconds": round(time.monotonic() - began + request["setup_seconds"], 1),
        "setup_seconds": request["setup_seconds"],
    }


def only_node(prompt, kind):
    found = [node_id for node_id, node in prompt.items() if node["class_type"] == kind]
    if len(found) != 1:
        raise SetupError(f"{TEMPLATE.name} should hold one {kind} and holds {len(found)}")
    return found[0]


def prompt_value(prompt, kind, name):
    return prompt[only_node(prompt, kind)]["inputs"].get(name)


def options_of(info, kind, name):
    spec = next(group[name] for group in info[kind]["input"].values() if name in group)
    return spec[0] if isinstance(spec[0], list) else spec[1]["options"]


def configure(prompt, info, request):
    """Puts the command line's wishes and the model's measured settings into the template; returns the text."""
    model = prompt[only_node(prompt, MODEL)]["inputs"]
    (which,) = [name for name in model if options_of(info, MODEL, name)]
    fitting = [o for o in options_of(info, MODEL, which) if request["model"] in o.lower()]
    if not fitting:
        raise SetupError(f"{MODEL} has no {request['model']} model: {options_of(info, MODEL, which)}")
    model[which] = fitting[0]
    subjects = prompt[only_node(prompt, SUBJECTS)]["inputs"]
    if request["prompt"]:
        subjects["text"] = request["prompt"]
    sampler = prompt[only_node(prompt, SAMPLER)]["inputs"]
    if request["method"]:
        methods = options_of(info, SAMPLER, "method")
        if request["method"] not in methods:
            raise SetupError(f"no method called {request['method']!r}; there are: {', '.join(methods)}")
        sampler["method"] = request["method"]
    measured = demo_model(request["model"])
    settings = {"steps": measured.steps, "cfg": measured.cfg}
    settings |= {"sampler_name": measured.sampler, "scheduler": measured.scheduler}
    for node in prompt.values():
        if "batch_size" in node["inputs"]:
            node["inputs"]["batch_size"] = 1
        if settings.keys() <= node["inputs"].keys():
            node["inputs"] |= settings
    return subjects["text"]


def pictures_of_seed(server, prompt, info, seed):
    """{refined, plain} and, for the first seed, {heatmaps, loss} as images."""
    prompt = json.loads(json.dumps(prompt))
    prompt[only_node(prompt, SAMPLER)]["inputs"]["seed"] = seed
    shown = {node_id: what_it_shows(prompt, info, node_id) for node_id in savers(prompt, info)}
    if seed:
        for node_id, what in shown.items():
            if what in SHOWS.values():
                del prompt[node_id]
    found = {}
    for node_id, output in server.run(prompt).items():
        if output.get("images") and shown.get(node_id):
            data = server.image(output["images"][0])
            found[shown[node_id]] = Image.open(io.BytesIO(data)).convert("RGB")
    missing = {"refined", "plain"} - set(found)
    if missing:
        raise ServerError(f"{TEMPLATE.name} saved no picture of: {', '.join(sorted(missing))}")
    return found


def savers(prompt, info):
    return [node_id for node_id, node in prompt.items() if info[node["class_type"]].get("output_node")]


def what_it_shows(prompt, info, node_id):
    """Walks up from an output node to the first node that gives its picture a meaning."""
    if prompt[node_id]["class_type"] in SHOWS:
        return SHOWS[prompt[node_id]["class_type"]]
    for value in prompt[node_id]["inputs"].values():
        if not isinstance(value, list):
            continue
        source, slot = value
        kind = prompt[source]["class_type"]
        if kind == SAMPLER:
            return info[kind]["output_name"][slot]
        found = what_it_shows(prompt, info, source)
        if found:
            return found
    return None


def judge(images, text):
    """Per image {noun: found?} for the nouns of the prompt, by the shipped detector."""
    import torch

    from gsn.metrics.demo_detector import DemoDetector

    detector = DemoDetector(DETECTOR)
    words = text.lower().replace(",", " ").split()
    asked = [noun for noun in detector.nouns if noun in words]
    if not asked:
        log(f"The prompt has no noun of the demo model; nothing to count. Nouns: {', '.join(detector.nouns)}")
        return [{} for _ in images]
    pixels = torch.from_numpy(np.stack([np.asarray(i, np.float32) / 255 for i in images]))
    with torch.no_grad():
        probabilities = detector.detect(pixels)
    columns = {noun: list(detector.nouns).index(noun) for noun in asked}
    return [{n: bool(row[c] >= detector.threshold) for n, c in columns.items()} for row in probabilities]


def all_found(score):
    return bool(score) and all(score.values())


def main():
    request = json.loads(sys.argv[1])
    try:
        report = run(request)
    except (SetupError, ServerError) as e:
        log(f"dev.py demo: {e}")
        return 1
    except KeyboardInterrupt:
        log("Stopped.")
        return 130
    log(
        f"All subjects found: plain {report['plain_success']} of {report['seeds']}, "
        f"refined {report['refined_success']} of {report['seeds']}. {report['images'][0]}"
    )
    if request["json"]:
        print(json.dumps(report), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

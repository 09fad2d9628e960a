"""A batch as a workflow in ComfyUI's API format: our own, or a user's file with placeholders filled in.

Placeholders stand in a text value, as "%prompt%"; a value that is nothing but one becomes what it stands for (a number
stays a number). A workflow with %seeds% (for GSNSeeds) and %count% (for batch_size) makes all seeds of a batch at
once; one with %seed% is queued once for each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from .study import PLAIN, Batch, Method, StudyError, label_of

IMAGES, ACCOUNT, BOXES = "images", "account", "boxes"  # the nodes whose output is read
LEAST = 0.05
_PLACEHOLDER = re.compile(r"%([a-z_]+)%")
KNOWN = (
    "prompt", "marked", "seed", "seeds", "count", "step", "model", "negative", "width", "height", "steps", "cfg",
    "sampler", "scheduler",
)  # fmt: skip


def workflow(batch: Batch, preset_file: str | None = None, detector: str = "") -> dict:
    """Our own graph. preset_file: where in ComfyUI's input folder the method's preset lies, if it is a file; detector:
    the file of RT-DETR, where ComfyUI detects."""
    model, count = batch.model, len(batch.seeds)
    if model.checkpoint:
        loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": model.checkpoint}}
    else:
        loader = {"class_type": "GSNDemoModel", "inputs": {"which": model.name}}
    nodes = {"model": loader}
    wire = ["model", 0]

    def patch(name: str, kind: str, **inputs) -> None:
        nonlocal wire
        nodes[name] = {"class_type": kind, "inputs": {"model": wire, **inputs}}
        wire = [name, 0]

    if model.dtype != "default":
        patch("dtype", "ModelComputeDtype", dtype=model.dtype)
    patch("seeds", "GSNSeeds", seeds=", ".join(map(str, batch.seeds)))
    if batch.method.name != PLAIN:
        patch("method", "GSNSweep", methods=label_of(preset_file or batch.method.name, batch.method.step))
        curve = {"trace": ["method", 1], "after": ["decode", 0]}
        nodes["curve"] = {"class_type": "GSNLossCurve", "inputs": curve}
        nodes[ACCOUNT] = {"class_type": "PreviewAny", "inputs": {"source": ["curve", 2]}}
    encoded = {"clip": ["model", 1], "text": batch.case.marked, "subjects": ""}
    nodes["positive"] = {"class_type": "GSNSubjects", "inputs": encoded}
    nodes["negative"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["model", 1], "text": model.negative}}
    size = {"width": model.width, "height": model.height, "batch_size": count}
    nodes["latent"] = {"class_type": "EmptyLatentImage", "inputs": size}
    # Its own seed makes no noise here; methods that draw some of their own take it from there.
    sampler = {"model": wire, "seed": batch.seeds[0], "steps": model.steps, "cfg": model.cfg,
               "sampler_name": model.sampler, "scheduler": model.scheduler, "positive": ["positive", 0],
               "negative": ["negative", 0], "latent_image": ["latent", 0], "denoise": 1.0}  # fmt: skip
    nodes["sample"] = {"class_type": "KSampler", "inputs": sampler}
    nodes["decode"] = {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["model", 2]}}
    nodes[IMAGES] = {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}}
    if detector:
        nodes |= detecting(detector, ["decode", 0])
    return nodes


def detecting(file: str, images: list) -> dict:
    """ComfyUI's own detector on these images, and its boxes as text, down to a low score: a threshold comes later."""
    loader = {"unet_name": file, "weight_dtype": "default"}
    look = {"model": ["detector", 0], "image": images, "threshold": LEAST, "class_name": "all", "max_detections": 100}
    return {
        "detector": {"class_type": "UNETLoader", "inputs": loader},
        "detect": {"class_type": "RTDETR_detect", "inputs": look},
        BOXES: {"class_type": "PreviewAny", "inputs": {"source": ["detect", 0]}},
    }


def check_user_workflow(name: str, text: str) -> None:
    """Raises StudyError for what is no workflow in API format, or says nowhere what is to be drawn."""
    try:
        nodes = json.loads(text)
    except ValueError as error:
        raise StudyError(f"{name} is not JSON: {error}") from None
    if isinstance(nodes, dict) and "nodes" in nodes:
        raise StudyError(
            f"{name} is a workflow as the editor saves it; the study needs the API format: Workflow > Export (API)"
        )
    bad = not isinstance(nodes, dict) or not nodes
    if bad or not all(isinstance(one, dict) and "class_type" in one for one in nodes.values()):
        raise StudyError(f"{name} is neither a preset (see GSNPreset's json output) nor a workflow in API format")
    used = set(_PLACEHOLDER.findall(json.dumps([node.get("inputs", {}) for node in nodes.values()])))
    unknown = sorted(used - set(KNOWN))
    if unknown:
        known = ", ".join(f"%{one}%" for one in KNOWN)
        raise StudyError(f"{name} has the unknown placeholder %{unknown[0]}%; there are: {known}")
    if not used & {"prompt", "marked"} or not used & {"seed", "seeds"}:
        raise StudyError(
            f"{name} must take its prompt and seed from the study: put %prompt% (or %marked%, with the subjects in"
            " brackets, for GSNSubjects) into the text, and %seed% into the seed, or %seeds% into GSNSeeds with %count%"
            " as batch_size"
        )


def makes_batches(text: str) -> bool:
    """Whether a user's workflow makes all seeds of a batch in one run."""
    return "%seeds%" in text


def shows_images(node: dict) -> bool:
    return node["class_type"] in ("SaveImage", "PreviewImage")


def user_workflow(batch: Batch, seeds: Sequence[int], detector: str = "") -> dict:
    """The user's nodes with everything filled in, for these of the batch's seeds. detector: as in `workflow`."""
    model, case = batch.model, batch.case
    values = {
        "prompt": case.text, "marked": case.marked, "seed": seeds[0], "seeds": ", ".join(map(str, seeds)),
        "count": len(seeds), "step": batch.method.step, "model": model.checkpoint or model.name,
        **{key: getattr(model, key) for key in KNOWN[7:]},
    }  # fmt: skip
    nodes = _filled(json.loads(batch.method.file), values)
    shown = [node["inputs"]["images"] for node in nodes.values() if shows_images(node)]
    if detector and shown:
        nodes |= detecting(detector, shown[0])
    return nodes


def _filled(content, values: dict):
    if isinstance(content, dict):
        return {key: _filled(value, values) for key, value in content.items()}
    if isinstance(content, list):
        return [_filled(value, values) for value in content]
    if not isinstance(content, str):
        return content
    whole = _PLACEHOLDER.fullmatch(content)
    if whole:
        return values[whole[1]]
    return _PLACEHOLDER.sub(lambda found: str(values[found[1]]), content)


def is_workflow(text: str) -> bool:
    """Whether a JSON file is meant as a workflow and not as a preset."""
    try:
        content = json.loads(text)
    except ValueError:
        return False
    return isinstance(content, dict) and "moves" not in content


def check_method(method: Method) -> None:
    """A workflow's own step is only used where it asks for one."""
    if method.kind == "workflow" and method.step and "%step%" not in method.file:
        raise StudyError(f"{method.name} has no %step%, so it cannot be run at step {method.step}")
    if method.name == PLAIN and method.step:
        raise StudyError("plain sampling has no step")

"""Where the detections of a TIAM score come from inside ComfyUI."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import folder_paths
from torch import Tensor

from ...metrics.coco_detector import CocoDetector
from ...metrics.demo_detector import DemoDetector
from ...metrics.detections import COCO, Detection, check_classes, from_boxes, parse_detections, read_detections
from ...metrics.efficientdet import EfficientDet
from ..demo import FOLDER
from ..files import MOST_BYTES, below, folders_of

DEMO_NOTE = (
    "On renders of its own twelve nouns, passed through the VAE, this detector finds 1342 of 1342 and none of 9458 that"
    " are not there, so the score is not corrected. It knows no places, and takes 24 of 200 half-and-half pictures for"
    " a noun (demo/README.md)."
)
COCO_NOTE = (
    "A small detector (300 x 300, 24 % average precision on COCO): it misses small and unusual things that a large one"
    " finds, so compare its scores with its own alone (detector/README.md)."
)
BOXES_NOTE = "What scored below the RT-DETR node's own threshold is not in its boxes, whatever the threshold here."
NO_FILE = "none: put a .tflite detector into models/detection"


@dataclass(frozen=True)
class Found:
    """Per picture its detections; all classes that the detector knows; its name, and what to know about it."""

    detections: list[tuple[Detection, ...]]
    classes: tuple[str, ...]
    name: str
    note: str = ""


# Each detector and the package that runs it, where that is none of ComfyUI's.
DETECTORS = {"COCO detector": "onnxruntime", "RT-DETR boxes": "", "demo detector": "", "JSON": "",
             "TensorFlow Lite file": "mediapipe"}  # fmt: skip


def unusable(detector: str) -> str:
    """Why this one cannot look at anything, to be said before pictures are made; or nothing."""
    if detector not in DETECTORS:
        return f"detector must be one of: {', '.join(DETECTORS)}"
    runtime = DETECTORS[detector]
    if not runtime or importlib.util.find_spec(runtime) is not None:
        return ""
    return f"{detector} needs the package {runtime}: install it with 'pip install {runtime}' in ComfyUI's Python"


def tflite_files() -> list[str]:
    """Names of the TensorFlow Lite files in models/detection."""
    return sorted({path.name for folder in folders_of("detection") for path in folder.glob("*.tflite")})


def demo_found(batches: Sequence[Tensor]) -> Found:
    judge = DemoDetector(FOLDER / "gsn_demo_detector.safetensors")
    found = [one for batch in batches for one in judge.detections(batch)]
    return Found(found, tuple(judge.nouns), "demo detector", DEMO_NOTE)


def coco_found(batches: Sequence[Tensor]) -> Found:
    judge = CocoDetector()
    return Found([one for batch in batches for one in judge.detections(batch.cpu())], COCO, "COCO detector", COCO_NOTE)


def boxes_found(boxes: Sequence, batches: Sequence[Tensor]) -> Found:
    """boxes: what ComfyUI's RT-DETR node gave for each of the batches [B, H, W, 3]."""
    if len(boxes) != len(batches):
        raise ValueError(
            f"there are {len(boxes)} outputs of boxes for {len(batches)} batches of pictures; connect the same pictures"
            " to the RT-DETR node and here"
        )
    found = []
    for one, batch in zip(boxes, batches, strict=True):
        found += from_boxes(one, len(batch), batch.shape[2], batch.shape[1])
    check_classes([one.label for picture in found for one in picture], COCO, "COCO's list, which boxes here must use,")
    return Found(found, COCO, "RT-DETR", BOXES_NOTE)


def json_found(text: str, pictures: int) -> Found:
    """text: the JSON of gsn/metrics/detections.py, or the name of such a file in ComfyUI's input folder."""
    if text.lstrip().startswith("{"):
        read = parse_detections(text)
    else:
        read = read_detections(in_input_folder(text.strip(), "the JSON of detections"))
    if len(read.images) != pictures:
        raise ValueError(
            f"the detections are of {len(read.images)} images ({', '.join(list(read.images)[:3])} ...), but there are"
            f" {pictures} pictures; they are matched by their order, so list every picture, in the same order"
        )
    return Found(list(read.images.values()), read.classes, read.detector or "JSON")


def file_found(name: str, batches: Sequence[Tensor]) -> Found:
    """name: of a TensorFlow Lite detector in models/detection."""
    places = [below(folder, name) for folder in folders_of("detection")]
    path = next((place for place in places if name in tflite_files() and place is not None and place.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"there is no detector file {name!r} in models/detection ({', '.join(tflite_files()) or 'it has none'})."
            " Put one there, such as efficientdet_lite0.tflite, and reload the page"
        )
    with EfficientDet(path) as detector:
        found = [one for batch in batches for one in detector.detections(batch.cpu())]
        return Found(found, detector.classes, name)


def in_input_folder(name: str, what: str) -> Path:
    """A file in ComfyUI's input folder, and nowhere else. Raises FileNotFoundError naming `what` was looked for."""
    folder = folder_paths.get_input_directory()
    path = below(folder, name)
    if path is None or not path.is_file():
        raise FileNotFoundError(f"{name[:200]!r} is no file in ComfyUI's input folder ({folder}); put {what} there")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{name[:200]!r} has more than {MOST_BYTES // 10**6} MB; give a shorter one as {what}")
    return path

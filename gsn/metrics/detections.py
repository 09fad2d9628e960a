"""What a detector found in pictures, from any detector: the value, its file format, and the check of its classes.

The file is JSON:

    {"format": "gsn-detections", "version": 1,
     "detector": "any name",
     "classes": ["cat", "dog", ...],
     "images": [
       {"image": "0001.png",
        "detections": [{"label": "cat", "score": 0.93, "box": [0.1, 0.2, 0.5, 0.9], "mask": {...}}]}]}

`classes` is everything the detector can find, so that "not found" can be told from "not looked for". `box` is
(x0, y0, x1, y1) as fractions of the picture, from its upper left corner. `mask` may be absent; it is COCO's
uncompressed run lengths, {"size": [h, w], "counts": [...]}: down the columns, starting with a run of zeros. A picture
in which nothing was found is listed with an empty list. Write all detections down to a low score: a threshold is
applied when scoring, and what the file lacks cannot be brought back.
"""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

FORMAT, VERSION = "gsn-detections", 1
WHOLE = (0.0, 0.0, 1.0, 1.0)
#: The 80 classes of COCO by its own names, in its order, as ComfyUI's RT-DETR node and most others say them.
COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
_MOST_PIXELS = 2**28  # of all masks of a file; run lengths are short, and what they stand for may not be
_SLACK = 0.02  # a box may reach so far out of the picture, as regressed boxes do; it is cut off there


@dataclass(frozen=True)
class Detection:
    """One thing found. `score` in 0..1; `box` (x0, y0, x1, y1) as fractions of the picture; `mask` [h, w] bool."""

    label: str
    score: float
    box: tuple[float, float, float, float] = WHOLE
    mask: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class DetectionSet:
    """A detector's name, all its classes, and what it found in each picture, by the picture's name."""

    detector: str
    classes: tuple[str, ...]
    images: Mapping[str, tuple[Detection, ...]]


def read_detections(path: str | Path) -> DetectionSet:
    """A file of the format above. Raises ValueError naming the file, the image and the entry; OSError."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path.name}: not UTF-8 text, so not a file of detections") from None
    return parse_detections(text, path.name)


def parse_detections(text: str, where: str = "detections") -> DetectionSet:
    """The same from a text. `where` stands before every error."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error.msg} in line {error.lineno})") from None
    except RecursionError:
        raise ValueError(f"{where}: nested deeper than any file of detections") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise ValueError(
            f'{where}: not a file of detections, which is an object with "format": "{FORMAT}" and "version": {VERSION}'
        )
    classes = data.get("classes")
    if not isinstance(classes, list) or not classes or not all(isinstance(one, str) and one for one in classes):
        raise ValueError(f'{where}: "classes" must be the list of all class names that the detector knows')
    entries = data.get("images")
    if not isinstance(entries, list):
        raise ValueError(f'{where}: "images" must be a list')
    _check_masks(entries, where)
    images: dict[str, tuple[Detection, ...]] = {}
    for number, entry in enumerate(entries, 1):
        name = entry.get("image") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not isinstance(entry.get("detections"), list):
            raise ValueError(f'{where}, image {number}: needs "image" (a name) and "detections" (a list, may be empty)')
        if name in images:
            raise ValueError(f"{where}: the image {name!r} is listed twice")
        found = enumerate(entry["detections"], 1)
        images[name] = tuple(_detection(one, classes, f"{where}, image {name!r}, detection {n}") for n, one in found)
    return DetectionSet(str(data.get("detector", "")), tuple(classes), images)


def to_json(found: DetectionSet) -> str:
    """A text that `parse_detections` reads back to the same values."""
    images = [{"image": name, "detections": [_entry(one) for one in all_]} for name, all_ in found.images.items()]
    head = {"format": FORMAT, "version": VERSION, "detector": found.detector, "classes": list(found.classes)}
    return json.dumps({**head, "images": images})


def check_classes(wanted: Sequence[str], classes: Sequence[str], detector: str = "the detector") -> None:
    """Raises ValueError when a wanted class is none of the detector's, naming the nearest ones it has."""
    missing = [one for one in dict.fromkeys(wanted) if one not in classes]
    if missing:
        near = difflib.get_close_matches(missing[0], classes, 3, 0.5)
        hint = f"nearest: {', '.join(near)}" if near else "its classes: " + ", ".join(sorted(classes)[:30])
        raise ValueError(
            f"{detector} has no class {', '.join(map(repr, missing))}, so it can never find it ({len(classes)} classes,"
            f" {hint}). Use the detector's word for it, or a detector that knows it"
        )


def from_scores(scores: Any, classes: Sequence[str]) -> list[tuple[Detection, ...]]:
    """Detections of a classifier: scores [B, classes] -> per picture one detection per class, its box the whole."""
    return [tuple(Detection(name, score) for name, score in zip(classes, row, strict=True)) for row in scores.tolist()]


def from_boxes(boxes: Any, batch: int, width: int, height: int) -> list[tuple[Detection, ...]]:
    """Detections from ComfyUI's RT-DETR node: per picture a list of dicts x, y, width, height (pixels), label, score.

    Raises:
        ValueError: another number of pictures, or a box without label or score (drawn by hand).
    """
    per_image = [boxes] if isinstance(boxes, dict) or (boxes and isinstance(boxes[0], dict)) else boxes
    per_image = [[one] if isinstance(one, dict) else one for one in per_image]
    if len(per_image) != batch:
        raise ValueError(
            f"there are boxes for {len(per_image)} pictures, but {batch} pictures; connect the same pictures to the"
            " detector and here"
        )
    out = []
    for number, frame in enumerate(per_image, 1):
        found = []
        for n, one in enumerate(frame, 1):
            where = f"picture {number}, box {n}"
            if not {"label", "score"} <= set(one):
                raise ValueError(f"{where} has no label and score; connect a detector's boxes, not drawn ones")
            x, y = one["x"] / width, one["y"] / height
            # Boxes of this detector may reach out of the picture.
            edges = x, y, x + one["width"] / width, y + one["height"] / height
            x0, y0, x1, y1 = (min(max(float(edge), 0.0), 1.0) for edge in edges)
            found.append(Detection(str(one["label"]), _score(one["score"], where), (x0, y0, x1, y1)))
        out.append(tuple(found))
    return out


def _detection(entry: Any, classes: Sequence[str], where: str) -> Detection:
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: must be an object with label, score and box")
    label = entry.get("label")
    if not isinstance(label, str) or label not in classes:
        raise ValueError(f'{where}: label {label!r} is not in the file\'s "classes"')
    score = _score(entry.get("score"), where)
    mask = None if entry.get("mask") is None else _mask(entry["mask"], where)
    return Detection(label, score, _box(entry.get("box"), where), mask)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _score(value: Any, where: str) -> float:
    if not _number(value) or not 0 <= value <= 1:
        raise ValueError(f"{where}: score {value!r} is not a number from 0 to 1")
    return float(value)


def _box(value: Any, where: str) -> tuple[float, float, float, float]:
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(map(_number, value)):
        raise ValueError(f"{where}: box {value!r} is not four numbers x0, y0, x1, y1")
    x0, y0, x1, y1 = map(float, value)
    if not (x0 < x1 and y0 < y1 and min(x0, y0) >= -_SLACK and max(x1, y1) <= 1 + _SLACK):
        raise ValueError(
            f"{where}: box {value!r} is not x0 < x1 and y0 < y1 within 0 to 1; it takes fractions of the picture, not"
            " pixels"
        )
    return max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0)


def _check_masks(entries: Sequence[Any], where: str) -> None:
    """Raises ValueError before anything is made of masks that no memory holds."""
    found = (one.get("detections") for one in entries if isinstance(one, dict))
    each = (one.get("mask") for some in found if isinstance(some, list) for one in some if isinstance(one, dict))
    sizes = [one.get("size") for one in each if isinstance(one, dict)]
    if (pixels := sum(size[0] * size[1] for size in sizes if _counts(size) and len(size) == 2)) > _MOST_PIXELS:
        raise ValueError(f"{where}: its masks have {pixels} pixels in all; {_MOST_PIXELS} are the most")


def _mask(value: Any, where: str) -> np.ndarray:
    size, counts = (value.get("size"), value.get("counts")) if isinstance(value, dict) else (None, None)
    if not (_counts(size) and _counts(counts) and len(size) == 2 and 0 not in size):
        raise ValueError(f'{where}: mask must be {{"size": [h, w], "counts": [run lengths]}}')
    if sum(counts) != size[0] * size[1]:
        raise ValueError(f"{where}: the mask's runs cover {sum(counts)} pixels, its size is {size[0]} x {size[1]}")
    runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return runs.reshape(size[1], size[0]).T


def _counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _entry(one: Detection) -> dict:
    entry: dict[str, Any] = {"label": one.label, "score": one.score, "box": list(one.box)}
    if one.mask is not None:
        flat = np.asarray(one.mask, bool).T.ravel()
        edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
        counts = [b - a for a, b in itertools.pairwise(edges)]
        entry["mask"] = {"size": list(one.mask.shape), "counts": ([0] if flat[0] else []) + counts}
    return entry

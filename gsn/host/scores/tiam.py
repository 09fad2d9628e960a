"""Pictures scored by TIAM inside ComfyUI: the chosen detector's finds, then a verdict for each picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...metrics.detections import check_classes
from ...metrics.tiam import THRESHOLDS, Row, Summary, score_image, summary
from ...pictures.tiam import Verdict
from .detectors import Found, boxes_found, coco_found, demo_found, file_found, json_found


@dataclass(frozen=True)
class Scored:
    """summaries: the chosen threshold first, then the usual ones above it; seen: every picture, in order."""

    summaries: tuple[Summary, ...]
    rows: tuple[Row, ...]
    seen: tuple[Verdict, ...]
    name: str
    note: str


def score_pictures(
    batches: Sequence[Tensor], asked: Sequence[Any], detector: str, threshold: float, boxes: Sequence | None = None,
    detections: str = "", file: str = "", labels: Sequence[str] = (),
) -> Scored:  # fmt: skip
    """Batches of pictures [B, H, W, 3], a PromptCase for each (one serves all), scored.

    labels: what made each batch (one serves all), or nothing.

    Raises:
        ValueError, OSError, ImportError: saying what does not fit, is missing or cannot be read.
    """
    asked = list(asked) * (len(batches) if len(asked) == 1 else 1)
    if len(asked) != len(batches):
        raise ValueError(f"{len(asked)} prompts for {len(batches)} batches of pictures; give one prompt for each batch")
    labels = list(labels or [""]) * (len(batches) if len(labels or [""]) == 1 else 1)
    if len(labels) != len(batches):
        raise ValueError(f"{len(labels)} labels for {len(batches)} batches of pictures; give one label for each batch")
    for number, batch in enumerate(batches, 1):
        if not bool(batch.isfinite().all()):
            raise ValueError(f"batch {number} of the pictures is corrupt: it has values that are no numbers")
    pictures = [picture for batch in batches for picture in batch]
    per_picture = [about for *about, batch in zip(asked, labels, batches, strict=True) for _ in batch]
    found = _found(detector, batches, len(pictures), boxes or (), detections, file)
    check_classes([one for case in asked for one in case.subjects], found.classes, f"the detector ({found.name})")
    rows, seen = [], []
    count: Counter[tuple[str, str]] = Counter()
    for (case, label), picture, sure in zip(per_picture, pictures, found.detections, strict=True):
        count[case.text, label] += 1
        name = f"image {count[case.text, label]}"
        at = [threshold, *(one for one in THRESHOLDS if one > threshold)]
        scores = [score_image(case.subjects, case.colours, sure, picture.cpu(), one) for one in at]
        rows += [Row(case.text, name, score, one, label) for score, one in zip(scores, at, strict=True)]
        seen.append(Verdict(picture, case.text, case.subjects, case.colours, sure, scores[0], label))
    return Scored(summary(rows), tuple(rows), tuple(seen), found.name, found.note)


def _found(detector: str, batches: Sequence[Tensor], pictures: int, boxes: Sequence, text: str, file: str) -> Found:
    if detector == "COCO detector":
        return coco_found(batches)
    if detector == "RT-DETR boxes":
        return boxes_found(boxes, batches)
    if detector == "demo detector":
        return demo_found(batches)
    if detector == "JSON":
        return json_found(text, pictures)
    return file_found(file, batches)

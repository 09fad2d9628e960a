"""What is read off a picture: the subjects that a detector finds, and any further columns of a row.

To add a score, put one entry into SCORERS: a name and what makes the scorer (models are loaded then, once per worker).
A scorer is a function (images, case) -> columns: images [B, H, W, 3] float32 in 0..1, as saved; columns: a name and
B values that JSON can hold.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .prompts import PromptCase
from .study import StudyError

Scorer = Callable[[np.ndarray, PromptCase], dict[str, list]]
# A detector: its classes, its confidence threshold, and images [B, H, W, 3] -> detections of each.
Detector = tuple[Sequence[str], float, Callable[[np.ndarray], Sequence]]
_DEMO = Path(__file__).resolve().parent.parent / "demo" / "gsn_demo_detector.safetensors"


def _demo_detector() -> Detector:
    import torch

    from gsn.metrics.demo_detector import DemoDetector

    detector = DemoDetector(_DEMO)
    return detector.nouns, detector.threshold, lambda images: detector.detections(torch.from_numpy(images))


DETECTORS: dict[str, Callable[[], Detector] | None] = {"demo": _demo_detector, "none": None}
SCORERS: dict[str, Callable[[], Scorer]] = {}


def make_detector(name: str) -> Detector | None:
    """None where nothing is to be detected."""
    if name not in DETECTORS:
        raise StudyError(f"there is no detector '{name}'; there are: {', '.join(DETECTORS)}")
    make = DETECTORS[name]
    return None if make is None else make()


def make_scorers(names: Sequence[str]) -> list[Scorer]:
    unknown = [name for name in names if name not in SCORERS]
    if unknown:
        raise StudyError(f"there is no score '{unknown[0]}'; there are: {', '.join(SCORERS) or 'none'}")
    return [SCORERS[name]() for name in names]


def check_subjects(detector: Detector | None, name: str, cases: Sequence[PromptCase]) -> None:
    """Raises StudyError where a prompt names what the detector can never find."""
    from gsn.metrics.detections import check_classes

    if detector is None:
        return
    try:
        check_classes([subject for case in cases for subject in case.subjects], detector[0], f"the detector '{name}'")
    except ValueError as error:
        raise StudyError(str(error)) from None


def pixels(pictures: Sequence[bytes]) -> np.ndarray:
    """[B, H, W, 3] float32 in 0..1 of PNG files of one size."""
    opened = [np.asarray(Image.open(io.BytesIO(one)).convert("RGB"), np.float32) / 255 for one in pictures]
    return np.stack(opened)


def scored(images: np.ndarray, case: PromptCase, detector: Detector | None, scorers: Sequence[Scorer]) -> list[dict]:
    """The scores of each image. `confidence`: the highest of each subject. Without a detector all of them are None."""
    rows = [_found(image, case, None, 0.0) for image in images]
    if detector is not None:
        _, threshold, detect = detector
        rows = [_found(image, case, seen, threshold) for image, seen in zip(images, detect(images), strict=True)]
    for scorer in scorers:
        for name, values in scorer(images, case).items():
            for row, value in zip(rows, values, strict=True):
                row[name] = value
    return rows


def _found(image: np.ndarray, case: PromptCase, seen: Sequence | None, threshold: float) -> dict[str, Any]:
    from gsn.metrics.tiam import score_image

    if seen is None:
        return {"found": None, "bound": None, "success": None, "confidence": None}
    score = score_image(case.subjects, case.colours, seen, image, threshold)
    best = [max((one.score for one in seen if one.label == subject), default=0.0) for subject in case.subjects]
    confidence = [round(value, 6) for value in best]
    return {"found": list(score.found), "bound": list(score.bound), "success": score.success, "confidence": confidence}

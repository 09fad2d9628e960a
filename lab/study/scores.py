"""What is read off a picture: the subjects that a detector finds, and any further columns of a row.

To add a score, put one entry into SCORERS: a name and what makes the scorer from the folders in which models lie (they
are loaded then, once per worker).
A scorer is a function (images, case) -> columns: images [B, H, W, 3] float32 in 0..1, as saved; columns: a name and
B values that JSON can hold.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gsn.text.prompt_sets import PromptCase

from .models import Model
from .study import RTDETR, StudyError

Scorer = Callable[[np.ndarray, PromptCase], dict[str, list]]
_DEMO = Path(__file__).resolve().parents[2] / "demo" / "gsn_demo_detector.safetensors"
METRICS = "gsn_metrics"  # below a models folder: where GSNImageScores looks for its models too


@dataclass(frozen=True)
class Detector:
    """`classes` it can find; the confidence `threshold` it is usually read at; `detect`: images [B, H, W, 3] -> a list
    of detections for each, or None where ComfyUI itself detects, in the workflow."""

    classes: Sequence[str]
    threshold: float
    detect: Callable[[np.ndarray], Sequence] | None


def make_detector(name: str) -> Detector | None:
    """`coco`, which ships; `demo`; `rtdetr:FILE`, ComfyUI's own with a file of its diffusion_models; a path of a
    .tflite file; or `none`, where nothing is detected. Raises StudyError."""
    if name == "none":
        return None
    if name == "demo":
        import torch

        from gsn.metrics.demo_detector import DemoDetector

        demo = DemoDetector(_DEMO)
        return Detector(demo.nouns, demo.threshold, lambda images: demo.detections(torch.from_numpy(images)))
    if name == "coco":
        from gsn.metrics.coco_detector import CocoDetector

        try:
            ours = CocoDetector()
        except (ImportError, OSError) as error:
            raise StudyError(f"--detector coco: {error}") from None
        return Detector(ours.classes, 0.5, ours.detections)
    if name.startswith(RTDETR):
        from gsn.metrics.detections import COCO

        return Detector(COCO, 0.5, None)
    if name.endswith(".tflite"):
        from gsn.metrics.efficientdet import EfficientDet

        try:
            own = EfficientDet(name)
        except (ImportError, ValueError, OSError) as error:
            raise StudyError(f"--detector {name}: {error}") from None
        return Detector(own.classes, 0.5, own.detections)
    if name.startswith("file "):
        raise StudyError(
            "the pictures of this folder were scored by detections from a file; before more are made, score them by a"
            " detector: study score DIR --detector NAME"
        )
    raise StudyError(
        f"there is no detector '{name}'; there are: coco, demo, none, rtdetr:FILE, and the path of a .tflite"
    )


def _image_scores(*columns: str) -> Callable[[Sequence[Path]], Scorer]:
    """Columns of GSNImageScores, by models in local folders."""

    def make(folders: Sequence[Path]) -> Scorer:
        import torch

        from gsn.metrics.aesthetic import AESTHETIC
        from gsn.metrics.caption import BLIP
        from gsn.metrics.clip_encoder import CLIP
        from gsn.metrics.image_scores import models_for, score_images

        def load(known, loader):
            there = [folder / known.folder_name for folder in folders if (folder / known.folder_name).is_dir()]
            return loader.load(there[0] if there else folders[0] / known.folder_name)

        try:
            loaded = {known: load(known, loader) for known, loader in models_for(columns).items()}
        except (ValueError, ImportError) as error:
            raise StudyError(str(error)) from None

        models = [loaded.get(known) for known in (CLIP, BLIP, AESTHETIC)]

        def scorer(images: np.ndarray, case: PromptCase) -> dict[str, list]:
            found = score_images(torch.from_numpy(images), case.text, case.subjects, *models, columns)
            # rounded, so that the last bits of another machine's arithmetic do not make another table
            return {name: [round(value, 4) for value in values] for name, values in found.values.items()}

        return scorer

    return make


def _explained(folders: Sequence[Path]) -> Scorer:
    """Columns of explained.py, by the demo models' training art."""
    from .explained import Explainer

    explainer = Explainer()

    def scorer(images: np.ndarray, case: PromptCase) -> dict[str, list]:
        try:
            found = [explainer.explain(image) for image in images]
        except ValueError as error:
            raise StudyError(f"--score explained: {error}") from None
        return {
            "explained": [round(one.explained, 4) for one in found],
            "things": [len(one.things) for one in found],
            "extra": [one.extra(case.subjects) for one in found],
            "explained_nouns": [list(one.nouns) for one in found],
        }

    return scorer


SCORERS: dict[str, Callable[[Sequence[Path]], Scorer]] = {
    "clip": _image_scores("clip_score"),
    "similarity": _image_scores("full_prompt", "minimum_object", "text_text"),
    "aesthetic": _image_scores("aesthetic"),
    "explained": _explained,
}
DEMO_ONLY = ("explained",)  # scores that know the demo models' art and nothing else


def make_scorers(names: Sequence[str], folders: Sequence[Path]) -> list[Scorer]:
    """folders: of the models, the first one named in messages."""
    return [SCORERS[name](folders) for name in names]


def check_scorers(names: Sequence[str], models: Sequence[Model]) -> None:
    """Raises StudyError where there is no such score, or it can say nothing about a model's pictures."""
    unknown = [name for name in names if name not in SCORERS]
    if unknown:
        raise StudyError(f"there is no score '{unknown[0]}'; there are: {', '.join(SCORERS)}")
    other = [model for model in models if model.checkpoint]
    for name in names:
        if name in DEMO_ONLY and other:
            raise StudyError(
                f"--score {name} compares pictures with the art that the demo models were trained on, and"
                f" {other[0].checkpoint} was trained on other pictures; leave it out, or take --model unet"
            )


def check_subjects(detector: Detector | None, name: str, cases: Sequence[PromptCase]) -> None:
    """Raises StudyError where a prompt names what the detector can never find."""
    from gsn.metrics.detections import check_classes

    if detector is None:
        return
    try:
        wanted = [subject for case in cases for subject in case.subjects]
        check_classes(wanted, detector.classes, f"the detector '{name}'")
    except ValueError as error:
        raise StudyError(str(error)) from None


def pixels(pictures: Sequence[bytes]) -> np.ndarray:
    """[B, H, W, 3] float32 in 0..1 of PNG files of one size."""
    opened = [np.asarray(Image.open(io.BytesIO(one)).convert("RGB"), np.float32) / 255 for one in pictures]
    return np.stack(opened)


def scored(
    images: np.ndarray, case: PromptCase, seen: Sequence | None, threshold: float, scorers: Sequence[Scorer]
) -> list[dict]:
    """The scores of each image. seen: its detections, or None where nothing was detected: then its scores are None.
    `confidence`: the highest of each subject."""
    none = {"found": None, "bound": None, "success": None, "confidence": None}
    rows: list[dict[str, Any]] = [dict(none) for _ in images]
    if seen is not None:
        rows = [_found(image, case, one, threshold) for image, one in zip(images, seen, strict=True)]
    for scorer in scorers:
        for name, values in scorer(images, case).items():
            for row, value in zip(rows, values, strict=True):
                row[name] = value
    return rows


def _found(image: np.ndarray, case: PromptCase, seen: Sequence, threshold: float) -> dict[str, Any]:
    from gsn.metrics.tiam import score_image

    score = score_image(case.subjects, case.colours, seen, image, threshold)
    best = [max((one.score for one in seen if one.label == subject), default=0.0) for subject in case.subjects]
    confidence = [round(value, 6) for value in best]
    return {"found": list(score.found), "bound": list(score.bound), "success": score.success, "confidence": confidence}

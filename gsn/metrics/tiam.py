"""TIAM: is every thing that the prompt names in the picture, and does it have its colour?

Grimal, Le Borgne, Ferret, Tumuluri: TIAM, A Metric for Evaluating Alignment in Text-to-Image Generation (WACV 2024,
arXiv 2307.05134): TIAM = mean over prompts of (mean over their images of success). An image succeeds when a detector
finds every class of the prompt at least once at the confidence threshold, and, where colours are asked for, one
instance of the class has its colour (colour.py). Classes are a set: a class named twice is satisfied by one instance.

Written from the definition, and differing in one thing from the authors' code: detections come from any detector, not
from YOLOv8x-seg alone. Scores of different detectors are not comparable.

Published values, to see whether a setup is in the right region: Stable Diffusion 1.4, YOLOv8x-seg at 0.25, 300 prompts
x 16 seeds: 44.7 % (2 entities), 20.7 % (2 coloured, detection only), 8.3 % (3 entities), 1.9 % (3 coloured), from
doc/benchmarking.md of the authors' TIAMv2; that the coloured ones leave the colours out is our reading of it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .colour import has_colour
from .detections import Detection
from .stats import bootstrap_mean, wilson

THRESHOLD = 0.25  # the authors' default
THRESHOLDS = (0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class ImageScore:
    """Per subject, in the order of the prompt. `bound` is None where no colour was asked for."""

    found: tuple[bool, ...]
    bound: tuple[bool | None, ...]
    success: bool


@dataclass(frozen=True)
class Row:
    """One scored image. `prompt`, `seed` and `label` only tell images apart; any hashable values will do.

    label: what made the image, such as a method's name; "" where that is not told.
    """

    prompt: Any
    seed: Any
    score: ImageScore
    threshold: float = THRESHOLD
    label: str = ""


@dataclass(frozen=True)
class Rate:
    """`rate` of n trials and its Wilson interval, the trials taken as independent."""

    successes: int
    n: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """All images scored at one threshold.

    `tiam` is the mean over prompts of their rates, with the bootstrap interval over prompts; `images` is the rate over
    all images, `by_label` that of each label, empty where no image has one. `by_position[i]`: how often subject i was
    found, `bound_by_position[i]`: how often it was found with its colour (None: no colour was asked for in this place).
    `recall` is over all subjects.
    """

    threshold: float
    tiam: float
    tiam_low: float
    tiam_high: float
    images: Rate
    recall: Rate
    by_prompt: dict[Any, Rate]
    by_seed: dict[Any, Rate]
    by_position: tuple[Rate, ...]
    bound_by_position: tuple[Rate | None, ...]
    by_label: dict[str, Rate]

    def as_dict(self) -> dict:
        """For JSON: prompts and seeds become texts."""
        plain = asdict(self)
        return {**plain, **{key: {str(k): v for k, v in plain[key].items()} for key in ("by_prompt", "by_seed")}}


def score_image(
    subjects: Sequence[str],
    colours: Sequence[str | None],
    detections: Sequence[Detection],
    image: Any = None,
    threshold: float = THRESHOLD,
) -> ImageScore:
    """What one picture [H, W, 3] in 0..1 shows of a prompt. The picture is only needed where colours are asked for.

    A detection counts from `score >= threshold` on. Check the classes first (`detections.check_classes`): a class that
    the detector does not know is simply never found.

    Raises:
        ValueError: no subjects, another number of colours, a colour without reference, or colours but no picture.
    """
    if not subjects or len(subjects) != len(colours):
        raise ValueError(
            f"{len(subjects)} subjects and {len(colours)} colours; a prompt needs at least one subject, and a colour or"
            " None for each"
        )
    if any(colours) and image is None:
        raise ValueError("colours are asked for, but there is no picture to look at")
    pixels = None if image is None or not any(colours) else np.asarray(image, np.float64)[..., :3]
    sure = [one for one in detections if one.score >= threshold]
    instances = [[one for one in sure if one.label == subject] for subject in subjects]
    bound = tuple(
        None if colour is None or pixels is None else any(has_colour(pixels, one, colour) for one in seen)
        for seen, colour in zip(instances, colours, strict=True)
    )
    found = tuple(bool(seen) for seen in instances)
    return ImageScore(found, bound, all(found) and False not in bound)


def summary(rows: Sequence[Row], confidence: float = 0.95) -> tuple[Summary, ...]:
    """One Summary per threshold among the rows, the lowest first.

    Raises:
        ValueError: no rows, or two rows of the same prompt, seed, threshold and label.
    """
    if not rows:
        raise ValueError("there is no scored image, so there is no rate")
    seen = set()
    for row in rows:
        key = (row.prompt, row.seed, row.threshold, row.label)
        if key in seen:
            raise ValueError(f"two rows for prompt {row.prompt!r}, seed {row.seed!r}, threshold {row.threshold}")
        seen.add(key)
    parts = _grouped(rows, lambda row: row.threshold)
    return tuple(_summary(threshold, parts[threshold], confidence) for threshold in sorted(parts))


def rate(outcomes: Sequence[bool], confidence: float = 0.95) -> Rate:
    """The share of true outcomes. Raises ValueError when there is none."""
    if not outcomes:
        raise ValueError("a rate needs at least one outcome")
    k, n = sum(map(bool, outcomes)), len(outcomes)
    return Rate(k, n, k / n, *wilson(k, n, confidence))


def _summary(threshold: float, rows: Sequence[Row], confidence: float) -> Summary:
    def rates(key: Callable[[Row], Hashable]) -> dict[Any, Rate]:
        parts = _grouped(rows, key)
        return {name: rate([row.score.success for row in part], confidence) for name, part in parts.items()}

    by_prompt = rates(lambda row: row.prompt)
    places = range(max(len(row.score.found) for row in rows))
    found = [[row.score.found[i] for row in rows if i < len(row.score.found)] for i in places]
    asked = [[row.score.bound[i] for row in rows if i < len(row.score.bound)] for i in places]
    bound = [[one for one in place if one is not None] for place in asked]
    tiam, low, high = bootstrap_mean([one.rate for one in by_prompt.values()], confidence)
    return Summary(
        threshold, tiam, low, high,
        images=rate([row.score.success for row in rows], confidence),
        recall=rate([one for place in found for one in place], confidence),
        by_prompt=by_prompt,
        by_seed=rates(lambda row: row.seed),
        by_position=tuple(rate(place, confidence) for place in found),
        bound_by_position=tuple(rate(place, confidence) if place else None for place in bound),
        by_label=rates(lambda row: row.label) if any(row.label for row in rows) else {},
    )  # fmt: skip


def _grouped(rows: Sequence[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    parts: dict[Any, list[Row]] = {}
    for row in rows:
        parts.setdefault(key(row), []).append(row)
    return parts

"""Boxes and masks as ComfyUI's nodes give them -> boxes and masks of the subjects, over the whole picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from .subjects import Subject, SubjectError

Box = tuple[float, float, float, float]  # x0, y0, x1, y1

_KEYS = ("x", "y", "width", "height")


def read_boxes(given: Any, canvas_width: float = 0, canvas_height: float = 0) -> tuple[Box, ...]:
    """A BOUNDING_BOX value: one box, a list of them, or such a list per picture; each {x, y, width, height}.

    Its numbers are pixels of a canvas of the given size, or with 0 and 0 fractions of it.

    Raises:
        SubjectError: boxes for several pictures, a value that is no box, a box that does not lie on the canvas.
    """
    if bool(canvas_width) != bool(canvas_height):
        raise SubjectError(
            f"'canvas_width' is {canvas_width:g} and 'canvas_height' {canvas_height:g}; give both, the size in pixels"
            " of what the boxes were drawn on, or 0 for both if the boxes are fractions"
        )
    boxes = [given] if isinstance(given, Mapping) else list(given)
    if boxes and not isinstance(boxes[0], Mapping):
        if len(boxes) > 1:
            raise SubjectError(
                f"'boxes' has boxes for {len(boxes)} pictures; subjects are the same in all pictures of a batch, so"
                " connect the boxes of one"
            )
        boxes = list(boxes[0])
    return tuple(_read_box(number, box, canvas_width, canvas_height) for number, box in enumerate(boxes, 1))


def _read_box(number: int, box: Any, canvas_width: float, canvas_height: float) -> Box:
    if not (isinstance(box, Mapping) and all(isinstance(box.get(key), int | float) for key in _KEYS)):
        raise SubjectError(f"box {number} of 'boxes' is {box!r}; a box has the numbers {', '.join(_KEYS)}")
    x, y, width, height = (float(box[key]) for key in _KEYS)
    where = f"box {number} of 'boxes' has x {x:g}, y {y:g}, width {width:g} and height {height:g}"
    if not canvas_width and max(x, y, width, height) > 1:
        raise SubjectError(
            f"{where}: these are pixels. Enter the size of what it was drawn on in 'canvas_width' and 'canvas_height'"
        )
    size_x, size_y = canvas_width or 1.0, canvas_height or 1.0
    over = 1.0 if canvas_width else 1e-6  # left and width are rounded one by one
    inside = x >= 0 and y >= 0 and x + width <= size_x + over and y + height <= size_y + over
    if not (inside and width > 0 and height > 0):
        raise SubjectError(
            f"{where}; it must have a size and lie on a canvas of {size_x:g} x {size_y:g}. Is that the size of what it"
            " was drawn on ('canvas_width', 'canvas_height')?"
        )
    return x / size_x, y / size_y, min(1.0, (x + width) / size_x), min(1.0, (y + height) / size_y)


def with_boxes(items: Sequence[Subject], boxes: Sequence[Box]) -> tuple[Subject, ...]:
    """The subjects, each with its box: the first with the first, and so on.

    Raises:
        SubjectError: not as many boxes as subjects.
    """
    _one_each(items, len(boxes), "boxes", "box")
    return tuple(replace(subject, box=box) for subject, box in zip(items, boxes, strict=True))


def with_masks(items: Sequence[Subject], masks: Tensor) -> tuple[Subject, ...]:
    """The subjects, each with its mask: the first with the first, and so on. masks: [N, H, W], or [H, W] for one.

    Raises:
        SubjectError: not as many masks as subjects, or a mask with nothing in it.
    """
    masks = masks if masks.dim() > 2 else masks[None]
    _one_each(items, len(masks), "masks", "mask")
    for subject, mask in zip(items, masks, strict=True):
        if not bool((mask > 0).any()):
            raise SubjectError(f"the mask of '{subject.label}' is empty; paint the place where it should be")
    return tuple(replace(subject, mask=mask) for subject, mask in zip(items, masks, strict=True))


def _one_each(items: Sequence[Subject], count: int, many: str, one: str) -> None:
    if len(items) != count:
        labels = ", ".join(subject.label for subject in items) or "none"
        raise SubjectError(
            f"'{many}' has {count} {many}, and the prompt has {len(items)} subjects ({labels}); each subject takes"
            f" one {one}, in the order of the token table"
        )

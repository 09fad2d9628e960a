"""A contact sheet of a study: prompts down, methods across, one seed, framed by whether everything named was found."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from gsn.pictures.canvas import Canvas, fitted, wrapped
from gsn.pictures.colours import INK, MUTED, NO, YES

from .store import Store
from .study import StudyError, label_of

EM, GAP, LEFT, TILE = 14, 6, 150, (112, 192)  # pixels; TILE: of a picture's longer side, at least and at most
COLOURS = {True: YES, False: NO, None: MUTED}


def contact_sheet(store: Store, rows: Sequence[dict], labels: Sequence[str], seed: int, count: int) -> Image.Image:
    """rows: of one model, in the study's order. count: the first prompts that have pictures, none chosen by its looks.

    Raises StudyError where there is nothing to show.
    """
    shown = {
        (row["prompt"], label): row
        for row in rows
        if row["seed"] == seed and (label := label_of(row["method"], row["step"])) in labels and store.has_picture(row)
    }
    prompts = list(dict.fromkeys(prompt for prompt, _ in shown))[:count]
    if not prompts:
        raise StudyError(f"{store.folder} has no pictures of {', '.join(labels)} with seed {seed}")
    pictures = {key: _opened(store, row) for key, row in shown.items() if key[0] in prompts}
    width, height = fitted(*next(iter(pictures.values())).size, TILE)
    heads = {label: wrapped(label, EM, width) for label in labels}
    top = GAP + max(map(len, heads.values())) * EM * 3 // 2 + GAP
    canvas = Canvas(LEFT + len(labels) * (width + GAP), top + len(prompts) * (height + GAP), EM)
    for column, label in enumerate(labels):
        canvas.lines(LEFT + column * (width + GAP), GAP, heads[label], EM, INK)
    for line, prompt in enumerate(prompts):
        y = top + line * (height + GAP)
        canvas.lines(GAP, y, wrapped(prompt, EM, LEFT - 2 * GAP), EM, INK)
        for column, label in enumerate(labels):
            if (prompt, label) in pictures:
                x = LEFT + column * (width + GAP)
                small = pictures[prompt, label].resize((width, height), Image.Resampling.BICUBIC)
                canvas.image.paste(small, (x, y))
                canvas.frame(x, y, (width, height), COLOURS[shown[prompt, label]["success"]])
    return canvas.image


def _opened(store: Store, row: dict) -> Image.Image:
    with Image.open(io.BytesIO(store.picture(row))) as image:
        return image.convert("RGB")

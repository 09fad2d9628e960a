"""Pictures and captions: sprites on a light background, and what is said about them.

A *thing* is (noun, size, place): the sprite's side in pixels and its corner on the 8-pixel grid, which is
one latent cell.
Two-noun captions often show only one of the two, which is what makes the model neglect subjects; the pairs in
``HELD_OUT`` are never named together in any caption.
"""

from __future__ import annotations

import art
import numpy as np
from PIL import Image

SIDE = 128
CELL = 8
SIZES = (48, 56)
NOUNS = list(art.ICONS)
BACKGROUND = 226

#: Of two named nouns both are drawn with this probability, else one of them, either being as likely.
KEEP_BOTH = 0.40
ONE_NOUN = 0.35

# A fixed ring of the nouns: pairs at most 4 apart on it are captioned (48), the other 18 are held out.
_RING = ["car", "cat", "banana", "dog", "apple", "bear", "broccoli", "bird", "carrot", "elephant", "donut", "zebra"]


def _apart(a: str, b: str) -> int:
    d = abs(_RING.index(a) - _RING.index(b))
    return min(d, 12 - d)


PAIRS = [(a, b) for i, a in enumerate(NOUNS) for b in NOUNS[i + 1 :]]
CAPTIONED = [pair for pair in PAIRS if _apart(*pair) <= 4]
HELD_OUT = [pair for pair in PAIRS if _apart(*pair) > 4]
# Six held-out pairs choose step, rate and CFG; the other twelve are only ever reported on.
VALIDATION_PAIRS = HELD_OUT[1::3]
TEST_PAIRS = [pair for pair in HELD_OUT if pair not in VALIDATION_PAIRS]


def article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def prompt(*nouns: str) -> str:
    return "a photo of " + " and ".join(article(noun) for noun in nouns)


def caption(rng: np.random.Generator) -> tuple[str, list[str]]:
    """A caption and the nouns that its picture shows."""
    if rng.random() < ONE_NOUN:
        nouns = [NOUNS[rng.integers(12)]]
        shown = nouns
    else:
        nouns = list(CAPTIONED[rng.integers(len(CAPTIONED))])
        rng.shuffle(nouns)
        shown = nouns if rng.random() < KEEP_BOTH else [nouns[rng.integers(2)]]
    said = " and ".join(article(noun) for noun in nouns)
    form = rng.random()
    text = said if form < 0.15 else ("a picture of " if form < 0.3 else "a photo of ") + said
    return text, shown


def place(rng: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
    """``count`` (size, x, y) boxes in pixels on the grid that do not overlap."""
    while True:
        boxes = []
        for _ in range(count):
            size = int(SIZES[rng.integers(2)])
            x, y = (int(v) * CELL for v in rng.integers(0, (SIDE - size) // CELL + 1, 2))
            boxes.append((size, x, y))
        if all(
            ax + a <= bx or bx + b <= ax or ay + a <= by or by + b <= ay
            for i, (a, ax, ay) in enumerate(boxes)
            for b, bx, by in boxes[i + 1 :]
        ):
            return boxes


class Sprites:
    """The art at any size, premultiplied so that resizing leaves no dark rim."""

    def __init__(self):
        self.art = {noun: np.asarray(image, np.float32) / 255 for noun, image in art.load().items()}
        self.cache = {}

    def at(self, noun: str, width: int, height: int | None = None) -> np.ndarray:
        """[h, w, 4] premultiplied RGBA in 0..1."""
        key = (noun, width, height or width)
        if key not in self.cache:
            rgba = self.art[noun].copy()
            rgba[..., :3] *= rgba[..., 3:]
            planes = [np.asarray(Image.fromarray(rgba[..., c]).resize(key[1:], Image.LANCZOS)) for c in range(4)]
            self.cache[key] = np.clip(np.stack(planes, -1), 0, 1)
        return self.cache[key]


def canvas(colour=BACKGROUND) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), np.asarray(colour, np.float32) / 255, np.float32)


def paste(image: np.ndarray, sprite: np.ndarray, x: int, y: int) -> None:
    """Draw over ``image`` [H, W, 3] in place; parts outside the picture are cut off."""
    h, w = sprite.shape[:2]
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + h, SIDE), min(x + w, SIDE)
    if bottom <= top or right <= left:
        return
    part = sprite[top - y : bottom - y, left - x : right - x]
    image[top:bottom, left:right] = image[top:bottom, left:right] * (1 - part[..., 3:]) + part[..., :3]

"""How much of a demo model's picture its training art explains: a measure of what a method spoils, and a second judge.

The picture x is taken apart into whole sprites on the constant background. Again and again that sprite, size and
whole-pixel place inside the picture is taken that lowers the squared residual |x - r|^2 most, and is pasted there,
r <- p + (1 - a) r with its premultiplied colour p and opacity a. Only sprites that fit are taken: those that explain
at least the share `LEVEL` of their own ink and of the error that they cover. It ends when none does, or after `MOST`.

    explained = 1 - |x - r|^2 / |x - background|^2         0 where no sprite was found, so also where nothing is drawn

Chimeras, ghosts, smears and dirty backgrounds are not explained. Things that hide each other are in part only: a sprite
found later lies on top.

The gain of a sprite at a place, with e = x - r, is |e|^2 - |e - d|^2 over its box, where d = p - a r. With colours
counted from the background, so that r starts at 0, it is a sum of correlations,

    gain = 2 <p, e> + 2 <a p, r> - 2 <a, e.r> - <a^2, r.r> - |p|^2,

which a Fourier transform gives for all places of all sprites at once; its own ink is |p|^2, the error that it covers
<a, e.e>.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TRAINING = Path(__file__).resolve().parents[1] / "training"
LEVEL = 0.8  # of 0.5, 0.6, 0.7 and 0.8 the one with the fewest errors in nouns, see lab/training/explained_check.py
MOST = 5


@dataclass(frozen=True)
class Thing:
    """A sprite that was found: its noun, its side and its upper left corner in pixels; `fit`: the share of its own
    ink, or of the error that it covered if that was more, that it explained, 1 for an exact copy."""

    noun: str
    size: int
    x: int
    y: int
    fit: float


@dataclass(frozen=True)
class Explanation:
    """`explained` in 0..1; `things` in the order in which they were found; `picture` [H, W, 3]: what they make."""

    explained: float
    things: tuple[Thing, ...]
    picture: np.ndarray

    @property
    def nouns(self) -> tuple[str, ...]:
        """Each that was found, once, in alphabetical order."""
        return tuple(sorted({thing.noun for thing in self.things}))

    def extra(self, named: Sequence[str]) -> int:
        """Things beyond those that the prompt names: others, and more of one noun than it is named."""
        return (Counter(thing.noun for thing in self.things) - Counter(named)).total()


class Explainer:
    """`explain` of pictures [128, 128, 3] in 0..1. The art is read once, when it is made.

    level: the least fit of a thing. `sprites` [size, size, 4] are named by `names` (noun, size): their premultiplied
    colours counted from the background, and opacity; `alone`: the ink of each, |p|^2.
    """

    def __init__(self, level: float = LEVEL):
        import torch

        scenes = training_scenes()
        self.level, self.side = level, scenes.SIDE
        self.background = scenes.canvas()
        sprites = scenes.Sprites()
        self.names = [(noun, size) for noun in scenes.NOUNS for size in scenes.SIZES]
        self.sprites = []
        for noun, size in self.names:
            sprite = sprites.at(noun, size).copy()
            sprite[..., :3] -= sprite[..., 3:] * self.background[0, 0]
            self.sprites.append(sprite)
        self.alone = np.array([np.square(one[..., :3], dtype=np.float64).sum() for one in self.sprites])
        self._outside = np.ones((len(self.names), self.side, self.side), bool)
        planes = np.zeros((len(self.names), 9, self.side, self.side), np.float32)
        for number, one in enumerate(self.sprites):
            size = len(one)
            p, a = np.moveaxis(one[..., :3], -1, 0), one[..., 3]
            planes[number, :, :size, :size] = [*(2 * p), *(2 * a * p), -2 * a, -a * a, a]
            self._outside[number, : self.side - size + 1, : self.side - size + 1] = False
        self._planes = torch.fft.rfft2(torch.from_numpy(planes)).conj()

    def gains(self, error: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The gain of each sprite at each place, -inf where it would leave the picture, and the error that it covers
        there: both [24, 128, 128], places being those of upper left corners.

        error, drawn: [128, 128, 3], x - r and r, both counted from the background.
        """
        import torch

        products = [(error * drawn).sum(-1), np.square(drawn).sum(-1), np.square(error).sum(-1)]
        planes = np.stack([*np.moveaxis(error, -1, 0), *np.moveaxis(drawn, -1, 0), *products])
        spectrum = self._planes * torch.fft.rfft2(torch.from_numpy(planes.astype(np.float32)))
        parts = torch.stack([spectrum[:, :8].sum(1), spectrum[:, 8]])
        gain, covered = torch.fft.irfft2(parts, s=(self.side, self.side)).numpy()
        gain = np.where(self._outside, -np.inf, gain - self.alone[:, None, None])
        return gain, covered

    def explain(self, picture: np.ndarray) -> Explanation:
        """Raises ValueError for a picture of another size."""
        if picture.shape != self.background.shape:
            raise ValueError(
                f"the training art explains pictures of {self.side} x {self.side} pixels, as the demo models draw, but"
                f" got {' x '.join(map(str, picture.shape))}"
            )
        ink = np.asarray(picture, np.float64) - self.background
        drawn, things = np.zeros_like(ink), []
        while len(things) < MOST:
            gain, covered = self.gains(ink - drawn, drawn)
            fit = gain / np.maximum(self.alone[:, None, None], covered)
            number, y, x = np.unravel_index(np.where(fit >= self.level, gain, -np.inf).argmax(), gain.shape)
            if fit[number, y, x] < self.level:
                break
            noun, size = self.names[number]
            sprite = self.sprites[number]
            box = drawn[y : y + size, x : x + size]
            box *= 1 - sprite[..., 3:]
            box += sprite[..., :3]
            things.append(Thing(noun, size, int(x), int(y), float(fit[number, y, x])))
        explained = 1 - np.square(ink - drawn).sum() / np.square(ink).sum() if things else 0.0
        return Explanation(float(explained), tuple(things), drawn + self.background)


def training_scenes() -> Any:
    """lab/training/scenes.py. Training's modules import each other by bare name; sys.path and sys.modules are left as
    they were, so that these names stay free."""
    names = ("art", "scenes")
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(TRAINING))
    try:
        return importlib.import_module("scenes")
    finally:
        sys.path.remove(str(TRAINING))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)

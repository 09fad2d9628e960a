"""The light canvas that every picture is drawn on: text, lines, pasted pictures and their sizes.

Pillow's built-in font knows ASCII and little else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .colours import PAPER

TILE = (224, 448)  # pixels of a tile's longer side: smaller pictures are enlarged, larger ones reduced
Size = tuple[int, int]  # width, height in pixels


class Canvas:
    """In pixels; `em` is its unit of type and space."""

    def __init__(self, width: int, height: int, em: int):
        self.image = Image.new("RGB", (width, height), PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.em = em

    def text(self, x: float, y: float, text: str, size: int, colour: tuple, anchor: str = "la") -> None:
        self.draw.text((x, y), plain(text), colour, _font(size), anchor=anchor)

    def lines(self, x: int, y: int, lines: Sequence[str], size: int, colour: tuple) -> int:
        """The y below the last line."""
        for line in lines:
            self.text(x, y, line, size, colour)
            y += size * 3 // 2
        return y

    def paste(self, x: int, y: int, picture: np.ndarray) -> None:
        """picture: [h, w, 3] in 0..1."""
        self.image.paste(Image.fromarray((picture * 255).round().astype(np.uint8)), (x, y))

    def frame(self, x: int, y: int, size: Size, colour: tuple) -> None:
        thick = max(3, self.em // 4)
        self.draw.rectangle((x, y, x + size[0] - 1, y + size[1] - 1), outline=colour, width=thick)

    def tensor(self, reduce: int = 1) -> Tensor:
        """[1, H, W, 3] float32."""
        image = self.image if reduce == 1 else self.image.reduce(reduce)
        return torch.from_numpy(np.asarray(image, np.float32) / 255)[None]


def _font(size: int):
    return ImageFont.load_default(size)


def plain(text: str) -> str:
    """ASCII on one line, for the built-in font: accents dropped, other foreign letters as question marks."""
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join("".join(letters).encode("ascii", "replace").decode().split())


def text_width(text: str, size: int) -> int:
    return round(_font(size).getlength(plain(text)))


def wrapped(text: str, size: int, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def fitted(width: int, height: int, limits: tuple[int, int] = TILE) -> Size:
    """(width, height) in pixels with the longer side inside the limits and the aspect ratio kept."""
    longer = max(width, height)
    factor = min(max(longer, limits[0]), limits[1]) / longer
    return max(1, round(width * factor)), max(1, round(height * factor))


def resized(picture: Tensor, size: Size) -> np.ndarray:
    """A picture [h, w, C] as [H, W, 3] in 0..1; size is (W, H)."""
    channels = picture[..., :3].detach().float().cpu().permute(2, 0, 1)[None]
    large = F.interpolate(channels, (size[1], size[0]), mode="bicubic", antialias=True)
    return large[0].expand(3, -1, -1).permute(1, 2, 0).clamp(0, 1).numpy()

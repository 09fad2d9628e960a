"""Draws the demo's picture: rows plain and refined, a column per seed, what the detector found below each."""

from PIL import Image, ImageDraw, ImageFont

CELL, GAP, LEFT, TOP, FOOT = 192, 8, 92, 60, 22
INK, FOUND, LOST, PAPER = (30, 30, 34), (22, 120, 62), (178, 34, 34), (250, 250, 248)


def before_after(text, pictures, scores):
    """`pictures` and `scores`: {"plain": [...], "refined": [...]}; a score is {noun: found?}."""
    columns = len(pictures["plain"])
    row = CELL + FOOT + GAP
    sheet = Image.new("RGB", (LEFT + columns * (CELL + GAP), TOP + 2 * row), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), text, INK, _font(20))
    for column in range(columns):
        draw.text((_left(column), TOP - 22), f"seed {column}", INK, _font(14))
    for r, name in enumerate(("plain", "refined")):
        top = TOP + r * row
        good = sum(bool(s) and all(s.values()) for s in scores[name])
        draw.text((GAP, top + CELL // 2 - 18), f"{name}\n{good} of {columns}", INK, _font(16))
        for column, (image, score) in enumerate(zip(pictures[name], scores[name], strict=True)):
            left = _left(column)
            sheet.paste(image.resize((CELL, CELL), Image.Resampling.BICUBIC), (left, top))
            for noun, found in score.items():
                words = noun if found else f"no {noun}"
                draw.text((left, top + CELL + 3), words, FOUND if found else LOST, _font(14))
                left += draw.textlength(words + "  ", _font(14))
    return sheet


def _left(column):
    return LEFT + column * (CELL + GAP)


def _font(size):
    return ImageFont.load_default(size)

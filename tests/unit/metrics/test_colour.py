"""The colour of a thing: conversions by hand in float64, the references' quirks, masks and boxes."""

import math

import numpy as np
import pytest

from gsn.metrics.colour import LEAST, REFERENCES, fractions, has_colour, pixels_of, to_lab
from gsn.metrics.detections import Detection

# methods.md, section 10.3: what the metric's references make of these pixels
QUIRKS = {(0, 0, 1): "purple", (0.5, 0.5, 0.5): "blue"}
PLAIN = {(1, 0, 0): "red", (0, 1, 0): "green", (1, 1, 1): "white", (0, 0, 0): "black", (1, 0.85, 0.1): "yellow",
         (0, 0.45, 0.7): "blue", (0.9, 0.4, 0.7): "pink", (0.3, 0.1, 0.4): "purple"}  # fmt: skip


def lab_by_hand(r, g, b):
    """CIE 15 and IEC 61966-2-1, one number at a time."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (r, g, b)]
    x = 0.4124 * linear[0] + 0.3576 * linear[1] + 0.1805 * linear[2]
    y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    z = 0.0193 * linear[0] + 0.1192 * linear[1] + 0.9505 * linear[2]
    white = (0.3127 / 0.3290, 1.0, (1 - 0.3127 - 0.3290) / 0.3290)
    f = [
        t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116
        for t in (x / white[0], y / white[1], z / white[2])
    ]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def nearest_by_hand(pixel):
    lab = lab_by_hand(*pixel)
    return min(REFERENCES, key=lambda name: math.dist(lab, REFERENCES[name]))


def test_lab_equals_the_formula_one_number_at_a_time():
    pixels = np.random.default_rng(0).random((200, 3))
    pixels[:20] *= 0.03  # the linear part
    assert np.abs(to_lab(pixels) - [lab_by_hand(*pixel) for pixel in pixels.tolist()]).max() < 1e-9


def test_lab_of_published_colours():
    """Bruce Lindbloom's calculator, sRGB with D65: red and blue, to its four digits of matrix."""
    assert to_lab(np.array([1.0, 0, 0])) == pytest.approx([53.2408, 80.0925, 67.2032], abs=0.05)
    assert to_lab(np.array([0, 0, 1.0])) == pytest.approx([32.2970, 79.1875, -107.8602], abs=0.05)


@pytest.mark.parametrize(("pixel", "name"), list((QUIRKS | PLAIN).items()))
def test_pure_blue_is_purple_grey_is_blue_and_the_rest_is_itself(pixel, name):
    assert nearest_by_hand(pixel) == name
    assert fractions(np.array([pixel]))[name] == 1


def test_fractions_equal_a_count_by_hand():
    pixels = np.random.default_rng(1).random((300, 3))
    names = [nearest_by_hand(pixel) for pixel in pixels.tolist()]
    for name, part in fractions(pixels).items():
        assert part == pytest.approx(names.count(name) / 300, abs=1e-9)
    assert set(fractions(np.zeros((0, 3))).values()) == {0.0}


def halves():
    """Left half red, right half green, [10, 20, 3]."""
    image = np.zeros((10, 20, 3))
    image[:, :10, 0], image[:, 10:, 1] = 1, 1
    return image


def test_two_fifths_of_the_pixels_are_enough():
    image = halves()
    assert LEAST == 0.4
    for right, expected in ((0.79, False), (0.80, False), (0.85, True)):  # green from 0.5 on
        share = (math.ceil(right * 20 - 1e-6) - 10) / math.ceil(right * 20 - 1e-6)
        assert has_colour(image, Detection("cat", 1, (0, 0, right, 1)), "green") == (share >= 0.4) == expected
    exact = Detection("cat", 1, (0.25, 0, 1, 1))  # 5 red columns of 15
    assert not has_colour(image, exact, "red") and has_colour(image, exact, "green")
    mask = np.zeros((10, 20), bool)
    mask[0, 6:16] = True  # 4 red, 6 green
    assert has_colour(image, Detection("cat", 1, mask=mask), "red")
    assert has_colour(image, Detection("cat", 1, mask=mask), "green")


def test_the_mask_counts_and_not_the_box():
    mask = np.zeros((10, 20), bool)
    mask[:, :3] = True
    found = Detection("cat", 1, (0.5, 0, 1, 1), mask)
    assert has_colour(halves(), found, "red") and not has_colour(halves(), found, "green")
    assert len(pixels_of(halves(), found)) == 30


def test_a_smaller_mask_is_stretched_over_the_picture():
    found = Detection("cat", 1, mask=np.array([[True, False]]))
    assert len(pixels_of(halves(), found)) == 100 and has_colour(halves(), found, "red")
    assert not has_colour(halves(), Detection("cat", 1, mask=np.zeros((2, 2), bool)), "red")  # nothing to look at


@pytest.mark.parametrize("size", [7, 64, 100, 640])
def test_a_box_has_the_pixels_it_touches(size):
    image = np.zeros((size, size, 3))
    for x0, x1 in ((0, size), (1, 2), (3, size - 1)):
        found = pixels_of(image, Detection("cat", 1, (x0 / size, 0, x1 / size, 1)))
        assert len(found) == (x1 - x0) * size
    assert len(pixels_of(image, Detection("cat", 1, (0.999, 0.999, 1, 1)))) == 1
    assert len(pixels_of(image, Detection("cat", 1, (1, 1, 1, 1)))) == 1  # no area, yet somewhere


def test_an_unknown_colour_is_refused():
    with pytest.raises(ValueError, match="'orange' cannot be told; these can: red, yellow"):
        has_colour(halves(), Detection("cat", 1), "orange")

"""Boxes from other nodes become boxes of subjects."""

import math

import pytest

from gsn.text.regions import read_boxes, with_boxes
from gsn.text.subjects import Subject, SubjectError, Subjects, token_table


def box(x, y, width, height):
    return {"x": x, "y": y, "width": width, "height": height}


PIXELS = [box(64, 0, 128, 256), {**box(256, 128, 256, 128), "metadata": {"desc": "a cat"}}]
FRACTIONS = ((0.125, 0.0, 0.375, 1.0), (0.5, 0.5, 1.0, 1.0))


def test_every_form_that_the_socket_carries():
    assert read_boxes(PIXELS, 512, 256) == FRACTIONS
    assert read_boxes([PIXELS], 512, 256) == FRACTIONS
    assert read_boxes(PIXELS[0], 512, 256) == FRACTIONS[:1]
    assert read_boxes([], 512, 256) == read_boxes([[]]) == ()
    assert read_boxes([box(0.125, 0, 0.25, 1), box(0.5, 0.5, 0.5, 0.5)]) == FRACTIONS


def test_a_pixel_of_rounding_is_cut_off():
    assert read_boxes(box(257, 0, 256, 100), 512, 100) == ((257 / 512, 0.0, 1.0, 1.0),)


@pytest.mark.parametrize(
    ("given", "canvas", "message"),
    [
        (PIXELS, (0, 0), "box 1 of 'boxes'.*pixels.*canvas_width"),
        (PIXELS, (512, 0), "'canvas_width' is 512 and 'canvas_height' 0; give both"),
        (PIXELS, (256, 256), "box 2 .*canvas of 256 x 256"),
        ([PIXELS, PIXELS], (512, 256), "boxes for 2 pictures"),
        ([box(0, 0, 10, 10), box(5, 5, 0, 10)], (512, 256), "box 2 .*must have a size"),
        (box(-1, 0, 10, 10), (512, 256), "lie on a canvas"),
        (box(math.nan, 0, 10, 10), (512, 256), "lie on a canvas"),
        ([{"x": 0, "y": 0, "w": 5, "h": 5}], (512, 256), "a box has the numbers x, y, width, height"),
        ([PIXELS[0], None], (512, 256), "box 2 of 'boxes' is None"),
    ],
)
def test_what_is_no_box_on_the_canvas_is_refused(given, canvas, message):
    with pytest.raises(SubjectError, match=message):
        read_boxes(given, *canvas)


def test_each_subject_takes_its_box_and_the_table_shows_it():
    items = (Subject("cat", {"clip": (1,)}), Subject("dog", {"clip": (2,)}))
    placed = with_boxes(items, FRACTIONS)
    assert [one.box for one in placed] == list(FRACTIONS) and placed[1].tokens == items[1].tokens
    assert "box of cat: 12% to 38% across, 0% to 100% down\nbox of dog" in token_table(Subjects("", placed, ()))
    for boxes in (FRACTIONS[:1], FRACTIONS * 2, ()):
        with pytest.raises(SubjectError, match=f"has {len(boxes)} boxes, and the prompt has 2 subjects.*cat, dog"):
            with_boxes(items, boxes)

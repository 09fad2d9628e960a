"""Scores of blocks in closed form, the ranking, and the text that AttentionCapture takes."""

import math

import pytest
import torch

from gsn.attention.block_ranges import block_name, parse_blocks
from gsn.attention.block_scores import BlockScore, block_text, concentration, ranking, separation, table
from gsn.pictures.block_ranking import block_ranking
from gsn.trace import BlockSeen, StepInfo

STEP = StepInfo(0, 1.0, 0.5)


def maps(*rows):
    """[1, S, 1, w]"""
    return torch.tensor(rows)[None, :, None]


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (maps([1.0, 0, 0, 0], [0, 0, 3.0, 0]), 1.0),
        (maps([1.0, 2, 0, 0], [2.0, 4, 0, 0]), 0.0),  # the same distribution
        (maps([1.0, 1, 0, 0], [0, 1.0, 1, 0]), 0.5),
        (maps([1.0, 0, 0], [0, 1.0, 0], [1.0, 0, 0]), 2 / 3),  # one pair of three shares all
    ],
)
def test_separation(found, wanted):
    assert float(separation(found)) == pytest.approx(wanted, abs=1e-6)


def test_concentration():
    assert float(concentration(maps([1.0, 0, 0, 0]))) == pytest.approx(1, abs=1e-5)
    assert float(concentration(maps([0.2, 0.2, 0.2, 0.2]))) == pytest.approx(0, abs=1e-6)
    half = 1 - math.log(2) / math.log(4)
    assert float(concentration(maps([1.0, 1, 0, 0]))) == pytest.approx(half, abs=1e-5)
    both = concentration(maps([1.0, 1, 0, 0], [1.0, 0, 0, 0]))
    assert float(both) == pytest.approx((half + 1) / 2, abs=1e-5)
    assert float(concentration(torch.ones(1, 2, 1, 1))) == 1


def test_silent_maps_are_finite_and_images_stay_apart():
    silent = torch.zeros(2, 2, 3, 3)
    assert torch.isfinite(separation(silent)).all() and torch.isfinite(concentration(silent)).all()
    two = torch.cat([maps([1.0, 0], [0, 1.0]), maps([1.0, 0], [1.0, 0])])
    assert separation(two).tolist() == [1.0, 0.0]


def seen(part, number, apart, dense):
    return BlockSeen(STEP, part, number, (8, 8), [apart], [dense])


def test_ranking_averages_a_block_and_puts_the_best_first():
    found = ranking([seen("input", 1, 0.2, 0.5), seen("output", 3, 0.9, 0.5), seen("input", 1, 0.4, 0.5)])
    assert [one.name for one in found] == ["out3", "in1"]
    assert found[1].separation == pytest.approx(0.3) and found[1].score == pytest.approx(0.15)


def score(part, number):
    return BlockScore(part, number, (8, 8), 0.5, 0.5)


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        ([("output", 3), ("input", 8), ("input", 7)], "in7-8, out3"),
        ([("middle", 0), ("input", 1)], "in1, mid0"),
        ([("single", 4), ("double", 0), ("single", 5), ("single", 7)], "double0, single4-5, single7"),
        ([("block", 12), ("block", 11), ("block", 2)], "2, 11-12"),
    ],
)
def test_block_text_is_what_capture_reads(chosen, wanted):
    text = block_text([score(*one) for one in chosen])
    assert text == wanted
    ranges = parse_blocks(text)
    assert all(any(one.holds(*place) for one in ranges) for place in chosen)
    assert sum(len(one.named()) for one in ranges) == len(chosen)
    assert [block_name(*place) for place in chosen] == [score(*place).name for place in chosen]


def test_table_and_picture():
    scores = [BlockScore("input", n, (16, 24), 0.9 - n / 100, 0.4) for n in range(45)]
    lines = table(scores).splitlines()
    assert len(lines) == 46 and "0.360" in lines[1] and "24 x 16" in lines[1] and "in0" in lines[1]
    sheet = block_ranking(scores, 3, "cat, dog in: a photo of a cat and a dog")
    assert sheet.shape[0] == 1 and sheet.shape[-1] == 3 and 0 <= float(sheet.min()) < float(sheet.max()) <= 1
    flat = block_ranking([BlockScore("block", 0, (4, 4), 0.0, 0.0)], 1, "")
    assert torch.isfinite(flat).all()

"""Where a step in any unit falls in a run."""

import math

import pytest

from gsn.attention.block_ranges import BlockRange, parse_blocks
from gsn.methods.steps import Schedule, Step, StepError, parse_steps

SIGMAS = (14.6, 10.4, 8.4, 6.8, 5.633, 4.7, 3.9, 2.9, 1.6, 0.5, 0.0)


def schedule(sigmas=SIGMAS):
    return Schedule(tuple(sigmas), lambda p: 14.6 * (1 - p), 14.6)


@pytest.mark.parametrize(
    "step, index",
    [
        (Step(3, "index"), 3),
        (Step(5.633, "sigma"), 4),
        (Step(5.5, "sigma"), 4),
        (Step(50, "percent"), 3),
        (Step(0, "percent"), 0),
        (Step(), 4),
    ],
)
def test_units(step, index):
    assert schedule().find(step, 5.633) == index


@pytest.mark.parametrize(
    "step, words",
    [
        (Step(10, "index"), "past the end"),
        (Step(-1, "index"), "count from 0"),
        (Step(math.nan, "sigma"), "finite"),
        (Step(1.5, "index"), "whole"),
        (Step(101, "percent"), "0 to 100"),
        (Step(99, "sigma"), "largest noise level"),
        (Step(1, "furlong"), "unknown unit"),
    ],
)
def test_refusals(step, words):
    with pytest.raises(StepError, match=words):
        schedule().find(step, 5.633)


@pytest.mark.parametrize("sigma", [14.0, 9.3, 7.6, 5.633, 5.2, 5.0, 4.4, 1.0, 0.4])
def test_of_two_chained_runs_exactly_one_owns_a_noise_level(sigma):
    first, second = schedule(SIGMAS[:6]), schedule(SIGMAS[5:])
    found = [run.find(Step(sigma, "sigma"), 0) is not None for run in (first, second)]
    assert sum(found) == 1


def test_a_range_by_sigma_means_the_same_levels_at_any_step_count():
    assert schedule().between(Step(), Step(), (10.4, 2.9)) == (1, 2, 3, 4, 5, 6, 7)
    assert schedule().between(Step(2, "index"), Step(99, "index"), (0, 0)) == (2, 3, 4, 5, 6, 7, 8, 9)


@pytest.mark.parametrize(
    "first, last, words",
    [
        (Step(4, "index"), Step(1, "index"), "from 4 to 1 runs backwards: exchange"),
        (Step(60, "percent"), Step(20, "percent"), "from 60% to 20% runs backwards: exchange"),
        (Step(1.6, "sigma"), Step(8.4, "sigma"), "a sigma falls over the run"),
    ],
)
def test_a_range_that_runs_backwards_is_refused(first, last, words):
    with pytest.raises(StepError, match=words):
        schedule().between(first, last, (0, 0))
    assert schedule().between(last, first, (0, 0))
    assert schedule().between(first, first, (0, 0)) is not None  # one step is a range


def test_percent_is_the_inverse_of_percent_to_sigma():
    assert schedule().percent(7.3) == pytest.approx(0.5, abs=1e-6)


def test_written_steps():
    assert parse_steps("0, 50%, sigma 5.6") == (Step(0, "index"), Step(50, "percent"), Step(5.6, "sigma"))
    assert parse_steps(" ") == ()
    with pytest.raises(StepError, match="cannot read"):
        parse_steps("soon")


def test_block_language():
    assert parse_blocks("auto") is None
    assert parse_blocks("in7-8, mid, out3") == (
        BlockRange("input", 7, 8),
        BlockRange("middle", 0, None),
        BlockRange("output", 3, 3),
    )
    assert parse_blocks("double") == (BlockRange("double", 0, None),)
    for bad in ("up3", "-3", "out5-3", "7..8"):
        with pytest.raises(ValueError):
            parse_blocks(bad)

"""What a method's name stands for."""

import pytest

from gsn.interventions import Guide, Refine
from gsn.presets import PRESETS, with_numbers
from gsn.steps import Step


def interventions(method, iterations=50):
    preset = with_numbers(PRESETS[method], Step(8, "index"), iterations, 0.06, 20.0)
    return [move.intervention for move in preset.moves]


def test_the_paper_takes_the_users_numbers():
    assert interventions("paper") == [Refine(50, 0.06)]
    assert interventions("paper + guidance") == [Refine(50, 0.06), Guide(20.0)]


def test_fast_takes_a_fifth_of_the_iterations_at_five_times_the_rate():
    (refine,) = interventions("fast")
    assert refine.iterations == 10 and refine.lr == pytest.approx(0.3)


@pytest.mark.parametrize("method", ["paper", "paper + guidance", "fast"])
def test_one_iteration_stays_one(method):
    assert all(one.iterations == 1 for one in interventions(method, 1) if type(one) is Refine)


@pytest.mark.parametrize("method", PRESETS)
def test_no_iterations_and_no_step_size_take_everything_out(method):
    assert not with_numbers(PRESETS[method], Step(), 0, 0.06, 0.0).moves
    assert all(type(one) is Guide for one in interventions(method, 0))

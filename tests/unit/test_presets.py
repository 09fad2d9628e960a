"""What a method's name stands for."""

import pytest

from gsn.interventions import Guide, Refine
from gsn.presets import METHODS, plan_for
from gsn.steps import Step


def interventions(method, iterations=50):
    plan, _ = plan_for("node", method, Step(8, "index"), iterations, 0.06, 20.0)
    return [action.intervention for action in plan.actions]


def test_the_paper_takes_the_users_numbers():
    assert interventions("paper") == [Refine(50, 0.06)]
    assert interventions("paper + guidance") == [Refine(50, 0.06), Guide(20.0)]


def test_fast_takes_a_fifth_of_the_iterations_at_five_times_the_rate():
    (refine,) = interventions("fast")
    assert refine.iterations == 10 and refine.lr == pytest.approx(0.3)


@pytest.mark.parametrize("method", METHODS)
def test_no_iterations_stay_none_and_one_stays_one(method):
    for iterations in (0, 1):
        assert all(one.iterations == iterations for one in interventions(method, iterations) if type(one) is Refine)

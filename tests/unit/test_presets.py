"""What a method's name stands for."""

import pytest

from gsn.interventions import Guide, Refine
from gsn.presets import PRESETS, ddpm_sigma, with_numbers, with_refinement_at
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


def test_a_refinement_at_another_step():
    sigma = Step(5.633, "sigma")
    (move,) = with_refinement_at(PRESETS["paper"], sigma).moves
    assert move.first == sigma and move.intervention == Refine()
    preset = with_refinement_at(PRESETS["Ours"], Step(30, "percent"), "flow", "chosen by validation")
    assert preset.noise == "flow" and preset.confidence.startswith("chosen by validation; the rest: Table 1")
    assert preset.moves[0].first == Step(30, "percent") and not preset.moves[0].paper_step


def test_guidance_that_follows_the_refinement_still_does():
    refine, guide = with_refinement_at(PRESETS["Ours+"], Step(ddpm_sigma(8), "sigma")).moves
    assert ddpm_sigma(9) < guide.first.value < ddpm_sigma(8) == refine.first.value
    assert guide.last == PRESETS["Ours+"].moves[1].last
    moved, guide = with_refinement_at(PRESETS["SAGA+"], Step(ddpm_sigma(10), "sigma")).moves  # it guides that step too
    assert ddpm_sigma(9) > guide.first.value > ddpm_sigma(10) == moved.first.value
    guided = with_refinement_at(PRESETS["SynGen+"], Step(3, "index")).moves[1]
    assert guided == PRESETS["SynGen+"].moves[1]  # over the whole beginning, wherever the refinement is


def test_a_preset_without_one_refinement_is_refused():
    for name, said in (("plain", "refines nowhere"), ("InitNO+", "refines at 2 steps")):
        with pytest.raises(ValueError, match=f"{said}.*presets with one refinement: paper, .*Ours"):
            with_refinement_at(PRESETS[name], Step(3, "index"))
    with pytest.raises(ValueError, match="noise level is not known"):
        with_refinement_at(PRESETS["Ours+"], Step(3, "index"))

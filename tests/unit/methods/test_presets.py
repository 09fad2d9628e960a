"""What a method's name stands for."""

import pytest

from gsn.interventions.guide import Guide
from gsn.interventions.refine import Refine
from gsn.methods.model_presets import MODEL_PRESETS
from gsn.methods.preset_file import from_json, to_json
from gsn.methods.presets import (
    PRESET_FAMILIES,
    PRESETS,
    ddpm_sigma,
    describe,
    refuse_other_models,
    with_numbers,
    with_refinement_at,
)
from gsn.methods.steps import Schedule, Step


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


# The papers' runs: 50 DDPM steps, t = 981 - 20 i of the schedule that SDXL shares; 28 steps of SD 3, shift 3.
def ddpm_levels():
    kept, levels = 1.0, []
    for t in range(1000):
        kept *= 1 - (0.00085**0.5 + t / 999 * (0.012**0.5 - 0.00085**0.5)) ** 2
        levels.append(((1 - kept) / kept) ** 0.5)
    return levels[981::-20]


def flow_levels():
    shares = [1 - i / 27 * (1 - 0.002994) for i in range(28)]
    return [3 * u / (1 + 2 * u) for u in shares]


@pytest.mark.parametrize(
    "name, levels, index",
    [("Ours (SDXL)", ddpm_levels, 8), ("Ours (SD 3.5)", flow_levels, 2), ("Ours (Flux)", flow_levels, 2)],
)
def test_a_family_default_acts_at_the_papers_step_of_the_papers_run(name, levels, index):
    (move,) = PRESETS[name].moves
    schedule = Schedule((*levels(), 0.0), lambda percent: 0.0, levels()[0])
    assert schedule.find(move.first, 0.0) == index and move.last is None
    assert move.paper_step.startswith(f"{index} of ")
    assert move.intervention == Refine(50, 0.01, "adam")
    assert f"sigma {levels()[index]:.3f}" in describe(name, PRESETS[name], MODEL_PRESETS[PRESETS[name].family])


@pytest.mark.parametrize("family", PRESET_FAMILIES)
def test_every_family_has_a_default_of_its_own_and_no_other_model_takes_it(family):
    (name,) = (name for name, one in PRESETS.items() if one.family == family)
    for key, model in MODEL_PRESETS.items():
        if key == family:
            refuse_other_models(name, PRESETS[name].noise, family, model)
            continue
        with pytest.raises(ValueError, match="is for") as refusal:
            refuse_other_models(name, PRESETS[name].noise, family, model)
        offered = str(refusal.value).split("there are: ")[1].split(", ")
        assert name not in offered and "paper" in offered


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
    refine, guide = with_refinement_at(PRESETS["Ours+"], Step(8, "index")).moves
    assert (refine.first, guide.first) == (Step(8, "index"), Step(9, "index"))
    for name in ("SynGen+", "SAGA+"):  # it begins before, or at that step: its place is its own
        guided = with_refinement_at(PRESETS[name], Step(3, "index")).moves[1]
        assert guided == PRESETS[name].moves[1]


def test_guidance_that_would_end_before_it_begins_is_left_out():
    last = Step(1.2, "sigma")  # after the guidance's last step
    (move,) = with_refinement_at(PRESETS["Ours+"], last).moves
    assert move.first == last and from_json(to_json(with_refinement_at(PRESETS["Ours+"], last))).moves == (move,)


def run_of(steps):
    return Schedule((*ddpm_levels()[:: 50 // steps], 0.0), lambda percent: 14.6 if percent == 0 else 0.1, 14.62)


def test_the_text_for_a_run_names_its_own_steps():
    sd1 = MODEL_PRESETS["sd1"]
    said = describe("Ours+", PRESETS["Ours+"], sd1, run_of(50)).splitlines()
    assert said[1] == "At sigma 10.425, in this run step 2 of 0 to 49 (sigma 10.43), the paper's step 2 of 50:"
    assert "in this run steps 3 to 24 of 0 to 49 (sigma 9.338 to 1.624)" in said[4]
    said = describe("Ours", PRESETS["Ours"], sd1, run_of(25))
    assert "in this run step 4 of 0 to 24" in said and "in this run" not in describe("Ours", PRESETS["Ours"], sd1)
    late = Schedule((2.0, 1.0, 0.0), lambda percent: 14.6, 14.62)  # a run from a picture
    assert "which is not part of this run" in describe("Ours", PRESETS["Ours"], sd1, late)


def test_auto_is_the_distributions_own_level_where_there_is_one():
    file = from_json('{"moves": [{"do": "distribution", "at": "auto", "loss": [{"loss": "iou"}]}]}')
    assert "At sigma 4.692 (auto), in this run step 10 of" in describe("mine", file, MODEL_PRESETS["sd1"], run_of(50))


def test_a_preset_without_one_refinement_is_refused():
    for name, said in (("plain", "refines nowhere"), ("InitNO+", "refines at 2 steps")):
        with pytest.raises(ValueError, match=f"{said}.*presets with one refinement: paper, .*Ours"):
            with_refinement_at(PRESETS[name], Step(3, "index"))

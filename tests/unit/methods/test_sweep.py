"""Lists of methods, steps and seeds as a person writes them."""

import pytest

from gsn.attention.block_ranges import parse_blocks
from gsn.interventions.guide import Guide
from gsn.interventions.refine import Refine
from gsn.methods.preset_file import from_json, to_json
from gsn.methods.presets import PRESETS, ddpm_sigma
from gsn.methods.steps import Schedule, Step, parse_steps
from gsn.methods.sweep import at_step, read_seeds, read_variants

DDPM = Schedule((*(ddpm_sigma(i) for i in range(50)), 0.0), lambda percent: 14.6 * (1 - percent), 14.62)


def guided(preset):
    """The steps of 50 at which a preset's guidance acts."""
    found = [DDPM.between(m.first, m.last, (14.6, 1.0)) for m in preset.moves if isinstance(m.intervention, Guide)]
    return [step for steps in found for step in steps]


def test_a_method_on_each_line():
    found = read_variants("plain\n\n  Ours @ 8\nOurs+ @ sigma 5.6 \npaper @ 20%")
    assert [one.label for one in found] == ["plain", "Ours @ 8", "Ours+ @ sigma 5.6", "paper @ 20%"]
    assert found[1].preset.moves[0].first == Step(8, "index") and found[0].preset == PRESETS["plain"]


def test_a_file_is_asked_for_by_its_name():
    own = from_json(to_json(PRESETS["fast"]))
    (found,) = read_variants("mine/own.json @ 3", file={"mine/own.json": own}.get)
    assert found.method == "mine/own.json" and isinstance(found.preset.moves[0].intervention, Refine)


@pytest.mark.parametrize("index", [0, 2, 8, 20])
def test_guidance_that_follows_the_refinement_still_does(index):
    """The paper's curve with guidance: from the step after the refined one to the 25th."""
    for step in (Step(index, "index"), Step(ddpm_sigma(index), "sigma")):
        moved = at_step("Ours+", PRESETS["Ours+"], step)
        assert moved.moves[0].first == step
        assert guided(moved) == list(range(index + 1, 25)), step


def test_guidance_from_the_start_stays():
    moved = at_step("paper + guidance", PRESETS["paper + guidance"], Step(8, "index"))
    assert moved.moves[1] == PRESETS["paper + guidance"].moves[1]


@pytest.mark.parametrize("name", ["plain", "guidance", "Attend&Excite", "InitNO", "SynGen"])
def test_methods_without_one_refinement_take_no_step(name):
    with pytest.raises(ValueError, match=f"the method '{name.replace('+', '.')}' has [0-9] refinements"):
        at_step(name, PRESETS[name], Step(8, "index"))


@pytest.mark.parametrize("name", ["paper", "fast", "Ours", "Ours+", "SAGA", "SynGen+"])
def test_methods_with_one_refinement_take_a_step(name):
    assert Step(8, "index") in [move.first for move in at_step(name, PRESETS[name], Step(8, "index")).moves]


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-3", (0, 1, 2, 3)), ("5", (5,)), ("9, 2-3\n40", (9, 2, 3, 40)), (" 7 - 8 ,", (7, 8))]
)
def test_seeds(text, seeds):
    assert read_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "no seeds"), ("3-1", "rising"), ("a", "cannot read"), ("1.5", "cannot read"), ("-1", "cannot read"),
     ("1, 0-3", "seed 1 is given twice"), ("0-5000", "at most 4096"), (str(2**64), "below 2\\^64")],
)  # fmt: skip
def test_seeds_that_cannot_be_meant(text, said):
    with pytest.raises(ValueError, match=said):
        read_seeds(text)


def test_lists_have_an_end():
    with pytest.raises(ValueError, match="more than 4096 seeds"):
        read_seeds(", ".join(f"{n * 4096}-{n * 4096 + 4095}" for n in range(1000)))
    with pytest.raises(ValueError, match="1001 methods"):
        read_variants("\n".join(["plain"] * 1001))
    with pytest.raises(ValueError, match="1001 steps"):
        parse_steps(",".join(map(str, range(1001))))
    with pytest.raises(ValueError, match="cannot read block"):
        parse_blocks("in0-999999999999")

"""Presets as JSON: there and back, and what is said of an edited file that cannot be meant."""

import json

import pytest

from gsn.preset_file import PresetError, from_json, to_json
from gsn.presets import PRESETS


def without_the_node(preset):
    """A file carries the numbers, not which of them a node may replace."""
    return [(m.intervention, m.objective, m.first, m.last, m.paper_step, m.only) for m in preset.moves]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_written_and_read_is_the_same(name):
    preset = PRESETS[name]
    again = from_json(to_json(preset))
    assert without_the_node(again) == without_the_node(preset)
    assert (again.noise, again.family, again.source, again.confidence, again.use) == (
        preset.noise, preset.family, preset.source, preset.confidence, preset.use)  # fmt: skip
    assert to_json(again) == to_json(preset)


def edited(**changes):
    content = json.loads(to_json(PRESETS["paper"]))
    content["moves"][0] |= changes
    return json.dumps(content)


def test_an_edited_number_is_taken():
    (move,) = from_json(edited(iterations=7, at="50%", stop={"iou": 0.1})).moves
    assert move.intervention.iterations == 7 and str(move.first) == "50%" and move.intervention.stop == (("iou", 0.1),)


ATTEND = [{"loss": "attend_excite"}]
BAD = {
    "no JSON": ("{", "not JSON"),
    "no preset": ("[]", "write an object"),
    "no moves": ("{}", "moves is missing"),
    "unknown key": ('{"moves": [], "steps": 3}', "unknown key 'steps'"),
    "unknown intervention": (edited(do="refien"), r"moves\[0\].do is 'refien'; choose one of .*'refine'"),
    "unknown setting": (edited(learning_rate=1.0), "unknown key 'learning_rate'; known are .*lr"),
    "a text for a number": (edited(lr="fast"), r"moves\[0\].lr is 'fast'; write a number"),
    "half an iteration": (edited(iterations=2.5), "iterations is 2.5; write a whole number"),
    "fewer than none": (edited(iterations=-1), "iterations is -1"),
    "infinite rate": (edited(lr=float("inf")), "lr is inf"),
    "momentum that Adam would not use": (edited(momentum=0.4), r"moves\[0\]: momentum is 0.4, but adam has its own"),
    "unknown loss": (edited(loss=[{"loss": "attend"}]), r"loss\[0\].loss is 'attend'"),
    "no loss": (edited(loss=[]), "loss is missing"),
    "a weight that is no number": (edited(loss=[{"loss": "iou", "weight": True}]), "weight is True"),
    "a level out of reach": (edited(stop={"iou": -1}), "cannot reach"),
    "a level of another loss": (edited(loss=ATTEND, stop={"iou": 0.1}), "names the loss 'iou'"),
    "a step that is none": (edited(at="soon"), "write auto, 8, 50% or sigma 5.6"),
    "half a range": (edited(**{"from": "0"}), "either 'at', or both"),
    "whose noise": ('{"moves": [], "noise": "sdxl"}', "noise is 'sdxl'"),
    "whose model": ('{"moves": [], "family": "sd1.5"}', "family is 'sd1.5'; choose one of 'any', 'sdxl'"),
    "a setting the loss lacks": (edited(loss=[{"loss": "iou", "settings": {"k": 1}}]), "key 'k'; known are none"),
    "waits for nothing": (edited(loss=[{"loss": "iou", "while_below": {"attend_excite": 0.5}}]), "not in the sum"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_meant_is_refused_by_its_place(case):
    text, said = BAD[case]
    with pytest.raises(PresetError, match=said):
        from_json(text)

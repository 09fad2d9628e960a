"""Presets as JSON: there and back, and what is said of an edited file that cannot be meant."""

import json

import pytest

from gsn.interventions import INTERVENTIONS
from gsn.losses import LOSSES
from gsn.methods.preset_file import PresetError, from_json, to_json
from gsn.methods.presets import PRESETS


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
    """The paper's move with changes; Another intervention's takes nothing of its numbers."""
    content = json.loads(to_json(PRESETS["paper"]))
    (move,) = content["moves"]
    if "from" in changes and "to" in changes:
        del move["at"]
    if "do" in changes:
        move = {"loss": move["loss"]}
    return json.dumps(content | {"moves": [move | changes]})


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
    "a list for a name": (edited(do=[]), r"moves\[0\].do is \[\]; choose one of"),
    "a list for a loss": (edited(loss=[{"loss": []}]), r"loss\[0\].loss is \[\]; choose one of"),
    "a list for a step": (edited(at=[8]), r"moves\[0\].at is \[8\]; write auto"),
    "a rate of 400 digits": (edited(lr=10**400), r"moves\[0\].lr is 10+\.\.\.0+; write a finite number"),
    "a thousand million": (edited(iterations=10**9), r"moves\[0\].iterations is 1000000000; the most is 1000"),
    "as many samples": (edited(do="distribution", iterations=9, lr=1, samples=10**9), "samples is .*; the most is 100"),
    "tiles as large": (edited(do="distribution", block=10**9), r"moves\[0\].block is 1000000000; the most is 64"),
    "a rate without bounds": (edited(lr=1e30), r"moves\[0\].lr is 1e\+30; the most is 10000"),
    "a weight without bounds": (edited(loss=[{"loss": "iou", "weight": -1e300}]), r"weight is -1e\+300; the most is"),
    "no weight at all": (edited(loss=[{"loss": "iou", "weight": 0}]), r"moves\[0\]: .*'iou' has weight 0"),
    "waits for no number": (
        edited(loss=[{"loss": "iou", "while_below": {"iou": float("nan")}}]),
        r"loss\[0\].while_below.iou is nan; write a finite number",
    ),
    "a setting without bounds": (
        edited(loss=[{"loss": "tv_bind", "settings": {"coefficient": 1e9}}]),
        r"loss\[0\].settings.coefficient is 1000000000.0; the most is 1000",
    ),
    "backwards": (edited(**{"from": 24, "to": 0}), r"moves\[0\]: the range from 24 to 0 runs backwards"),
    "sigma backwards": (edited(**{"from": "sigma 1.6", "to": "sigma 13"}), "runs backwards; a sigma falls"),
    "nested without end": ('{"moves": ' + 10**5 * "[" + 10**5 * "]" + "}", "nested deeper than any preset"),
    "nested": ('{"moves": [' + 200 * "[" + 200 * "]" + "]}", r"moves\[0\] is \[+\.\.\.\]+; write an object"),
    "waits for nothing": (edited(loss=[{"loss": "iou", "while_below": {"attend_excite": 0.5}}]), "not in the sum"),
}


def test_every_number_of_a_preset_has_a_bound():
    """Said beside it, in the file of the intervention or the loss; the names of those that are gone are not kept."""
    for one in INTERVENTIONS.values():
        assert {name for name, value in vars(one()).items() if type(value) in (int, float)} == set(one.most), one
    for loss in LOSSES.values():
        assert {name for name, value in loss.settings().items() if type(value) in (int, float)} == set(loss.most), loss


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_meant_is_refused_by_its_place(case):
    text, said = BAD[case]
    with pytest.raises(PresetError, match=said):
        from_json(text)

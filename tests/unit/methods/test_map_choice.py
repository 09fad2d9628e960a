"""Whose word counts for how maps are made: AttentionCapture's, then the method's, then the model's."""

import pytest

from gsn.attention.maps import MapChoice, MapProcessing
from gsn.methods.model_presets import MODEL_PRESETS
from gsn.methods.preset_file import PresetError, from_json, to_json
from gsn.methods.presets import PRESETS, describe, plan_of, refuse_other_models, with_refinement_at
from gsn.methods.steps import Step

RAW = MapChoice("words", 20.0, 0.0)


def test_what_is_left_open_is_the_next_ones_to_say():
    assert MapChoice().before(RAW) == RAW == RAW.before(MapChoice("padded", 50.0, 2.0))
    assert MapChoice(blur=1.0).before(RAW) == MapChoice("words", 20.0, 1.0)
    model = MODEL_PRESETS["sd1"]
    assert model.processing("auto", "clip") == MapProcessing("padded", 100.0, 0.5, "clip")
    assert model.processing(RAW.columns, "clip", RAW.contrast, RAW.blur) == MapProcessing("words", 20.0, 0.0, "clip")


NAMED = ("Attend&Excite", "Divide&Bind", "InitNO", "InitNO+", "Ours", "Ours+", "Ours (SD 3)", "BoxDiff", "SAGA",
         "SAGA variance", "SAGA+", "SAGA boxes", "SAGA (SD 3)", "SAGA variance (SD 3)")  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_a_method_that_names_its_own_way_says_it_and_it_is_that_of_every_model_it_is_for(name):
    preset, maps = PRESETS[name], PRESETS[name].maps
    assert bool(maps.given()) == (name in NAMED)
    assert {action.maps for action in plan_of("node", name, preset)[0].actions} <= {maps}
    for model in MODEL_PRESETS.values():
        try:
            refuse_other_models(name, preset.noise, preset.family, model)
        except ValueError:
            continue
        asked = model.processing(maps.columns, "average", maps.contrast, maps.blur)
        assert asked == model.processing("auto", "average") == MapProcessing(model.columns, 100.0, 0.5)
        assert ("maps: " in describe(name, preset, model)) == (name in NAMED)


def test_a_preset_file_carries_it():
    text = to_json(PRESETS["Ours (SD 3)"]).replace('"contrast": 100.0', '"contrast": 40')
    preset = from_json(text)
    assert preset.maps == MapChoice("words", 40.0, 0.5) and from_json(to_json(preset)).maps == preset.maps
    assert "maps: columns words, contrast 40.0, blur 0.5" in describe("mine", preset, MODEL_PRESETS["sd3"])
    assert with_refinement_at(preset, Step(3, "index")).maps == preset.maps
    assert from_json('{"moves": []}').maps == MapChoice()


@pytest.mark.parametrize(
    "maps, said",
    [
        ('{"columns": "all"}', "maps.columns is 'all'; choose one of 'auto', 'padded', 'words'"),
        ('{"contrast": 0}', "maps: contrast is 0; give more than 0"),
        ('{"contrast": 1e9}', "maps: contrast is 1e.09; give more than 0, and 10000 at most"),
        ('{"contrast": NaN}', "maps.contrast is nan; write a finite number"),
        ('{"blur": -1}', "maps: blur is -1; give 0 .none. to 10"),
        ('{"blur": "auto"}', "maps.blur is 'auto'; write a number"),
        ('{"sigma": 1}', "maps has the unknown key 'sigma'; known are columns, contrast, blur"),
        ("[]", r"maps is \[\]; write an object"),
    ],
)
def test_maps_that_cannot_be_made_are_refused_by_their_place(maps, said):
    with pytest.raises(PresetError, match=said):
        from_json(f'{{"moves": [], "maps": {maps}}}')

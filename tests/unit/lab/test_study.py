"""What a study is to make: the grid, its batches, what may be joined, and the workflows."""

import json
import sys
from dataclasses import replace

import pytest

from gsn.text.prompt_sets import PromptSet, marked_case
from lab.study import cli
from lab.study.models import Model, demo_model, demo_models, named_model
from lab.study.on_ray import workers_here
from lab.study.study import Method, Study, StudyError, from_json, joined, to_json
from lab.study.workflow import check_user_workflow, user_workflow, workflow

from .studies import CASES, study

OWN = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "%model%"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "%prompt%, sharp", "clip": ["1", 1]}},
    "3": {"class_type": "KSampler", "inputs": {"seed": "%seed%", "steps": "%steps%", "cfg": "%cfg%"}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}},
}


def test_batches_hold_every_image_once_and_prompts_stay_together():
    one = study()
    batches = list(one.batches())
    keys = [key for batch in batches for key in batch.keys]
    assert len(keys) == len(set(keys)) == one.images == 2 * 3 * 3
    assert [batch.seeds for batch in batches[:4]] == [(0, 1)] * 3 + [(2,)]
    texts = [batch.case.text for batch in batches]
    assert texts == sorted(texts, key=[case.text for case in CASES].index)


def test_the_batch_of_a_seed_does_not_depend_on_the_other_methods():
    def batch_of(one, seed):
        return {batch.seeds for batch in one.batches() if seed in batch.seeds}

    assert batch_of(study(), 1) == batch_of(study(methods=("Ours",)), 1) == {(0, 1)}


def test_a_study_survives_its_file():
    one = study(cases=(*CASES, marked_case("a [red car], a [blue bird]")), scorers=("clip",))
    again = from_json(to_json(one))
    assert again == one and again.made_with == one.made_with
    assert list(again.batches()) == list(one.batches())


@pytest.mark.parametrize("text", ["", "{}", "[]", to_json(study()).replace('"seeds"', '"sets"'), '{"format": 1}'])
def test_a_damaged_study_file_is_named(text):
    with pytest.raises(StudyError, match=r"study\.json cannot be read"):
        from_json(text)


def test_more_can_be_asked_of_a_study():
    more = joined(study(), study(seeds=(0, 1, 2, 3), methods=("plain", "SynGen")))
    assert [one.label for one in more.methods] == ["plain", "Ours", "Ours @ 4", "SynGen"]
    assert more.seeds == (0, 1, 2, 3)
    fewer = joined(more, study(cases=CASES[:1]))
    assert fewer.seeds == more.seeds and len(fewer.sets[0].cases) == 2
    other = PromptSet("three", "test", "made up", CASES)
    assert [one.name for one in joined(study(), replace(study(), sets=(other,))).sets] == ["two", "three"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (study(seeds=(5, 6)), "one list must begin with the other"),
        (study(batch=3), "batch 2, but 3 is asked"),
        (study(detector="none"), "detector"),
        (study(threshold=0.9), "threshold"),
        (replace(study(), models=(Model("unet", cfg=1.0),)), "the model 'unet' was another one"),
        (replace(study(), methods=(Method("Ours", kind="preset file", file="{}"),)), "the method 'Ours' was another"),
    ],
)
def test_what_could_not_stand_in_one_table_is_refused(asked, said):
    with pytest.raises(StudyError, match=said):
        joined(study(), asked)


def test_our_workflow():
    batch = next(one for one in study().batches() if one.method.step == "4")
    nodes = workflow(batch)
    assert nodes["seeds"]["inputs"]["seeds"] == "0, 1" and nodes["latent"]["inputs"]["batch_size"] == 2
    assert nodes["method"]["inputs"] == {"model": ["seeds", 0], "methods": "Ours @ 4"}
    assert nodes["positive"]["inputs"]["text"] == "a photo of a [car] and a [bird]"
    assert nodes["sample"]["inputs"]["model"] == ["method", 0]
    plain = workflow(next(study().batches()))
    assert plain["sample"]["inputs"]["model"] == ["seeds", 0] and "method" not in plain
    loaded = workflow(replace(batch, model=Model("sd", checkpoint="sd.safetensors", dtype="bf16")), "x.json")
    assert loaded["model"]["inputs"] == {"ckpt_name": "sd.safetensors"}
    assert loaded["method"]["inputs"]["methods"] == "x.json @ 4"
    assert loaded["seeds"]["inputs"]["model"] == ["dtype", 0]


def test_comfyui_can_detect_in_the_workflow():
    nodes = workflow(next(study().batches()), detector="rt.safetensors")
    assert nodes["detector"]["inputs"]["unet_name"] == "rt.safetensors"
    assert nodes["detect"]["inputs"]["image"] == nodes["images"]["inputs"]["images"]


def test_a_users_workflow_is_filled_in():
    method = Method("own", kind="workflow", file=json.dumps(OWN))
    batch = replace(next(study().batches()), method=method, model=Model("sd", checkpoint="sd.safetensors"))
    nodes = user_workflow(batch, (7,))
    assert nodes["1"]["inputs"]["ckpt_name"] == "sd.safetensors"
    assert nodes["2"]["inputs"]["text"] == "a photo of a car and a bird, sharp"
    assert nodes["3"]["inputs"] == {"seed": 7, "steps": 50, "cfg": 7.5}
    check_user_workflow("own.json", json.dumps(OWN))


def changed(node, **inputs):
    return json.dumps(OWN | {node: OWN[node] | {"inputs": inputs}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ('{"nodes": [], "links": []}', r"Export \(API\)"),
        ("[]", "neither a preset"),
        (changed("2", text="a cat"), "%prompt%"),
        (changed("3", seed=7), "%seed%"),
        (changed("2", text="%promt% %prompt%"), "unknown placeholder %promt%"),
    ],
)
def test_a_workflow_that_asks_for_nothing_is_refused(text, said):
    with pytest.raises(StudyError, match=said):
        check_user_workflow("own.json", text)


# --- the command line


def asked(*arguments) -> Study:
    return cli.asked_study(cli.parser().parse_args(list(arguments)))


def test_quick_is_the_small_grid():
    one = asked("--quick")
    assert [m.label for m in one.methods] == ["plain", "Ours"] and one.images == 2 * 4 * 4
    assert one.sets[0].split == "validation" and one.detector == "demo"


def test_steps_take_the_place_of_the_methods_own():
    one = asked("--methods", "plain,Ours,Ours+ @ 2", "--steps", "0, 50%, sigma 5.6", "--seeds", "3-4")
    assert [m.label for m in one.methods] == ["plain", "Ours @ 0", "Ours @ 50%", "Ours @ sigma 5.6", "Ours+ @ 2"]
    assert one.seeds == (3, 4)


def test_a_checkpoint_is_sampled_as_in_the_paper():
    one = asked("--model", "sd14.safetensors", "--set", "3 coloured", "--prompts", "5", "--cfg", "6")
    assert one.models[0] == Model("sd14", "sd14.safetensors", cfg=6.0)
    assert len(one.sets[0].cases) == 5 and (one.detector, one.threshold) == ("coco", 0.5) and one.batch == 1


def test_the_detector_that_ships_without_its_runtime_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(StudyError, match="--detector coco: .*pip install onnxruntime"):
        asked("--model", "sd14.safetensors")


def test_what_the_detector_that_ships_does_not_know_is_not_detected(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("a [cat] and a [castle]\n")
    assert asked("--model", "sd14.safetensors", "--set", str(path)).detector == "none"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--methods", "nobody"), "there is no method 'nobody'"),
        (("--methods", ","), "no method"),
        (("--methods", "plain", "--steps", "x"), None),
        (("--methods", "Ours", "--steps", "x"), "cannot read the step 'x'"),
        (("--methods", "InitNO", "--steps", "3"), "0 refinements"),
        (("--methods", "Ours,Ours"), "named twice"),
        (("--methods", "none.json"), "cannot be read"),
        (("--seeds", "2-1"), "--seeds"),
        (("--set", "4 entities"), "--set"),
        (("--prompts", "0"), "--set"),
        (("--detector", "eye"), "no detector 'eye'"),
        (("--model", "unet", "--model", "x.safetensors"), "not both"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_starts(arguments, said):
    if said is None:
        assert asked(*arguments).methods == (Method("plain"),)
        return
    with pytest.raises(StudyError, match=said):
        asked(*arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--ray", "local:two"), "write local:2"),
        (("--ray", "local:0"), "write local:2"),
        (("--ray", "local:2", "--workers", "3"), "--workers is for"),
        (("--workers", "3"), "--workers is for"),
        (("--ray", "head:6379", "--workers", "0"), "at least 1"),
    ],
)
def test_workers_that_could_not_be_had_are_refused_before_anything_starts(tmp_path, arguments, said):
    with pytest.raises(StudyError, match=said):
        cli.run(cli.parser().parse_args(["--out", str(tmp_path / "new"), "--quick", *arguments]))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("address", "here"), [("local", 2), ("local:3", 3), ("localhost:6379", None), ("auto", None)])
def test_only_local_and_a_number_are_workers_of_this_machine(address, here):
    assert workers_here(address) == here


@pytest.mark.parametrize(
    ("gpu", "able", "dtype"),
    [(True, {}, "bf16"), (False, {"avx2": True, "amx_bf16": True}, "bf16"),
     (False, {"avx2": True, "avx512_bf16": False}, "fp32")],
)  # fmt: skip
def test_the_demo_models_say_how_they_are_sampled(monkeypatch, gpu, able, dtype):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: gpu)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: able)
    assert demo_models()[0] == "unet"
    assert demo_model("unet") == Model("unet", width=128, height=128, steps=50, cfg=3.0, dtype=dtype)
    assert named_model("unet") == demo_model("unet") and named_model("a/b.safetensors").name == "b"


# --- in a folder that holds a study, what is not said is as there

THERE = ("--methods", "Ours,SynGen", "--prompts", "2", "--seeds", "0-3", "--dtype", "fp32", "--score", "explained",
         "--threshold", "0.4", "--batch", "2", "--split", "validation")  # fmt: skip


def asked_more(*arguments, there=THERE) -> Study:
    before = asked(*there)
    return joined(before, cli.asked_study(cli.parser().parse_args(list(arguments)), before))


def test_nothing_said_goes_on_with_the_folder():
    assert asked_more() == asked(*THERE)
    assert asked_more("--model", "unet", "--split", "validation", "--score", "explained") == asked(*THERE)


def test_more_prompts_of_the_same_set():
    assert asked_more("--prompts", "5") == replace(asked(*THERE), sets=asked(*THERE, "--prompts", "5").sets)


@pytest.mark.parametrize(
    ("more", "labels"),
    [
        (("--methods", "plain"), ["Ours", "SynGen", "plain"]),
        (("--methods", "Ours", "--steps", "4,8"), ["Ours", "SynGen", "Ours @ 4", "Ours @ 8"]),
        (("--seeds", "0-7"), ["Ours", "SynGen"]),
    ],
)
def test_more_methods_steps_and_seeds(more, labels):
    one = asked_more(*more)
    assert [m.label for m in one.methods] == labels and one.sets == asked(*THERE).sets
    assert len(one.seeds) == (8 if "--seeds" in more else 4)


def test_steps_alone_are_those_of_the_folders_methods():
    labels = [m.label for m in asked_more("--steps", "4", there=("--methods", "plain,Ours,Ours @ 2")).methods]
    assert labels == ["plain", "Ours", "Ours @ 2", "Ours @ 4"]


def test_another_split_and_another_set_stand_beside_it():
    both = asked_more("--split", "test", "--prompts", "3")
    assert [(one.split, len(one.cases)) for one in both.sets] == [("validation", 2), ("test", 3)]
    assert [one.name for one in asked_more("--set", "3 entities").sets] == ["2 entities", "3 entities"]


def test_prompts_of_a_file_have_to_be_named_again(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("a [cat] and a [house]\n")
    there = ("--set", str(path), "--seeds", "0-1")
    assert asked_more("--seeds", "0-3", there=there).sets == asked(*there).sets
    with pytest.raises(StudyError, match="name it again, with --set"):
        asked_more("--prompts", "2", there=there)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--dtype", "bf16"), "the model 'unet' was another one"),
        (("--batch", "8"), "batch 2, but 8 is asked; choose another folder, or leave that option out"),
        (("--threshold", "0.5"), "threshold 0.4, but 0.5"),
        (("--quick",), "was another one|scorers|batch"),
    ],
)
def test_other_settings_are_still_refused(more, said):
    with pytest.raises(StudyError, match=said):
        asked_more(*more)

"""Every method by its name, through ComfyUI's own executor: on the demo model, or on a toy of the kind it is for."""

import json

import pytest
import torch

PROMPT = "a photo of a cat and a dog"
NEED_BOXES = ("BoxDiff", "SAGA boxes")
BOXES = [{"x": 8, "y": 24, "width": 52, "height": 80}, {"x": 70, "y": 24, "width": 52, "height": 80}]


@pytest.fixture(autouse=True)
def boxes_node(comfy):
    comfy.extra("nodes_bounding_boxes")


def graph(preset=None, file="", on="demo", **sampler):
    """on: the demo model or a toy's family."""
    loader = {"class_type": "GSNDemoModel", "inputs": {"which": "unet"}}
    settings = {"seed": 3, "steps": 12, "cfg": 3.0, "sampler_name": "ddpm", "scheduler": "ddim_uniform", "denoise": 1.0}
    if on != "demo":
        loader = {"class_type": "ToyModel", "inputs": {"family": on, "seed": 0}}
    if on == "sd3":
        settings |= {"sampler_name": "euler", "scheduler": "normal"}
    nodes = {
        "model": loader,
        "positive": {"class_type": "GSNSubjects", "inputs": {"clip": ["model", 1], "text": PROMPT, "subjects": ""}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["model", 1], "text": ""}},
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}},
    }
    model = ["model", 0]
    if preset in NEED_BOXES:
        drawn = {"width": 128, "height": 128, "editor_state": {"__value__": BOXES}}  # as the editor sends a list
        nodes["boxes"] = {"class_type": "CreateBoundingBoxes", "inputs": drawn}
        nodes["positive"]["inputs"] |= {"boxes": ["boxes", 1], "canvas_width": 128, "canvas_height": 128}
    if preset is not None:
        nodes["preset"] = {"class_type": "GSNPreset", "inputs": {"model": model, "preset": preset, "file": file}}
        model = ["preset", 0]
    wires = {"model": model, "positive": ["positive", 0], "negative": ["negative", 0], "latent_image": ["latent", 0]}
    nodes["out"] = {"class_type": "KSampler", "inputs": settings | wires | sampler}
    return nodes


def presets(comfy):
    return comfy.pack("gsn.presets").PRESETS


def run(comfy, preset, **more):
    """comfy: or a session, whose model is then the same from run to run."""
    result = comfy.run(graph(preset, **more), ["out", ("preset", 1), ("preset", 2), ("preset", 3)]).check()
    return result["out"]["samples"], result["preset", 1].trace, result["preset", 2], result["preset", 3]


NAMES = (
    "paper",
    "guidance",
    "paper + guidance",
    "fast",
    "plain",
    "SynGen",
    "Attend&Excite",
    "Divide&Bind",
    "InitNO",
    "InitNO+",
    "A-STAR",
    "SynGen+",
    "Ours",
    "Ours+",
    "Ours (SD 3)",
    "SAGA",
    "SAGA variance",
    "SAGA+",
    "SAGA boxes",
    "SAGA (SD 3)",
    "SAGA variance (SD 3)",
    "BoxDiff",
    "FOCUS",
    "TACA",
    "DeLeaker",
)


def test_the_tests_know_every_preset(comfy):
    assert list(presets(comfy)) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_runs_lowers_its_loss_leaves_nothing_and_repeats(comfy, name):
    preset = presets(comfy)[name]
    on = "sd3" if preset.noise == "flow" else "demo"
    plain = comfy.run(graph(on=on), ["out"]).check()["out"]["samples"]
    session = comfy.session()
    latent, trace, said, _ = run(session, name, on=on)
    assert torch.equal(session.run(graph(on=on), ["out"]).check()["out"]["samples"], plain)
    assert name in said and preset.source in said
    if not preset.moves:
        assert torch.equal(latent, plain)
        return
    assert not torch.equal(latent, plain) and torch.isfinite(latent).all()
    for stop in (one for one in trace.stops if one.iterations[0]):
        own = [r.loss[0] for r in trace.records if r.action == stop.action and r.step == stop.step]
        assert min(own[1:]) < own[0], f"{stop.action} at {stop.step}"
    assert torch.equal(run(comfy, name, on=on)[0], latent)


@pytest.mark.parametrize("name, on, kind", [("SAGA (SD 3)", "demo", "flow models"), ("SAGA", "sd3", "SD 1.x")])
def test_noise_levels_of_another_kind_of_model_are_refused_before_sampling(comfy, name, on, kind):
    result = comfy.run(graph(name, on=on), ["out"])
    assert not result.ok and not result.progress
    assert result.error.startswith("GSNPreset: ") and f"names noise levels of {kind}" in result.error


def test_divide_and_bind_binds_where_there_is_something_to_bind(comfy):
    for text, loss in ((PROMPT, "tv"), ("a photo of a red cat and a dog", "tv_bind")):
        nodes = graph("Divide&Bind")
        nodes["positive"]["inputs"]["text"] = text
        trace = comfy.run(nodes, ["out", ("preset", 1)]).check()["preset", 1].trace
        assert all(next(iter(record.terms)) == loss for record in trace.records)
        assert {record.action for record in trace.records} == {"refine", "guide"}


def test_a_preset_file_is_a_preset(comfy, tmp_path):
    import folder_paths

    folder = tmp_path / "input"
    (folder / "mine").mkdir(parents=True)
    before = folder_paths.get_input_directory()
    folder_paths.set_input_directory(str(folder))
    try:
        latent, trace, _, text = run(comfy, "paper")
        content = json.loads(text)
        content["moves"][0]["iterations"] = 2
        (folder / "mine" / "short.json").write_text(json.dumps(content))
        other, trace, said, _ = run(comfy, "paper", file="mine/short.json")
        assert trace.stops[0].iterations == [2] and "short.json" in said and not torch.equal(other, latent)
        content["moves"][0]["rate"] = 1
        (folder / "mine" / "short.json").write_text(json.dumps(content))
        for file, message in (("mine/short.json", "unknown key 'rate'"), ("none.json", "it has mine/short.json"),
                              ("../none.json", "outside ComfyUI's input folder")):  # fmt: skip
            with pytest.raises(Exception, match=message):
                run(comfy, "paper", file=file)
    finally:
        folder_paths.set_input_directory(before)

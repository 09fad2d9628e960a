"""Every method by its name, through ComfyUI's own executor: on the demo model, or on a toy of the kind it is for."""

import functools
import json
import re

import pytest
import torch

from ...short_presets import shortened
from ..preset_graphs import graph, run


def presets(comfy):
    return comfy.pack("gsn.methods.presets").PRESETS


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
    "Ours (SDXL)",
    "Ours (SD 3.5)",
    "Ours (Flux)",
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


# What each runs on: the demo model where its noise levels and family allow it.
ON = dict.fromkeys(NAMES, "demo") | dict.fromkeys((name for name in NAMES if "(SD 3)" in name), "sd3")
ON |= {"Ours (SDXL)": "sdxl", "Ours (SD 3.5)": "sd35_medium", "Ours (Flux)": "flux_dev"}


def written(comfy, name, content):
    """A preset file in ComfyUI's input folder."""
    (comfy.base / "input" / f"{name}.json").write_text(json.dumps(content))
    return f"{name}.json"


def shortened_file(comfy, name):
    """A preset file with less of what is repeated; "" where nothing is."""
    content = json.loads(comfy.pack("gsn.methods.preset_file").to_json(presets(comfy)[name]))
    short = shortened(content, 5)
    return "" if short == content else written(comfy, name, short)


@pytest.fixture(scope="module")
def plain_of(comfy):
    """plain_of(on): the latent without a preset, sampled once for all that run on this model."""
    return functools.cache(lambda on: comfy.run(graph(on=on), ["out"]).check()["out"]["samples"])


def lowered(comfy, name, trace, content, **more):
    """Which of a preset's actions had something to lower, and did. trace, content: of its run, which more says of what.

    A refinement ends below where it began. Guidance looks but once at a step, so it is run again alone, with a look
    after each of its updates: more guidance, by nearly nothing.
    """
    found = set()
    for stop in (one for one in trace.stops if one.iterations[0]):
        own = [r.loss[0] for r in trace.records if r.action == stop.action and r.step == stop.step]
        print(stop.action, stop.step.index, own[0], own[-1])
        assert own[-1] < own[0], f"{stop.action} at {stop.step}"
        found.add(stop.action)
    moves = [one for one in json.loads(content)["moves"] if one["do"] == "guide"]
    if moves:
        looking = [again for one in moves for again in (one, one | {"size": 1e-6})]
        _, seen, _, _ = run(comfy, name, file=written(comfy, f"{name} looking", {"moves": looking}), **more)
        before, after = ([r.loss[0] for r in seen.records[n::2]] for n in (0, 1))
        print("guide", before, after)
        assert len(before) == len(after) > 1 and sum(after) < sum(before)
        found.add("guide")
    return found


@pytest.mark.parametrize("name, on", [*ON.items(), ("Ours (SD 3.5)", "sd35_large"), ("Ours (Flux)", "chroma")])
def test_a_preset_runs_lowers_its_loss_leaves_nothing_and_repeats(comfy, plain_of, name, on):
    preset, plain = presets(comfy)[name], plain_of(on)
    session = comfy.session()
    file = shortened_file(comfy, name) if name != "paper" else ""
    latent, trace, said, content = run(session, name, on=on, file=file)
    assert torch.equal(session.run(graph(on=on), ["out"]).check()["out"]["samples"], plain)
    assert name in said and preset.source in said
    if not preset.moves:
        assert torch.equal(latent, plain)
        return
    assert not torch.equal(latent, plain) and torch.isfinite(latent).all()
    moves = [move for move in preset.moves if move.only != "attributes"]  # the prompt has none
    terms = {term.loss for move in moves if move.intervention.reads_maps for term in move.objective.terms}
    assert {loss for record in trace.records for loss in record.terms} == terms
    expected = {move.intervention.name for move in moves if move.intervention.gradients}
    assert lowered(comfy, name, trace, content, on=on) == expected, "only without gradients there is no loss to lower"
    assert torch.equal(run(comfy, name, on=on, file=file)[0], latent)


OTHERS = [
    ("SAGA (SD 3)", "demo", "names noise levels of flow models"),
    ("SAGA", "sd3", "names noise levels of SD 1.x"),
    ("Ours (SDXL)", "demo", "is for SDXL and its variants; .* Ours, Ours\\+, SAGA"),
    ("Ours (SD 3.5)", "flux_dev", "is for SD 3 and SD 3.5; .* Ours \\(SD 3\\), Ours \\(Flux\\)"),
    ("Ours (Flux)", "sdxl", "is for Flux.1, .* Ours \\(SDXL\\)"),
]


@pytest.mark.parametrize("node", ["GSNPreset", "GSNKSampler"])
@pytest.mark.parametrize("name, on, reason", OTHERS)
def test_a_preset_for_other_models_is_refused_before_sampling(comfy, name, on, reason, node):
    nodes = graph(name, on=on)
    if node == "GSNKSampler":
        del nodes["preset"]
        own = {"model": ["model", 0], "method": name, "step": 8.0, "step_unit": "auto", "iterations": 2, "lr": 0.01}
        nodes["out"] = {"class_type": node, "inputs": nodes["out"]["inputs"] | own}
    result = comfy.run(nodes, ["out"])
    assert not result.ok and not result.progress
    assert re.match(f"{node}: the preset '{re.escape(name)}' {reason}", result.error), result.error


@pytest.mark.parametrize("name", ["Ours (SDXL)", "Ours (SD 3.5)", "Ours (Flux)"])
def test_a_family_default_says_that_it_is_untested(comfy, name):
    _, _, said, text = run(comfy, name, on=ON[name])
    (numbers,) = [line for line in said.splitlines() if line.startswith("numbers: ")]
    assert "untested on real weights of" in numbers
    assert "untested on real weights of" in json.loads(text)["confidence"]


def test_divide_and_bind_binds_where_there_is_something_to_bind(comfy):
    text = "a photo of a red cat and a dog"
    _, trace, _, content = run(comfy, "Divide&Bind", text=text, file=shortened_file(comfy, "Divide&Bind"))
    assert all(list(record.terms) == ["tv_bind", "tv"] for record in trace.records)
    assert lowered(comfy, "Divide&Bind", trace, content, text=text) == {"refine", "guide"}


def test_a_preset_file_is_a_preset(comfy, plain_of, tmp_path):
    import folder_paths

    folder = tmp_path / "input"
    (folder / "mine").mkdir(parents=True)
    before = folder_paths.get_input_directory()
    folder_paths.set_input_directory(str(folder))
    try:
        content = json.loads(comfy.run(graph("paper"), [("preset", 3)]).check()["preset", 3])
        content["moves"][0]["iterations"] = 2
        (folder / "mine" / "short.json").write_text(json.dumps(content))
        other, trace, said, _ = run(comfy, "paper", file="mine/short.json")
        assert trace.stops[0].iterations == [2] and "short.json" in said and not torch.equal(other, plain_of("demo"))
        content["moves"][0]["rate"] = 1
        (folder / "mine" / "short.json").write_text(json.dumps(content))
        for file, message in (("mine/short.json", "unknown key 'rate'"), ("none.json", "it has mine/short.json"),
                              ("../none.json", "outside ComfyUI's input folder")):  # fmt: skip
            with pytest.raises(Exception, match=message):
                run(comfy, "paper", file=file)
    finally:
        folder_paths.set_input_directory(before)

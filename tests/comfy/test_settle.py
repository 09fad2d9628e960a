"""The step found online, through ComfyUI's own executor on the demo model."""

import json

import pytest
import torch

LOSS = [{"loss": "attend_excite", "weight": 0.5}, {"loss": "iou", "weight": 0.5}]


def graph(comfy, images=2, **move):
    """Without a move: ordinary sampling."""
    nodes = {
        "model": {"class_type": "GSNDemoModel", "inputs": {"which": "unet"}},
        "text": {
            "class_type": "GSNSubjects",
            "inputs": {"clip": ["model", 1], "text": "a photo of a cat and a dog", "subjects": ""},
        },
        "none": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["model", 1], "text": ""}},
        "latent": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": images}},
    }
    model = ["model", 0]
    if move:
        preset = {"moves": [{"do": "refine settled", "from": "auto", "to": "auto", "loss": LOSS, "lr": 0.06, **move}]}
        (comfy.base / "input" / "settled.json").write_text(json.dumps(preset))
        inputs = {"model": model, "preset": "plain", "file": "settled.json"}
        nodes["preset"] = {"class_type": "GSNPreset", "inputs": inputs}
        model = ["preset", 0]
    settings = {"seed": 3, "steps": 20, "cfg": 3.0, "denoise": 1.0}
    settings |= {"sampler_name": "ddpm", "scheduler": "ddim_uniform"}
    wires = {"model": model, "positive": ["text", 0], "negative": ["none", 0], "latent_image": ["latent", 0]}
    nodes["out"] = {"class_type": "KSampler", "inputs": settings | wires}
    return nodes


def refined(comfy, session=None, **move):
    result = (session or comfy).run(graph(comfy, **move), ["out", ("preset", 1)]).check()
    return result["out"]["samples"], result["preset", 1].trace


def test_every_image_is_refined_once_and_the_trace_says_where_and_why(comfy):
    session = comfy.session()
    plain = session.run(graph(comfy), ["out"]).check()["out"]["samples"]
    latent, trace = refined(comfy, session, iterations=5, level=0.12)
    at = [[stop for stop in trace.stops if stop.iterations[i]] for i in range(2)]
    for i, own in enumerate(at):
        assert len(own) == 1 and own[0].reasons[i].startswith("refined here") and own[0].iterations[i] == 5
        here = [record for record in trace.records if record.step == own[0].step]
        assert here[-1].loss[i] < here[0].loss[i]
        assert not torch.equal(latent[i], plain[i])
    earlier = [stop for stop in trace.stops if stop.step.index < at[0][0].step.index]
    assert all(stop.reasons[0].startswith("not refined here") for stop in earlier)
    again, _ = refined(comfy, iterations=5, level=0.12)
    assert torch.equal(again, latent)
    assert torch.equal(session.run(graph(comfy), ["out"]).check()["out"]["samples"], plain)


def test_off_is_exact(comfy):
    plain = comfy.run(graph(comfy), ["out"]).check()["out"]["samples"]
    off, trace = refined(comfy, iterations=0)
    assert torch.equal(off, plain) and "nothing to do" in trace.notes[0]


def test_looking_alone_changes_nothing(comfy):
    """A rate of zero: every step is looked at, and the refinement stays where it was."""
    plain = comfy.run(graph(comfy), ["out"]).check()["out"]["samples"]
    assert torch.equal(refined(comfy, iterations=2, lr=0.0)[0], plain)


@pytest.mark.parametrize(("move", "said"), [({"level": 2.0}, "level is 2"), ({"iterations": -1}, "iterations is -1")])
def test_what_cannot_work_is_refused_before_sampling(comfy, move, said):
    result = comfy.run(graph(comfy, **move), ["out"])
    assert not result.ok and result.node_type == "GSNPreset" and said in result.error


def test_one_step_is_refused_with_what_to_write(comfy):
    nodes = graph(comfy, iterations=2)
    preset = {"moves": [{"do": "refine settled", "at": "8", "loss": LOSS}]}
    (comfy.base / "input" / "settled.json").write_text(json.dumps(preset))
    result = comfy.run(nodes, ["out"])
    assert not result.ok and "'from' and 'to'" in result.error

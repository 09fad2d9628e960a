"""A prompt with one subject: losses that compare subjects do nothing with it, which is told before sampling."""

import pytest
import torch

from ..graphs import graph, refine

LEFT = {  # preset: what does nothing, what is left
    "Ours": ("the loss 'iou' does nothing", "what is lowered is 0.5 attend_excite"),
    "A-STAR": ("the loss 'segregation' does nothing", "what is lowered is retention"),
    "InitNO": ("the loss 'self_conflict' does nothing",
               "what is lowered is attend_excite + clean; the level of self_conflict counts as reached"),
    "SAGA": ("the loss 'iou' does nothing", "what is lowered is 0.5 attend_excite"),
}  # fmt: skip


class Reached(Exception):
    """The first model call of a run."""


@pytest.fixture
def stopped(comfy, monkeypatch):
    """Whatever runs is stopped where it would call the model first."""
    import comfy.samplers as host

    def call(*args, **kwargs):
        raise Reached

    monkeypatch.setattr(host, "calc_cond_batch", call)


def one(patch, text="a photo of a cat"):
    nodes = graph(patch, text=text, steps=12, sampler_name="ddpm", scheduler="ddim_uniform")
    nodes["1"] = {"class_type": "GSNDemoModel", "inputs": {"which": "unet"}}
    nodes["4"]["inputs"].update(width=64, height=64, batch_size=1)
    return nodes


@pytest.mark.parametrize("preset", LEFT)
def test_what_does_nothing_is_told_before_the_first_model_call(comfy, stopped, caplog, preset):
    result = comfy.run(one([("GSNPreset", {"preset": preset})]), ["out"])
    assert not result.ok and "Reached" in result.error_type
    (told,) = [message for message in caplog.messages if "does nothing" in message]
    idle, left = LEFT[preset]
    assert told.startswith("GSNPreset: with 1 subject (cat) " + idle) and told.endswith(left)


def test_the_trace_says_it_as_well_and_the_picture_is_that_of_the_rest(comfy):
    result = comfy.run(one([refine()]), ["out", ("p0", 1)]).check()
    (note,) = result["p0", 1].trace.notes
    assert note.startswith("SingleStepIterRef: with 1 subject (cat) the loss 'iou' does nothing")
    nodes = one([refine(loss=["l", 0])])
    nodes["l"] = {"class_type": "GSNLoss", "inputs": {"method": "attend_excite", "weight": 0.5}}
    alone = comfy.run(nodes, ["out", ("p0", 1)]).check()
    assert torch.equal(alone["out"]["samples"], result["out"]["samples"]) and not alone["p0", 1].trace.notes


def test_two_subjects_have_nothing_to_be_told(comfy, stopped, caplog):
    comfy.run(one([("GSNPreset", {"preset": "InitNO"})], "a photo of a cat and a dog"), ["out"])
    assert not [message for message in caplog.messages if "does nothing" in message]

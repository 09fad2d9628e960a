"""Blocks that call attention without the model call's options are given them while they run, and only then."""

import pytest
import torch

from ..graphs import capture
from ..probe import objective
from ..zoo_graphs import graph, refine

SILENT = ["ernie_image", "pixart_sigma", "hunyuan_dit"]


def name_in(comfy, toy):
    return vars(comfy.toy.TOYS[toy].silent)["optimized_attention"]


@pytest.mark.parametrize("memory", ["fast", "low"])
@pytest.mark.parametrize("name", SILENT)
def test_the_modules_name_is_put_back(comfy, monkeypatch, name, memory):
    before, during = name_in(comfy, name), []
    sink = comfy.pack("gsn.host.attention.capture").Collector.sink

    def noting(self, key, call):
        during.append(name_in(comfy, name))
        sink(self, key, call)

    monkeypatch.setattr(comfy.pack("gsn.host.attention.capture").Collector, "sink", noting)
    comfy.run(graph(name, [capture(memory=memory), refine(iterations=2)]), ["out"]).check()
    assert during and all(one is not before for one in during)
    assert name_in(comfy, name) is before


@pytest.mark.parametrize("name", SILENT)
def test_it_is_put_back_after_an_error(comfy, monkeypatch, name):
    before = name_in(comfy, name)

    def fails(self, key, call):
        raise RuntimeError("simulated")

    monkeypatch.setattr(comfy.pack("gsn.host.attention.capture").Collector, "sink", fails)
    assert comfy.run(graph(name, [refine()]), ["out"]).error.strip() == "simulated"
    assert name_in(comfy, name) is before


@pytest.mark.parametrize("name", SILENT)
def test_a_block_that_runs_again_gets_the_options_of_its_own_model_call(comfy, monkeypatch, name):
    """Two texts of different lengths: both model calls are over when backward runs their blocks again."""
    found = {}

    def apply(self, latent, forwards, context):
        leaf = latent.clone().requires_grad_(True)
        maps = [forward(leaf, slice(0, len(latent))).probabilities for forward in forwards]
        assert maps[0].shape != maps[1].shape
        (found[memory],) = torch.autograd.grad(objective(maps[0]) + objective(maps[1]), leaf)
        return latent

    monkeypatch.setattr(comfy.pack("gsn.interventions.refine").Refine, "apply", apply)
    for memory in ("fast", "low"):
        nodes = graph(name, [capture(memory=memory), refine()])
        nodes["2b"] = {"class_type": "ToyText", "inputs": {"name": name, "seed": 5, "chunks": 2}}
        both = {"conditioning_1": ["2", 0], "conditioning_2": ["2b", 0]}
        nodes["c"] = {"class_type": "ConditioningCombine", "inputs": both}
        nodes["out"]["inputs"]["positive"] = ["c", 0]
        comfy.run(nodes, ["out"]).check()
    assert torch.allclose(found["low"], found["fast"], rtol=1e-5, atol=1e-6)

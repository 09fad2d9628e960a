"""Offloading lends weights in buffers that the next layer overwrites; a plain backward is then silently wrong."""

import numpy as np
import pytest
import torch

from .. import zoo_graphs as zoo
from ..probe import Probe, naive, ours
from ..zoo_names import DIFFERENT


def lend(monkeypatch):
    """Every weight that ComfyUI fetches comes in one of two buffers, used in turn."""
    import comfy.ops as ops

    ordinary, buffers, turn = ops.cast_bias_weight, [np.zeros(1 << 20, np.float32) for _ in range(2)], [0]

    def cast(module, *args, **kwargs):
        weight, bias, *rest = ordinary(module, *args, **kwargs)
        turn[0] = 1 - turn[0]
        lent = buffers[turn[0]][: weight.numel()]
        lent[:] = weight.detach().flatten().numpy()  # behind autograd's back, as a copy by the driver is
        return torch.from_numpy(lent).view(weight.shape), bias, *rest

    monkeypatch.setattr(ops, "cast_bias_weight", cast)


def cast_all(model):
    for module in model.diffusion_model.modules():
        if hasattr(module, "comfy_cast_weights"):
            module.comfy_cast_weights = True


@pytest.mark.parametrize("name", DIFFERENT)
def test_lent_weights_give_the_exact_gradient(comfy, monkeypatch, name):
    def look(run, action, step):
        cast_all(step.model)
        return ours(comfy, run, action, step)

    kept = Probe(comfy, monkeypatch, look)
    comfy.run(zoo.graph(name, [zoo.refine()], steps=2), ["out"]).check()
    lend(monkeypatch)
    lent = Probe(comfy, monkeypatch, look)
    comfy.run(zoo.graph(name, [zoo.refine()], steps=2), ["out"]).check()
    assert float((lent.found[1] - kept.found[1]).norm() / kept.found[1].norm()) <= 1e-5


@pytest.mark.parametrize("name", ["sd3_both", "flux_dev"])
def test_plain_autograd_would_be_wrong(comfy, monkeypatch, name):
    """So that this file notices somebody going back to it."""

    def look(run, action, step):
        cast_all(step.model)
        return naive(comfy, comfy.toy.TOYS[name], run, step)

    kept = Probe(comfy, monkeypatch, look)
    comfy.run(zoo.graph(name, [zoo.refine()], ordinary=True, steps=2), ["out"]).check()
    lend(monkeypatch)
    lent = Probe(comfy, monkeypatch, look)
    comfy.run(zoo.graph(name, [zoo.refine()], ordinary=True, steps=2), ["out"]).check()
    assert float((lent.found[1] - kept.found[1]).norm() / kept.found[1].norm()) > 0.1

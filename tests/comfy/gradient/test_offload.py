"""Offloading lends weights in buffers that the next layer overwrites; a plain backward is then silently wrong."""

import numpy as np
import pytest
import torch

from .. import zoo_graphs as zoo
from ..covering import FULL
from ..probe import Probe, naive, ours
from ..zoo_names import DIFFERENT, NAMES


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


@pytest.mark.parametrize("name", NAMES if FULL else DIFFERENT)
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


@pytest.mark.parametrize("fails", [False, True])
def test_weights_that_a_backward_fetched_are_given_back_though_it_fails(comfy, monkeypatch, fails):
    """The retry that follows on exhausted memory needs their room."""
    import comfy.ops as ops

    frozen, out = comfy.pack("gsn.host.gradient.frozen_layers"), []
    fetch, give_back = ops.cast_bias_weight, ops.uncast_bias_weight

    def fetched(module, *args, **kwargs):
        out.append(module)
        return fetch(module, *args, **kwargs)

    def given_back(module, *args):
        out.remove(module)
        return give_back(module, *args)

    def failing(*args):
        raise torch.OutOfMemoryError("simulated")

    monkeypatch.setattr(ops, "cast_bias_weight", fetched)
    monkeypatch.setattr(ops, "uncast_bias_weight", given_back)
    if fails:
        monkeypatch.setattr(frozen, "_linear_input_gradient", failing)
    layer = ops.manual_cast.Linear(4, 3, dtype=torch.float32)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    x = torch.ones(2, 4, requires_grad=True)
    with torch.inference_mode(False), torch.enable_grad():
        y = frozen.FrozenLayer.apply(x, layer, layer.forward_comfy_cast_weights, (), {})
        if fails:
            with pytest.raises(torch.OutOfMemoryError):
                y.sum().backward()
        else:
            y.sum().backward()
            assert torch.equal(x.grad, torch.full((2, 4), 3.0))
    assert not out

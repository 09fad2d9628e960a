"""Every family, tiny instances of ComfyUI's own classes, sampled through the real executor.

Maps against a naive full softmax, gradients against plain autograd on ordinary weights and against finite
differences, the loss over ten iterations, off, batches, odd sizes, longer prompts.
"""

import pytest
import torch

from ..probe import Probe, naive, ours
from ..zoo_graphs import graph, refine
from ..zoo_names import DIFFERENT, EVEN, NAMES


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_maps_and_gradient(comfy, monkeypatch, name, chunks):
    """Maps as a full softmax gives them, the gradient as plain autograd and finite differences give it."""
    toy = comfy.toy.TOYS[name]
    plain = Probe(comfy, monkeypatch, lambda run, action, step: naive(comfy, toy, run, step))
    sampled = comfy.run(graph(name, [refine()], chunks, ordinary=True, steps=2), ["out"]).check()["out"]["samples"]
    assert name in EVEN or sampled.shape[-2:] in ((13, 19), (104, 152))  # the second of models without a VAE
    maps, gradient, words = plain.found
    probe = Probe(comfy, monkeypatch, lambda run, action, step: ours(comfy, run, action, step))
    comfy.run(graph(name, [refine()], chunks, steps=2), ["out"]).check()
    got, ours_gradient, slope = probe.found
    columns = [length for _, length in toy.streams]
    assert len(words) == len(columns) * (8 if chunks == 1 else 16)
    assert words[-1] == sum(columns) * chunks - columns[-1] + 8  # in the last chunk of the last stream
    assert got.shape == maps.shape
    assert float((got[..., words] - maps[..., words]).abs().max()) <= 1e-5
    assert float((ours_gradient - gradient).norm() / gradient.norm()) <= 1e-5
    assert slope == pytest.approx(float(gradient.norm()), rel=1e-2)


@pytest.mark.parametrize("name", DIFFERENT)
def test_recomputed_blocks_give_the_same_gradient(comfy, monkeypatch, name):
    kept = Probe(comfy, monkeypatch, lambda run, action, step: ours(comfy, run, action, step))
    comfy.run(graph(name, [refine()], steps=2), ["out"]).check()
    again = Probe(comfy, monkeypatch, lambda run, action, step: ours(comfy, run, action, step, recompute=True))
    comfy.run(graph(name, [refine()], steps=2), ["out"]).check()
    assert torch.equal(kept.found[0], again.found[0])
    assert float((kept.found[1] - again.found[1]).norm() / kept.found[1].norm()) <= 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_loss_falls_over_ten_iterations(comfy, name):
    result = comfy.run(graph(name, [refine()], steps=2), ["out", ("p0", 1)]).check()
    trace = result["p0", 1].trace
    losses = [record.loss for record in trace.records]
    assert torch.as_tensor(losses[-1]).mean() < torch.as_tensor(losses[0]).mean()
    assert torch.isfinite(result["out"]["samples"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_off_is_equal(comfy, name):
    session = comfy.session()
    plain = session.run(graph(name, steps=3), ["out"]).check()["out"]["samples"]
    off = [refine(iterations=0), refine(iterations=2, lr=0.0)]
    assert torch.equal(session.run(graph(name, off, steps=3), ["out"]).check()["out"]["samples"], plain)
    nobody = session.run(graph(name, [refine()], subjects=False, steps=3), ["out"]).check()["out"]["samples"]
    assert torch.equal(nobody, plain)
    changed = session.run(graph(name, [refine(iterations=2, lr=0.1)], steps=3), ["out"]).check()["out"]["samples"]
    assert not torch.equal(changed, plain)


def test_every_toy_is_tested(comfy):
    assert set(NAMES) == set(comfy.toy.TOYS)

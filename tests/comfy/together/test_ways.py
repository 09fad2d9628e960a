"""Other ways to condition: the refinement works with each, and off is exact."""

import pytest
import torch

from ..graphs import memory_runs_out_once, refine, samples
from .chain import OFF, REFINE, checked, graph, positive, prompt
from .ways import (
    CONDITIONED,
    controlnet_with_a_hint_per_image,
    gligen,
    t2i_adapter,
    t2i_adapter_with_a_hint_per_image,
    two_prompts_with_subjects,
    two_time_ranges_with_subjects,
)


@pytest.mark.parametrize(("way", "family"), CONDITIONED, ids=lambda one: getattr(one, "__name__", one))
def test_a_way_to_condition(comfy, way, family):
    session = comfy.session()

    def base(ours=()):
        return graph(list(ours), family=family)

    def picture(ours=()):
        return samples(session.run(way(base(ours)), ["out"]))

    plain = picture()
    assert not torch.equal(plain, samples(session.run(base(), ["out"]))), "the addition itself does nothing"
    assert torch.equal(picture([refine(step=0, iterations=2, lr=0.0), *OFF]), plain)
    checked(session, way(base([REFINE])), plain)
    assert torch.equal(picture(), plain), "something stayed behind"


@pytest.mark.parametrize(
    "way", [t2i_adapter, t2i_adapter_with_a_hint_per_image, controlnet_with_a_hint_per_image, gligen],
    ids=lambda way: way.__name__,
)  # fmt: skip
def test_the_loss_is_that_of_the_model_with_the_adapter(comfy, way):
    with_it, without = (
        comfy.run(one(graph([refine(step=0, iterations=1)])), ["out", ("p0", 1)]).check()
        for one in (way, lambda nodes: nodes)
    )
    losses = [result["p0", 1].trace.records[0].loss for result in (with_it, without)]
    assert all(abs(a - b) > 1e-6 for a, b in zip(*losses, strict=True))


def test_both_prompts_of_a_combination_count(comfy):
    result = comfy.run(two_prompts_with_subjects(graph([REFINE])), ["out", ("p0", 1)]).check()
    assert result["p0", 1].trace.labels == ("cat", "dog", "frog", "bench")
    alone = comfy.run(graph([REFINE]), ["out", ("p0", 1)]).check()
    pairs = zip(result["p0", 1].trace.records[0].loss, alone["p0", 1].trace.records[0].loss, strict=True)
    assert all(both > one for both, one in pairs)


@pytest.mark.parametrize("swapped", [False, True])
def test_the_range_that_holds_the_step_is_the_one_refined(comfy, swapped):
    """At the first step, whose latent is the noise: the loss of the early prompt alone."""

    def loss(nodes):
        return comfy.run(nodes, ["out", ("p0", 1)]).check()["p0", 1].trace.records[0].loss

    nodes = two_time_ranges_with_subjects(graph([refine(step=0, iterations=1)]))
    alone = graph([refine(step=0, iterations=1)])
    if swapped:
        nodes["y0"]["inputs"]["conditioning"], nodes["y1"]["inputs"]["conditioning"] = ["2b", 0], ["2", 0]
        positive(alone, prompt(alone, "2b", "a frog on a bench", "frog, bench"))
    assert loss(nodes) == loss(alone)


@pytest.mark.parametrize(
    "way", [t2i_adapter_with_a_hint_per_image, controlnet_with_a_hint_per_image], ids=lambda way: way.__name__
)
def test_one_image_at_a_time_each_keeps_its_own_hint(comfy, monkeypatch, way):
    """After memory ran out once: the same refinement, and the hints are as they were for the rest of the run."""
    nodes = way(graph([refine(step=0, iterations=2)]))
    together = samples(comfy.run(nodes, ["out"]))
    with memory_runs_out_once(monkeypatch) as failed:
        alone = samples(comfy.run(nodes, ["out"]))
    assert failed and float((alone - together).norm() / together.norm()) <= 1e-4


def test_layers_that_a_patch_brings_may_be_offloaded(comfy, monkeypatch):
    """Their weights lie in a buffer that the next layer overwrites; plain autograd would be silently wrong."""
    import comfy.ops as ops

    nodes = gligen(graph([REFINE]))
    wanted = samples(comfy.run(nodes, ["out"]))
    ordinary, scratch, lent = ops.cast_bias_weight, torch.zeros(1 << 16), []

    def cast(module, *args, **kwargs):
        weight, *rest = ordinary(module, *args, **kwargs)
        if not isinstance(module, torch.nn.Linear) or weight.numel() > len(scratch):
            return weight, *rest
        lent.append(torch.is_grad_enabled())
        return scratch[: weight.numel()].view(weight.shape).copy_(weight), *rest

    monkeypatch.setattr(ops, "cast_bias_weight", cast)
    assert torch.allclose(samples(comfy.run(nodes, ["out"])), wanted, rtol=1e-5, atol=1e-5)
    assert lent and not any(lent)

"""Every family, tiny instances of ComfyUI's own classes, sampled through the real executor.

Maps against a naive full softmax, gradients against plain autograd on ordinary weights and against finite
differences, long and short texts, blocks kept and recomputed; and how the picture attends to itself.
"""

from types import SimpleNamespace

import pytest
import torch

from ..covering import FULL, cases, joined
from ..probe import Probe, grid_of, objective, ours, own_forward, plain_pass, words_of
from ..self_rows import SELF, agree, functional, naive_rows, rows
from ..zoo_graphs import graph, refine
from ..zoo_names import DIFFERENT, EVEN, NAMES

CASES = cases(NAMES, (1, 2, 3) if FULL else (1, 3), ("fast", "low"))


def sampled(comfy, name, chunks, look, **options):
    """What `look` finds in one model call of a run, and the run's latent."""
    with pytest.MonkeyPatch.context() as patch:
        probe = Probe(comfy, patch, look)
        result = comfy.run(graph(name, [refine()], chunks, steps=2, **options), ["out"]).check()
    return probe.found, result["out"]["samples"]


@pytest.fixture(scope="module", params=CASES, ids=joined)
def case(request, comfy):
    """One family: by the pack, and by plain autograd through the whole model on ordinary weights."""
    name, chunks, memory = request.param
    comfy.has(name)
    toy = comfy.toy.TOYS[name]

    def own(run, action, step):
        found = SimpleNamespace()
        found.maps, found.gradient, found.slope = ours(comfy, run, action, step, recompute=memory == "low")
        with own_forward(comfy, run, step, SELF, recompute=memory == "low") as forward:
            leaf = step.x.detach().clone().requires_grad_(True)
            seen = rows(forward(leaf, slice(0, leaf.shape[0])), grid_of(toy, step))
            found.rows = seen.detach(), torch.autograd.grad(functional(seen), leaf)[0]
        return found

    def plain(run, action, step):
        found = SimpleNamespace(words=list(words_of(run)))
        with plain_pass(comfy, toy, run, step) as (leaf, chosen, fine):
            maps = (sum(one.text for one in chosen) / len(chosen)).unflatten(1, grid_of(toy, step))
            found.maps = maps.detach()
            (found.gradient,) = torch.autograd.grad(objective(maps, found.words), leaf, retain_graph=True)
            seen = naive_rows(run, chosen, fine, grid_of(toy, step))
            found.rows = seen.detach(), torch.autograd.grad(functional(seen), leaf)[0]
        return found

    naive, latent = sampled(comfy, name, chunks, plain, ordinary=True)
    found, _ = sampled(comfy, name, chunks, own)
    return SimpleNamespace(name=name, chunks=chunks, toy=toy, ours=found, naive=naive, latent=latent)


def test_maps_and_gradient(case):
    """Maps as a full softmax gives them, the gradient as plain autograd and finite differences give it."""
    ours, naive, words = case.ours, case.naive, case.naive.words
    assert case.name in EVEN or case.latent.shape[-2:] in ((13, 19), (104, 152))  # the second of models without a VAE
    columns = [length for _, length in case.toy.streams]
    assert len(words) == len(columns) * (8 if case.chunks == 1 else 16)
    assert words[-1] == sum(columns) * case.chunks - columns[-1] + 8  # in the last chunk of the last stream
    assert ours.maps.shape == naive.maps.shape
    assert float((ours.maps[..., words] - naive.maps[..., words]).abs().max()) <= 1e-5
    assert float((ours.gradient - naive.gradient).norm() / naive.gradient.norm()) <= 1e-5
    assert ours.slope == pytest.approx(float(naive.gradient.norm()), rel=1e-2)


def test_self_rows(case):
    assert torch.allclose(case.ours.rows[0].sum((-1, -2)), torch.ones(2, 5))
    agree(case.ours.rows, case.naive.rows)


@pytest.mark.parametrize("name", NAMES if FULL else DIFFERENT)
def test_recomputed_blocks_give_the_same_gradient(comfy, name):
    def both(run, action, step):
        return [ours(comfy, run, action, step, recompute) for recompute in (False, True)]

    (kept, again), _ = sampled(comfy, name, 1, both)
    assert torch.equal(kept[0], again[0])
    assert float((kept[1] - again[1]).norm() / kept[1].norm()) <= 1e-6

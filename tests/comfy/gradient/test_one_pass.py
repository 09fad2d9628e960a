"""What one gradient pass runs and forms, in every kind of model: nothing behind what is read, nothing of N x N."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..probe import Probe, grid_of, objective, own_forward, words_of
from ..zoo_graphs import graph, refine
from ..zoo_names import DIFFERENT, UNETS


class Seen(Exception):
    """Ends a run: what it was for has been looked at."""


def look_at(comfy, monkeypatch, nodes, look):
    """What look(run, step) finds at a run's first step, before its first model call."""

    def first(run, action, step):
        found.append(look(run, step))
        raise Seen

    found = []
    Probe(comfy, monkeypatch, first)
    result = comfy.run(nodes, ["out"])
    assert result.error_type.endswith("Seen"), result.traceback
    return found[0]


def chosen(comfy, run, step, blocks):
    """The layers that AttentionCapture reads in these blocks."""
    layers, plan, language = (
        comfy.pack(f"gsn.{name}") for name in ("host.attention.layers", "methods.plan", "attention.block_ranges")
    )
    spec = plan.CaptureSpec(blocks=language.parse_blocks(blocks))
    return layers.choose_layers(run.reading.family, step.model, spec, run.facts.preset)


def blocks_that_run(comfy, run, step, layers):
    """Numbers of the model's blocks, in the order in which they run, in a pass that reads these layers."""
    ran = []
    hooks = [
        block.module.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
        for number, block in enumerate(run.reading.family.blocks(step.model))
    ]
    try:
        with own_forward(comfy, replace(run, reading=replace(run.reading, layers=layers)), step) as forward:
            leaf = step.x.detach().clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(objective(forward(leaf, slice(0, len(leaf))).probabilities), leaf)
            assert gradient.isfinite().all() and gradient.any()
    finally:
        for hook in hooks:
            hook.remove()
    return ran


@pytest.mark.parametrize("name", DIFFERENT)
def test_it_ends_in_the_last_block_that_is_read(comfy, monkeypatch, name):
    def look(run, step):
        offered = run.reading.offered
        first = chosen(comfy, run, step, f"{offered[0].part}{offered[0].number}".removeprefix("block"))
        blocks = run.reading.family.blocks(step.model)
        for layers in (first, run.reading.layers):
            last = max(number for number, one in enumerate(blocks) if one.key == layers[-1].key[: len(one.key)])
            assert blocks_that_run(comfy, run, step, layers) == list(range(last + 1))
            ends.append(last)
        return len(blocks)

    ends = []
    total = look_at(comfy, monkeypatch, graph(name, [refine(step=0)], batch=1, steps=1), look)
    assert ends[0] < ends[1] < total


class Largest(TorchDispatchMode):
    """The largest tensor that any operation gives, forwards and backwards."""

    def __init__(self):
        super().__init__()
        self.numbers, self.shape = 0, ()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, torch.Tensor) and one.numel() > self.numbers:
                self.numbers, self.shape = one.numel(), tuple(one.shape)
        return out


@pytest.mark.parametrize("name", [name for name in DIFFERENT if name not in UNETS])
def test_no_matrix_of_all_pairs_is_formed(comfy, monkeypatch, name):
    """Of 32 x 32 cells, heads averaged or not; two rows of self-attention are asked for as well."""

    def look(run, step):
        assert grid_of(toy, step) == [32, 32]
        with own_forward(comfy, run, step, frozenset({"self_rows"})) as forward, Largest() as largest:
            leaf = step.x.detach().clone().requires_grad_(True)
            maps = forward(leaf, slice(0, 1))
            rows = maps.self_rows(torch.tensor([[0, 500]]))
            torch.autograd.grad(objective(maps.probabilities, words_of(run)) + objective(rows), leaf)
        return largest

    nodes = graph(name, [refine(step=0)], batch=1, steps=1)
    toy = comfy.toy.TOYS[name]
    pixels = 32 * toy.patch * toy.base.latent_format.spacial_downscale_ratio
    nodes["4"]["inputs"].update(width=pixels, height=pixels)
    largest = look_at(comfy, monkeypatch, nodes, look)
    assert largest.numbers < (32 * 32) ** 2, largest.shape

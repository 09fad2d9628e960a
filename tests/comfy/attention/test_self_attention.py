"""Finer text attention, and how the picture attends to itself where that is not plain: against a naive full softmax."""

import math
import re

import pytest
import torch

from ..graphs import capture
from ..probe import Probe, grid_of, own_forward, plain_pass
from ..self_rows import SELF, agree, cells_of, functional
from ..zoo_graphs import graph, refine

FINE = frozenset({"fine"})


def compared(comfy, monkeypatch, name, needs, look, expected, patch=(), **options):
    """(ours, naive): each maps and gradient, of runs of the same toy."""
    toy = comfy.toy.TOYS[name]

    def own(run, action, step):
        with own_forward(comfy, run, step, needs, **options) as forward:
            leaf = step.x.detach().clone().requires_grad_(True)
            maps = look(forward(leaf, slice(0, leaf.shape[0])), grid_of(toy, step))
            return maps.detach(), torch.autograd.grad(functional(maps), leaf)[0]

    def plain(run, action, step):
        with plain_pass(comfy, toy, run, step) as (leaf, chosen, fine):
            maps = expected(run, chosen, fine, grid_of(toy, step))
            return maps.detach(), torch.autograd.grad(functional(maps), leaf)[0]

    results = []
    for look_at, ordinary in ((own, False), (plain, True)):
        probe = Probe(comfy, monkeypatch, look_at)
        comfy.run(graph(name, [*patch, refine()], ordinary=ordinary, steps=2), ["out"]).check()
        results.append(probe.found)
    return results


WORDS = slice(1, 9)


def fine(attention, grid):
    assert tuple(attention.probabilities.shape[1:3]) == tuple(grid)
    return attention.fine[..., WORDS]


def naive_fine(run, chosen, finer, grid):
    """Of every finer layer, for each cell of the grid the nearest above and to the left of it."""
    if not finer:
        return (sum(one.text for one in chosen) / len(chosen)).unflatten(1, grid)[..., WORDS]
    height, width = run.facts.noise.shape[-2:]
    total = 0
    for one, layer in zip(finer, run.reading.fine, strict=True):
        h, w = (math.ceil(n * layer.ratio) for n in (height, width))
        cells = [(y * h // grid[0]) * w + x * w // grid[1] for y in range(grid[0]) for x in range(grid[1])]
        total = total + one.text[:, cells].unflatten(1, grid)[..., WORDS]
    return total / len(finer)


@pytest.mark.parametrize("recompute", [False, True], ids=["fast", "low"])
@pytest.mark.parametrize("name", ["sd15", "sdxl", "koala_700m", "sd3_both", "pixart_sigma"])
def test_fine_maps(comfy, monkeypatch, name, recompute):
    sizes = []

    def expected(run, chosen, finer, grid):
        sizes.extend({one.text.shape[1] for one in finer})
        return naive_fine(run, chosen, finer, grid)

    agree(*compared(comfy, monkeypatch, name, FINE, fine, expected, recompute=recompute))
    assert sorted(sizes) == {"sd15": [70, 247], "sdxl": [70], "koala_700m": [70]}.get(name, [])


def test_cells_of_another_resolution_are_found_and_stretched(comfy, monkeypatch):
    """Blocks of 4 x 5 and of 7 x 10 cells in one reading."""
    blocks = capture(blocks="input7,input4", resolution="auto")

    def expected(run, chosen, finer, grid):
        coarse, fine = sorted((one.image for one in chosen), key=lambda one: one.shape[1])
        index = cells_of((7, 10))
        y, x = index // 10, index % 10
        below = (y * 4 // 7) * 5 + x * 5 // 10
        rough = coarse.gather(1, below[..., None].expand(-1, -1, 20)).unflatten(2, (4, 5))
        rough = torch.nn.functional.interpolate(rough, (7, 10), mode="bilinear")
        exact = fine.gather(1, index[..., None].expand(-1, -1, 70)).unflatten(2, (7, 10))
        return (rough / rough.sum((-1, -2), keepdim=True) + exact) / 2

    def look(attention, grid):
        return attention.self_rows(cells_of((7, 10)))

    agree(*compared(comfy, monkeypatch, "sd15", SELF, look, expected, patch=[blocks]))


def test_text_as_long_as_the_picture_is_not_taken_for_it(comfy, monkeypatch):
    """PixArt: 20 x 14 cells, and 280 tokens."""

    def look(run, action, step):
        with own_forward(comfy, run, step, SELF) as forward, torch.no_grad():
            attention = forward(step.x.detach().clone(), slice(0, 2))
            calls = attention.self_rows.args[0]
            return attention.probabilities.shape, [call.k.shape[2] for call in calls], calls

    probe = Probe(comfy, monkeypatch, look)
    comfy.run(graph("pixart_sigma", [refine()], chunks=14, steps=2), ["out"]).check()
    shape, keys, calls = probe.found
    assert shape[1] * shape[2] == shape[3] == 280
    assert keys == [280] * comfy.toy.TOYS["pixart_sigma"].calls


def test_blocks_that_look_at_the_text_twice(comfy, monkeypatch):
    """SDXS 0.9: at full size the picture never meets itself; the rows are those of the other blocks."""
    blocks = capture(blocks="input1,input5", resolution="auto")

    def expected(run, chosen, finer, grid):
        assert [one.image.isnan().any() for one in chosen] == [True, False]
        found = chosen[1].image.gather(1, cells_of((4, 5))[..., None].expand(-1, -1, 20)).unflatten(2, (4, 5))
        found = torch.nn.functional.interpolate(found, (13, 19), mode="bilinear")
        return found / found.sum((-1, -2), keepdim=True)

    def look(attention, grid):
        y, x = cells_of((4, 5)) // 5, cells_of((4, 5)) % 5
        return attention.self_rows(-(-y * 13 // 4) * 19 + -(-x * 19 // 5))

    agree(*compared(comfy, monkeypatch, "sd_xs_09", SELF, look, expected, patch=[blocks]))


def test_a_choice_of_blocks_in_which_the_picture_never_meets_itself(comfy):
    loss = {"1l": {"class_type": "GSNLoss", "inputs": {"method": "self_cross", "weight": 1.0}}}
    nodes = graph("sd_xs_09", [capture(blocks="input1", resolution="auto"), refine(loss=["1l", 0])]) | loss
    result = comfy.run(nodes, ["out"])
    assert not result.ok and not result.progress
    wanted = "SingleStepIterRef: .* how the picture attends to itself, and in input1 .*: input3, input5, output0"
    assert re.match(wanted, result.error), result.error


@pytest.mark.parametrize("form", ["K", "NK", "BNK", "BHNK"])
@pytest.mark.parametrize("boolean", [True, False])
def test_masks_of_every_form(comfy, form, boolean):
    """ComfyUI's models pass them with and without rows, images and heads; the picture is keys 3 to 22."""
    sizes = {"B": 2, "H": 3, "N": 24, "K": 24}
    torch.manual_seed(0)
    q, k = torch.randn(2, 2, 3, 24, 8)
    mask = torch.randn([sizes[one] for one in form])
    mask = mask > -1 if boolean else mask
    full = q @ k.transpose(-1, -2) * 0.4
    spread = mask[:, None] if form == "BNK" else mask
    full = (full.masked_fill(~spread, -torch.inf) if boolean else full + spread).softmax(-1).mean(1)[:, 3:23, 3:23]
    image = slice(3, 23)
    joint, capturing = comfy.pack("gsn.host.families.joint"), comfy.pack("gsn.host.attention.capture")
    own = joint._rows_of_mask(mask, image)
    call = joint.ImageAttention(q[:, :, image], k, image, (4, 5), 0.4, own)
    cells = torch.tensor([[0, 19, 7], [7, 7, 1]])
    found = capturing._self_rows((call,), (4, 5), cells)
    wanted = full.gather(1, cells[..., None].expand(-1, -1, 20)).unflatten(2, (4, 5))
    assert torch.allclose(found, wanted / wanted.sum((-1, -2), keepdim=True), atol=1e-6)

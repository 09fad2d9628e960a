"""The presets of one family against a loop written from the formulas, on ordinary weights with plain autograd."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ..probe import Probe, grid_of, plain_pass
from ..zoo_graphs import graph

ITERATIONS, RATE, EPS = 6, 0.01, 1e-3
CAT, DOG = 3, 6  # columns of every stream of a ToyText, whose words are columns 1 to 8


def loss_of(attention, grid, streams):
    """[B]: half Attend-and-Excite, half IoU, of [B, N, T]; words alone compete, streams are averaged, 3x3 blur."""
    taps = torch.tensor([0.2119416, 0.5761169, 0.2119416])
    kernel = (taps[:, None] * taps)[None, None]
    maps = []
    for column in (CAT, DOG):
        found = [(100 * attention[..., at + 1 : at + 9]).softmax(-1)[..., column - 1] for at in streams]
        maps.append((sum(found) / len(found)).unflatten(1, grid)[:, None])
    cat, dog = (F.conv2d(F.pad(one, (1, 1, 1, 1), "reflect"), kernel) for one in maps)
    excite = torch.maximum(1 - cat.amax((1, 2, 3)), 1 - dog.amax((1, 2, 3)))
    return 0.5 * excite + 0.5 * torch.minimum(cat, dog).sum((1, 2, 3)) / (cat + dog).sum((1, 2, 3))


def by_hand(comfy, toy, run, step):
    """Losses and shifts of Adam's first updates, with eps 1e-3 and in VP scale: [(loss [B], rms [B])]."""
    streams = [stream.offset for stream in run.facts.entries[0][1].streams]
    z0 = z = step.x.clone() * step.scale
    first = second = torch.zeros_like(z)
    found = []
    for update in range(1, ITERATIONS + 1):
        with plain_pass(comfy, toy, run, replace(step, x=z / step.scale)) as (leaf, chosen, _):
            loss = loss_of(sum(one.text for one in chosen) / len(chosen), grid_of(toy, step), streams)
            g = torch.autograd.grad(loss.sum(), leaf)[0] / step.scale
        found.append((loss.detach(), (z - z0).square().mean((1, 2, 3)).sqrt()))
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
        z = z - RATE * (first / (1 - 0.9**update)) / ((second / (1 - 0.999**update)).sqrt() + EPS)
    return found


@pytest.mark.parametrize(
    "preset, name",
    [("Ours (SDXL)", "sdxl"), ("Ours (SD 3.5)", "sd35_medium"), ("Ours (SD 3.5)", "sd35_large"),
     ("Ours (Flux)", "flux_dev")],
)  # fmt: skip
def test_it_is_the_papers_loop_at_its_own_noise_level(comfy, monkeypatch, preset, name):
    patch = [("GSNPreset", {"preset": preset})]
    trace = comfy.run(graph(name, patch), ["out", ("p0", 1)]).check()["p0", 1].trace
    toy = comfy.toy.TOYS[name]
    plain = Probe(comfy, monkeypatch, lambda run, action, step: by_hand(comfy, toy, run, step))
    comfy.run(graph(name, patch, ordinary=True), ["out"]).check()
    assert len(trace.records) == 51 and {record.step for record in trace.records} == {trace.records[0].step}
    for record, (loss, moved) in zip(trace.records, plain.found, strict=False):
        assert torch.tensor(record.loss) == pytest.approx(loss, rel=1e-4)
        assert torch.tensor(record.update_rms) == pytest.approx(moved, rel=1e-3, abs=1e-7)
    assert min(plain.found[-1][1]) > 1e-4

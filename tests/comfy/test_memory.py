"""Less memory for more time: the same result, less kept, chosen by what is free."""

from contextlib import contextmanager

import pytest
import torch

from . import test_families as zoo
from .graphs import capture, graph, refine, samples


@pytest.mark.parametrize("batch", [1, 2])
def test_low_gives_the_same_picture(comfy, batch):
    def run(memory):
        nodes = graph([capture(memory=memory), refine()])
        nodes["4"]["inputs"]["batch_size"] = batch
        return samples(comfy.run(nodes, ["out"]))

    assert torch.allclose(run("low"), run("fast"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["sd15", "flux_dev", "sd35_medium"])
def test_low_keeps_less(comfy, monkeypatch, name):
    """Values saved for backward while the forward runs."""
    kept = {}
    forward = comfy.pack("gsn.host.forward").EntryForward
    call = forward.__call__

    def counted(self, latent, rows):
        found = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: found.append(t.numel()) or t, lambda t: t):
            maps = call(self, latent, rows)
        if latent.requires_grad:
            kept[memory] = sum(found)
        return maps

    monkeypatch.setattr(forward, "__call__", counted)
    for memory in ("fast", "low"):
        patch = [capture(memory=memory), refine()]
        nodes = graph(patch) if name == "sd15" else zoo.graph(name, [patch[0], zoo.refine(iterations=2)])
        comfy.run(nodes, ["out"]).check()
    assert kept["low"] < 0.7 * kept["fast"]


def test_auto_recomputes_where_the_estimate_exceeds_what_is_free(comfy, monkeypatch):
    import comfy.model_management as mm

    memory, presets = comfy.pack("gsn.host.memory"), comfy.pack("gsn.presets")
    model = comfy.model("sd15").model
    arguments = ("auto", presets.MODEL_PRESETS["sd1"], model, (1, 4, 64, 64), torch.device("cpu"))
    needed = memory.needed(*arguments[1:4], recompute=False)
    monkeypatch.setattr(mm, "get_free_memory", lambda device: needed * 2)
    assert not memory.has_to_recompute(*arguments)
    monkeypatch.setattr(mm, "get_free_memory", lambda device: needed)
    assert memory.has_to_recompute(*arguments)
    assert not memory.has_to_recompute("fast", *arguments[1:])


def test_comfyui_is_asked_for_the_room_a_gradient_needs(comfy, monkeypatch):
    import comfy.model_management as mm

    asked = []
    load = mm.load_models_gpu

    def noted(models, memory_required=0, **kwargs):
        asked.append(memory_required)
        return load(models, memory_required=memory_required, **kwargs)

    monkeypatch.setattr(mm, "load_models_gpu", noted)
    monkeypatch.setattr(comfy.pack("gsn.host.memory"), "needed", lambda *args, **kwargs: 10**12)
    comfy.run(graph(), ["out"]).check()
    plain = max(asked)
    asked.clear()
    comfy.run(graph([refine()]), ["out"]).check()
    assert max(asked) >= 10**12 > plain


def test_out_of_memory_turns_recomputation_on(comfy, monkeypatch):
    run = comfy.pack("gsn.host.run")
    positions, failed, walking = [], [], run.walking

    @contextmanager
    def noted(*args):
        with walking(*args) as position:
            positions.append(position)
            yield position

    monkeypatch.setattr(run, "walking", noted)
    grad = torch.autograd.grad

    def failing(*args, **kwargs):
        if not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("simulated")
        return grad(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", failing)
        comfy.run(graph([refine()]), ["out"]).check()
    assert positions[0].recompute

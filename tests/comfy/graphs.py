"""API-format prompts that the tests share, and what several ask of them."""

from contextlib import contextmanager
from functools import partial

import torch


def graph(patch=None, subjects="", text="a photo of a cat and a dog", family="sd_xs", **sampler):
    """Model 1, positive 2, negative 3, latent 4, `patch` nodes by id, KSampler "out" on the last patch.

    Of the SD 1.x kind a UNet of few blocks, which takes a third of the time of `sd15_graph`'s.
    """
    nodes = {
        "1": {"class_type": "ToyModel", "inputs": {"family": family, "seed": 0}},
        "2": {"class_type": "GSNSubjects", "inputs": {"clip": ["1", 1], "text": text, "subjects": subjects}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 104, "batch_size": 2}},
    }
    model = ["1", 0]
    for number, (kind, inputs) in enumerate(patch or []):
        nodes[f"p{number}"] = {"class_type": kind, "inputs": {"model": model, **inputs}}
        model = [f"p{number}", 0]
    settings = {"seed": 1, "steps": 6, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    wires = {"model": model, "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    nodes["out"] = {"class_type": "KSampler", "inputs": settings | wires | sampler}
    return nodes


sd15_graph = partial(graph, family="sd15")  # for adapters made for its blocks, and tests that name them


def refine(**inputs):
    return ("SingleStepIterRef", {"step": 2, "step_unit": "index", "iterations": 3, "lr": 0.05} | inputs)


def guide(**inputs):
    settings = {"step_size": 20.0, "schedule": "sqrt", "first_step": 3, "last_step": 4, "step_unit": "index"}
    return ("GSNGuidance", settings | inputs)


def capture(**inputs):
    settings = {"blocks": "auto", "resolution": "auto", "columns": "auto", "record_steps": ""}
    return ("AttentionCapture", settings | inputs)


def samples(result):
    return result.check()["out"]["samples"]


def left_half_only(nodes, width, height):
    """A mask of the latent's picture size: only the left half may change."""
    nodes["w"] = {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": width, "height": height}}
    nodes["h"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": width // 2, "height": height}}
    both = {"destination": ["w", 0], "source": ["h", 0], "x": 0, "y": 0, "operation": "add"}
    nodes["m"] = {"class_type": "MaskComposite", "inputs": both}
    nodes["n"] = {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["4", 0], "mask": ["m", 0]}}
    nodes["out"]["inputs"]["latent_image"] = ["n", 0]
    return nodes


def interrupt_leaves_nothing(comfy, monkeypatch, patched, plain):
    """Interrupted in its third evaluation `patched` ends there, and the same session then gives `plain` as ever."""
    wanted = samples(comfy.run(plain, ["out"]))
    forward, evaluations = comfy.pack("gsn.host.attention.forward").EntryForward, []
    call = forward.__call__

    def interrupted(*args):
        evaluations.append(1)
        if len(evaluations) == 3:
            comfy.interrupt()
        return call(*args)

    session = comfy.session()
    with monkeypatch.context() as change:
        change.setattr(forward, "__call__", interrupted)
        result = session.run(patched, ["out"])
    assert result.error_type == "interrupted" and len(evaluations) == 3
    assert torch.equal(samples(session.run(plain, ["out"])), wanted)


@contextmanager
def memory_runs_out_once(monkeypatch):
    """Inside, the first gradient finds no memory. Yields a list that then has an entry."""
    grad, failed = torch.autograd.grad, []

    def failing(*args, **kwargs):
        if not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("simulated")
        return grad(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", failing)
        yield failed

"""The shipped model: it loads, draws, answers to the method, and says what it cannot draw."""

import contextlib

import numpy as np
import pytest
import torch

from gsn.metrics.demo_detector import DemoDetector  # pure: no class of it is compared with the pack's own

from ..conftest import ROOT
from ..graphs import graph

SAMPLING = {
    "unet": {"steps": 20, "sampler_name": "ddpm", "scheduler": "ddim_uniform"},
    "mmdit": {"steps": 28, "sampler_name": "euler", "scheduler": "simple", "cfg": 3.0},
}


def demo(text="a photo of a cat and a carrot", batch=2, which="unet", **refinement):
    """The shared graph on a demo model, decoded."""
    settings = {"step": 0, "step_unit": "auto", "iterations": 50, "lr": 0.05} | refinement
    patch = [("SingleStepIterRef", settings)] if refinement else []
    nodes = graph(patch, text=text, seed=0, **SAMPLING[which])
    nodes["1"] = {"class_type": "GSNDemoModel", "inputs": {"which": which}}
    nodes["4"]["inputs"].update(width=128, height=128, batch_size=batch)
    nodes["image"] = {"class_type": "VAEDecode", "inputs": {"samples": ["out", 0], "vae": ["1", 2]}}
    return nodes


def encode_only(text):
    """A run that only encodes `text`, with no subject to look for."""
    return {
        "1": {"class_type": "GSNDemoModel", "inputs": {"which": "unet"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": text}},
    }


def notes(result):
    return [data["text"] for event, data in result.messages if event == "progress_text"]


@pytest.mark.parametrize(("which", "noun"), [("unet", "cat"), ("unet", "banana"), ("mmdit", "cat")])
def test_the_stock_graph_draws_what_one_word_names(comfy, which, noun):
    picture = comfy.run(demo(f"a photo of a {noun}", batch=4, which=which), ["image"]).check()["image"]
    assert picture.shape == (4, 128, 128, 3) and 0.5 < float(picture.mean()) < 0.95
    judge = DemoDetector(ROOT / "demo" / "gsn_demo_detector.safetensors")
    found = judge.detect(picture)[:, judge.nouns.index(noun)] >= judge.threshold
    assert int(found.sum()) >= 3


@pytest.mark.parametrize(("which", "preset", "near"), [("unet", "demo", 0.3), ("mmdit", "demo mmdit", 0.02)])
def test_the_refinement_lowers_the_loss_at_the_noise_level_of_its_preset(comfy, which, preset, near):
    result = comfy.run(demo(which=which, iterations=20), ["out", ("p0", 1)]).check()
    trace = result["p0", 1].trace
    (action,) = {record.action for record in trace.records}
    losses = np.array([record.loss for record in trace.records])
    assert (losses[-1] < 0.8 * losses[0]).all(), action
    wanted = comfy.pack("gsn.methods.model_presets").MODEL_PRESETS[preset].refine_sigma
    assert trace.records[0].step.sigma == pytest.approx(wanted, rel=near)  # the nearest step of the schedule


def test_words_it_never_read_are_told_with_the_nouns_it_knows(comfy):
    (note,) = notes(comfy.run(encode_only("a photo of a lighthouse and a cat"), ["2"]).check())
    assert "lighthouse" in note and "elephant" in note and "photo" not in note.split(".")[0]
    assert not notes(comfy.run(encode_only("a photo of a zebra and a cat"), ["2"]).check())


def test_finite_differences_confirm_the_gradient_of_the_papers_loss(comfy):
    import comfy.model_management as mm

    result = comfy.run(demo(), [("1", 0), ("2", 0)]).check()
    model, ((text, about),) = result["1", 0], result["2", 0]
    subjects = about[comfy.pack("gsn.text.subjects").SUBJECTS_KEY]
    presets, family = comfy.pack("gsn.methods.model_presets"), comfy.pack("gsn.host.families.unet").UNET
    capture, loss = comfy.pack("gsn.host.attention.capture"), comfy.pack("gsn.losses.objective").PAPER
    chosen, done = comfy.pack("gsn.host.attention.layers"), comfy.pack("gsn.host.attention.early_exit").CaptureDone
    preset = presets.MODEL_PRESETS["demo"]
    layers = chosen.choose_layers(family, model.model, comfy.pack("gsn.methods.plan").CaptureSpec(), preset)
    mm.load_models_gpu([model])

    def total(x):
        collector, options = capture.Collector(layers), {}
        family.attach(options, collector.sink, comfy.pack("gsn.host.families").Position(), 77)
        with contextlib.suppress(done):
            model.model.apply_model(x, torch.tensor([preset.refine_sigma]), c_crossattn=text.clone(), **options)
        return loss.evaluate(collector.maps(), subjects, preset.processing("auto", "average")).total.sum()

    start = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)) * preset.refine_sigma
    with torch.inference_mode(), comfy.pack("gsn.host.gradient.differentiable").differentiable(model.model, "test"):
        leaf = start.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(total(leaf), leaf)
        direction = gradient / gradient.norm()

        def slope(h):
            with torch.no_grad():
                return float(total(start + h * direction) - total(start - h * direction)) / (2 * h)

        slopes = [slope(h) for h in (0.02, 0.01)]
    measured = (4 * slopes[1] - slopes[0]) / 3  # Richardson
    print(f"finite difference {measured:.6f}, gradient {float(gradient.norm()):.6f}")
    assert measured == pytest.approx(float(gradient.norm()), rel=1e-3)

"""What a smaller precision does to the gradient, family by family; the reference is float32.

Of a fixed random functional of the maps: in a tiny random network the losses' own gradients are small
differences of large numbers, and Attend&Excite's maximum may sit in another cell after rounding.
"""

import pytest
import torch

from .test_families import graph, objective, refine
from .zoo_names import NAMES

LIMITS = {"bf16": 0.05, "fp16": 0.01}


def gradient(comfy, monkeypatch, name, **loader):
    """At the first step, where every precision begins with the same latent."""
    found = []

    def apply(self, latent, forwards, context):
        scale = context.loss_scale
        while not found:
            leaf = latent.clone().requires_grad_(True)
            maps = forwards[0](leaf, slice(0, len(latent))).probabilities
            result = torch.autograd.grad(objective(maps) * scale, leaf)[0] / scale
            if torch.isfinite(result).all() or scale <= 1:
                found.append(result)
            scale /= 2  # as the pack does on overflow
        return latent

    with monkeypatch.context() as patch:
        patch.setattr(comfy.pack("gsn.interventions.refine").Refine, "apply", apply)
        comfy.run(graph(name, [refine(step=0)], **loader), ["out"]).check()
    assert torch.isfinite(found[0]).all()
    return found[0]


@pytest.mark.parametrize("compute", LIMITS)
@pytest.mark.parametrize("name", NAMES)
def test_gradient_in_half_precision(comfy, monkeypatch, record_property, name, compute):
    wanted = gradient(comfy, monkeypatch, name)
    got = gradient(comfy, monkeypatch, name, compute=compute, dtype=compute)
    error = float((got - wanted).norm() / wanted.norm())
    record_property("relative_error", error)
    print(f"GRADIENT {name} {compute} {error:.4f}")
    assert error <= LIMITS[compute]


# Z-Image in pixel space: ComfyUI's own decoder makes its positions in the weights' type, which has no linspace.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "z_image_pixel"])
def test_fp8_weights(comfy, monkeypatch, name):
    """Stored in fp8, computed in fp32: the exact gradient of the rounded weights, by plain autograd on them."""
    got = gradient(comfy, monkeypatch, name, dtype="fp8")
    assert torch.isfinite(got).all() and got.norm() > 0


@pytest.mark.parametrize("name", NAMES)
def test_fifty_iterations_in_fp16_stay_finite(comfy, name):
    nodes = graph(name, [refine(iterations=50)], batch=1, compute="fp16", dtype="fp16")
    result = comfy.run(nodes, ["out", ("p0", 1)]).check()
    losses = torch.tensor([record.loss for record in result["p0", 1].trace.records])
    assert torch.isfinite(losses).all() and losses[-1].mean() < losses[0].mean()
    assert torch.isfinite(result["out"]["samples"]).all()


# On a CPU the fp8 product is of the dequantised weights; the int8 one rounds its input as well.
QUANTISED = {"fp8_scaled": 1e-4, "int8": 0.05}
# Some of each kind of network. Not HiDream: ComfyUI's int8 product fails on an expert that no token chose.
NETWORKS = ("sd15", "sdxl", "sd3_both", "flux_dev", "qwen_image", "z_image", "cosmos_predict2", "hunyuan_dit")


@pytest.mark.parametrize("kind", QUANTISED)
@pytest.mark.parametrize("name", NETWORKS)
def test_quantised_weights_give_the_gradient_of_their_rounded_values(comfy, monkeypatch, name, kind):
    quantised, rounded = comfy.toy.build_quantised(name, kind)
    ordinary = comfy.toy.build_transformer(name)
    with torch.inference_mode():
        ordinary.model.diffusion_model.load_state_dict(rounded)
    found = []
    for model in (ordinary, quantised):
        monkeypatch.setattr(comfy.toy.ToyTransformer, "made", model)
        found.append(gradient(comfy, monkeypatch, name))
    assert any(getattr(module, "layout_type", None) for module in quantised.model.modules())
    assert float((found[1] - found[0]).norm() / found[0].norm()) <= QUANTISED[kind]

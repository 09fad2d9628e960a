"""What a smaller precision does to the gradient, family by family; the reference is float32.

Of a fixed random functional of the maps: in a tiny random network the losses' own gradients are small
differences of large numbers, and Attend&Excite's maximum may sit in another cell after rounding.
"""

import pytest
import torch

from ..probe import objective
from ..zoo_graphs import graph, refine
from ..zoo_names import DIFFERENT, NAMES, SIZES

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
        comfy.run(graph(name, [refine(step=0)], steps=1, **loader), ["out"]).check()
    assert torch.isfinite(found[0]).all()
    return found[0]


@pytest.fixture(scope="module")
def in_fp32(comfy):
    """name -> the gradient in float32, computed once."""
    found = {}

    def wanted(monkeypatch, name):
        if name not in found:
            found[name] = gradient(comfy, monkeypatch, name)
        return found[name]

    return wanted


def relative_error(got, wanted):
    return float((got - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("compute", LIMITS)
@pytest.mark.parametrize("name", NAMES)
def test_gradient_in_half_precision(comfy, monkeypatch, record_property, in_fp32, name, compute):
    got = gradient(comfy, monkeypatch, name, compute=compute, dtype=compute)
    error = relative_error(got, in_fp32(monkeypatch, name))
    record_property("relative_error", error)
    print(f"GRADIENT {name} {compute} {error:.4f}")
    assert error <= LIMITS[compute]


def of_rounded_weights(comfy, monkeypatch, record_property, in_fp32, name, stored, rounded):
    """The error of the gradient of `stored`, a ModelPatcher, against that of the same values in fp32 weights.

    Reports the error against the weights before they were rounded, which a user of the format has to live with.
    """
    ordinary = comfy.toy.build_transformer(name)
    with torch.inference_mode():
        ordinary.model.diffusion_model.load_state_dict(rounded)
    wanted, found = in_fp32(monkeypatch, name), []
    for model in (stored, ordinary):
        monkeypatch.setattr(comfy.toy.ToyTransformer, "made", model)
        found.append(gradient(comfy, monkeypatch, name))
    record_property("relative_error", relative_error(found[0], wanted))
    print(f"GRADIENT {name} {relative_error(found[0], wanted):.4f} {relative_error(*found):.2e}")
    assert not torch.equal(found[1], wanted)
    return relative_error(*found)


FP8 = [*((name, "fp8") for name in NAMES), ("sd15", "fp8_e5m2"), ("flux_dev", "fp8_e5m2")]
# Z-Image in pixel space: ComfyUI's own decoder makes its positions in the weights' type, which has no linspace.
FP8.remove(("z_image_pixel", "fp8"))


@pytest.mark.parametrize(("name", "dtype"), FP8)
def test_fp8_weights(comfy, monkeypatch, record_property, in_fp32, name, dtype):
    """Stored in fp8, computed in fp32: the exact gradient of the rounded weights."""
    stored = comfy.toy.build_transformer(name, dtype=dtype)
    rounded = {key: value.float() for key, value in stored.model.diffusion_model.state_dict().items()}
    assert of_rounded_weights(comfy, monkeypatch, record_property, in_fp32, name, stored, rounded) <= 1e-5


@pytest.mark.parametrize("name", DIFFERENT)
def test_fifty_iterations_in_fp16_stay_finite(comfy, name):
    nodes = graph(name, [refine(iterations=50)], batch=1, steps=2, compute="fp16", dtype="fp16")
    if name not in SIZES:
        nodes["4"]["inputs"] |= {"width": 64, "height": 64}
    result = comfy.run(nodes, ["out", ("p0", 1)]).check()
    losses = torch.tensor([record.loss for record in result["p0", 1].trace.records])
    assert torch.isfinite(losses).all() and losses[-1].mean() < losses[0].mean()
    assert torch.isfinite(result["out"]["samples"]).all()


# Where the product is of the dequantised weights, as on every CPU, the gradient is that of the rounded weights; int8
# rounds its input as well, and int4 to sixteen values.
QUANTISED = {"fp8_scaled": 1e-5, "fp8_scaled_e5m2": 1e-5, "mxfp8": 1e-5, "nvfp4": 1e-5, "nvfp4_smoothed": 1e-5}
QUANTISED |= {"int8": 0.05, "int8_rotated": 0.05, "int4_rotated": 0.5}
# Some of each kind of network. Not HiDream: ComfyUI's int8 product fails on an expert that no token chose.
NETWORKS = ("sd15", "sdxl", "sd3_both", "flux_dev", "qwen_image", "z_image", "cosmos_predict2", "hunyuan_dit")
STORED = [(name, kind) for kind in ("fp8_scaled", "int8") for name in NETWORKS]
STORED += [(name, kind) for kind in QUANTISED if kind not in ("fp8_scaled", "int8") for name in ("sd15", "flux_dev")]


def test_every_quantised_format_is_tested(comfy):
    import comfy.quant_ops as known

    assert {form for form, _, _ in comfy.toy.QUANTISED.values()} == set(known.QUANT_ALGOS)
    assert set(QUANTISED) == set(comfy.toy.QUANTISED)


@pytest.mark.parametrize("kind", QUANTISED)
def test_a_quantised_layers_gradient_is_exact(comfy, kind):
    """However its forward rounds the input: what comes back is multiplied by the rounded weight."""
    model, rounded = comfy.toy.build_quantised("flux_dev", kind)
    layers = {k: m for k, m in model.model.diffusion_model.named_modules() if getattr(m, "layout_type", None)}
    assert layers
    with comfy.pack("gsn.host.gradient.differentiable").differentiable(model.model, "test"):
        for name, layer in layers.items():
            x = torch.randn(2, 5, layer.in_features, requires_grad=True)
            above = torch.randn(2, 5, layer.out_features)
            (gradient,) = torch.autograd.grad(layer(x), x, above)
            assert relative_error(gradient, above @ rounded[f"{name}.weight"]) <= 1e-5, name


@pytest.mark.parametrize(("name", "kind"), STORED)
def test_quantised_weights_give_the_gradient_of_their_rounded_values(
    comfy, monkeypatch, record_property, in_fp32, name, kind
):
    quantised, rounded = comfy.toy.build_quantised(name, kind)
    error = of_rounded_weights(comfy, monkeypatch, record_property, in_fp32, name, quantised, rounded)
    assert any(getattr(module, "layout_type", None) for module in quantised.model.modules())
    assert error <= QUANTISED[kind]

"""The differentiable call: same forward, right gradient, nothing left behind."""

import threading
from contextlib import suppress

import pytest
import torch


def entry_gradient(comfy, model, seed=0):
    """Gradient of a random functional of the truncated call's maps with respect to z."""
    from comfy.ldm.modules.attention import attention_pytorch

    family, done = comfy.pack("gsn.host.families.unet").UNET, comfy.pack("gsn.host.attention.early_exit").CaptureDone
    preset, spec = comfy.pack("gsn.methods.model_presets").MODEL_PRESETS["sd1"], comfy.pack("gsn.methods.plan")
    layers = comfy.pack("gsn.host.attention.layers").choose_layers(family, model.model, spec.CaptureSpec(), preset)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 4, 13, 19, generator=generator)
    text = torch.randn(2, 77, 64, generator=generator)

    def pytorch(function, *args, **kwargs):
        return attention_pytorch(*args, **kwargs)  # as `differentiable` computes it, for the call it is compared with

    def call(leaf):
        collector = comfy.pack("gsn.host.attention.capture").Collector(layers)
        options = {"transformer_options": {"optimized_attention_override": pytorch}}
        family.attach(options, collector.sink, comfy.pack("gsn.host.families").Position(), 77)
        with suppress(done):
            model.model.apply_model(leaf, torch.full((2,), 5.0), c_crossattn=text, **options)
        return collector.maps().probabilities

    return x, call


def gradient(call, x):
    leaf = x.clone().requires_grad_(True)
    maps = call(leaf)
    weights = torch.randn(maps.shape, generator=torch.Generator().manual_seed(7))
    return maps.detach(), torch.autograd.grad((maps * weights).sum() * 100, leaf)[0]


def test_forward_is_equal_and_gradient_is_plain_autograds(comfy):
    normal, inference = comfy.model("sd15", normal_weights=True), comfy.model("sd15")
    x, call = entry_gradient(comfy, normal)
    maps, wanted = gradient(call, x)
    x, call = entry_gradient(comfy, inference)
    with torch.inference_mode(), comfy.pack("gsn.host.gradient.differentiable").differentiable(inference.model, "test"):
        ours, got = gradient(call, x)
    assert torch.equal(ours, maps)
    assert float((got - wanted).norm() / wanted.norm()) <= 1e-5


def test_finite_differences(comfy):
    model = comfy.model("sd15")
    x, call = entry_gradient(comfy, model)
    with torch.inference_mode(), comfy.pack("gsn.host.gradient.differentiable").differentiable(model.model, "test"):
        maps, g = gradient(call, x)
        weights = torch.randn(maps.shape, generator=torch.Generator().manual_seed(7))
        direction = g / g.norm()
        with torch.no_grad():
            ends = [((call(x + s * 1e-2 * direction) * weights).double().sum() * 100) for s in (1, -1)]
    assert float((ends[0] - ends[1]) / 2e-2) == pytest.approx(float(g.norm()), rel=1e-3)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "fp8"])
def test_every_storage_gives_a_gradient_and_leaves_nothing(comfy, dtype):
    model = comfy.model("sd15", dtype=dtype)
    modules = list(model.model.diffusion_model.modules())
    before = [(dict(m.__dict__), dict(m._parameters), dict(m._buffers)) for m in modules]
    x, call = entry_gradient(comfy, model)
    with torch.inference_mode():
        with comfy.pack("gsn.host.gradient.differentiable").differentiable(model.model, "test"):
            _, g = gradient(call, x)
        assert torch.isfinite(g).all() and g.norm() > 0
        assert torch.is_inference_mode_enabled()
    for module, (own, parameters, buffers) in zip(modules, before, strict=True):
        assert module.__dict__.keys() == own.keys()
        assert all(module._parameters[k] is v for k, v in parameters.items())
        assert all(module._buffers[k] is v for k, v in buffers.items())
    assert all(p.grad is None for p in model.model.diffusion_model.parameters())


def test_offloaded_weights_in_reused_buffers_give_the_exact_gradient(comfy, monkeypatch):
    """Offloading hands out buffers that the next layer overwrites; plain autograd would be silently wrong."""
    import comfy.ops as ops

    model = comfy.model("sd15")
    x, call = entry_gradient(comfy, model)
    with torch.inference_mode(), comfy.pack("gsn.host.gradient.differentiable").differentiable(model.model, "test"):
        _, wanted = gradient(call, x)
    for module in model.model.diffusion_model.modules():
        if isinstance(module, ops.CastWeightBiasOp):
            module.comfy_cast_weights = True
    ordinary, scratch = ops.cast_bias_weight, torch.zeros(1 << 20)

    def cast(s, *args, **kwargs):
        weight, bias, *rest = ordinary(s, *args, **kwargs)
        lent = scratch[: weight.numel()].view(weight.shape)
        lent.copy_(weight)
        return lent, bias, *rest

    monkeypatch.setattr(ops, "cast_bias_weight", cast)
    with torch.inference_mode(), comfy.pack("gsn.host.gradient.differentiable").differentiable(model.model, "test"):
        _, got = gradient(call, x)
    assert float((got - wanted).norm() / wanted.norm()) <= 1e-5


def _everywhere(model, change):
    """`change` for each convolution of the model."""
    convolutions = [m for m in model.model.diffusion_model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) > 10
    for module in convolutions:
        change(module)


def _circular(module):
    module.padding_mode = "circular"


def _own_conv_forward(module):
    """Sides that meet and a floor that does not."""

    def conv_forward(self, x, weight, bias):
        across, down = self.padding[1], self.padding[0]
        x = torch.nn.functional.pad(x, (across, across, 0, 0), mode="circular")
        x = torch.nn.functional.pad(x, (0, 0, down, down))
        return torch.nn.functional.conv2d(x, weight, bias, self.stride, 0, self.dilation, self.groups)

    module._conv_forward = conv_forward.__get__(module)


def _own_forward(module):
    plain = module.forward

    def forward(x):
        keep = module.padding
        x = torch.nn.functional.pad(x, (keep[1], keep[1], keep[0], keep[0]), mode="circular")
        module.padding = (0, 0)
        try:
            return plain(x)
        finally:
            module.padding = keep

    module.forward = forward


def _circular_while_it_runs(module):
    module.register_forward_pre_hook(lambda m, _: setattr(m, "padding_mode", "circular"))
    module.register_forward_hook(lambda m, *_: setattr(m, "padding_mode", "zeros"))


@pytest.mark.parametrize("change", [_circular, _own_conv_forward, _own_forward, _circular_while_it_runs])
def test_convolutions_that_packs_made_tileable(comfy, change):
    """Packs for seamless textures change how the model's own convolutions pad, in one of four ways."""
    normal, inference = comfy.model("sd15", normal_weights=True), comfy.model("sd15")
    x, call = entry_gradient(comfy, normal)
    as_it_was, _ = gradient(call, x)
    _everywhere(normal, change)
    _everywhere(inference, change)
    maps, wanted = gradient(call, x)
    assert not torch.allclose(maps, as_it_was, atol=1e-6)
    x, call = entry_gradient(comfy, inference)
    with torch.inference_mode(), comfy.pack("gsn.host.gradient.differentiable").differentiable(inference.model, "test"):
        ours, got = gradient(call, x)
    assert torch.equal(ours, maps)
    assert float((got - wanted).norm() / wanted.norm()) <= 1e-5


def test_weights_that_are_not_numbers_are_refused_by_name(comfy):
    model = comfy.model("sd15")
    model.model.diffusion_model.packed = torch.nn.Module()
    model.model.diffusion_model.packed.weight = torch.nn.Parameter(
        torch.zeros(3, dtype=torch.uint8), requires_grad=False
    )
    with pytest.raises(ValueError, match="packed"):
        comfy.pack("gsn.host.gradient.differentiable").refuse_foreign(model.model, "SingleStepIterRef")


CONVOLUTIONS = {
    "few pixels, a large weight": ((2, 384, 8, 8), {"out_channels": 384, "kernel_size": 3, "padding": 1}),
    "every other pixel": ((1, 384, 15, 9), {"out_channels": 320, "kernel_size": 3, "padding": 1, "stride": 2}),
    "spread pixels": ((1, 384, 9, 11), {"out_channels": 384, "kernel_size": (3, 5), "padding": (2, 0), "dilation": 2}),
    "many pixels": ((2, 8, 40, 24), {"out_channels": 16, "kernel_size": 3, "padding": 1, "stride": 1}),
    "many pixels, by groups": ((1, 8, 40, 33), {"out_channels": 16, "kernel_size": 3, "groups": 4}),
    "one pixel each": ((1, 1280, 8, 8), {"out_channels": 1280, "kernel_size": 1}),
    "the same size": ((1, 8, 12, 12), {"out_channels": 8, "kernel_size": 3, "padding": "same"}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_each_way_to_a_convolutions_gradient(comfy, case):
    shape, layout = CONVOLUTIONS[case]
    torch.manual_seed(3)
    module = torch.nn.Conv2d(shape[1], **layout)
    x = torch.randn(shape, requires_grad=True)
    y = module(x)
    direction = torch.randn_like(y)
    wanted = torch.autograd.grad(y, x, direction)[0]
    with torch.inference_mode():
        way = comfy.pack("gsn.host.gradient.frozen_layers").Convolution.of(module, {})
        got = way.input_gradient(module.weight, direction, x.shape)
    assert got.shape == wanted.shape
    assert float((got - wanted).norm() / wanted.norm()) <= 1e-6


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_convolution_of_few_pixels_is_a_product_of_the_same_values(comfy, monkeypatch, case, bias):
    shape, layout = CONVOLUTIONS[case]
    torch.manual_seed(3)
    module, x = torch.nn.Conv2d(shape[1], **layout, bias=bias), torch.randn(shape)
    unfold, products = torch.nn.functional.unfold, []
    monkeypatch.setattr(torch.nn.functional, "unfold", lambda *args: products.append(args) or unfold(*args))
    with torch.inference_mode():
        wanted = module(x)
        with comfy.pack("gsn.host.gradient.frozen_layers").ConvolutionAsProduct():
            got = module(x)
    assert len(products) == (module.weight.numel() >= 2**20)
    assert got.shape == wanted.shape
    assert float((got - wanted).norm() / wanted.norm()) <= 3e-6


@pytest.mark.parametrize("rows", [7, 400])
def test_each_way_to_a_linear_layers_gradient(comfy, rows):
    """The gradient has its channels first in memory, as one that comes out of a convolution."""
    direction, weight = torch.randn(2, 48, rows).transpose(1, 2), torch.randn(48, 32)
    got = comfy.pack("gsn.host.gradient.frozen_layers")._linear_input_gradient(direction, weight)
    assert got.is_contiguous()
    assert torch.allclose(got, torch.einsum("bno,oi->bni", direction, weight), atol=1e-5)


def test_what_cannot_be_undone_does_not_keep_the_rest_from_it(comfy):
    changes, place = comfy.pack("gsn.host.gradient.differentiable").Changes(), {"a": 1}

    def fails():
        raise RuntimeError("gone")

    changes.set(place, "a", 2)
    changes.later(fails)
    changes.set(place, "b", 3)
    with pytest.raises(RuntimeError, match="gone"):
        changes.undo()
    assert place == {"a": 1}


def test_other_threads_are_left_alone(comfy):
    """One that trains a module of its own meanwhile is not told that ComfyUI trains, nor is its layer frozen."""
    import comfy.model_management as mm

    layer, seen = torch.nn.Linear(3, 1), {}

    def elsewhere():
        layer(torch.ones(2, 3)).sum().backward()
        seen.update(training=bool(mm.in_training), gradient=layer.weight.grad is not None)

    model = comfy.model("sd_xs")
    with torch.inference_mode(), comfy.pack("gsn.host.gradient.differentiable").differentiable(model.model, "test"):
        assert mm.in_training
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert seen == {"training": False, "gradient": True} and mm.in_training is False


def test_a_line_that_changes_a_tensor_for_its_effect_has_it(comfy):
    """And gradients through it are right, as they are where a tensor is bound anew."""
    mode = comfy.pack("gsn.host.gradient.inference_tensors").OutOfPlace

    def for_its_effect(a, b):
        a.add_(b)
        a.mul_(b).sub_(b)
        torch.Tensor.div_(a, b)
        return a

    def bound_anew(a, b):
        a += b
        a *= b
        a -= b
        a = a.div_(b)
        return a

    start = torch.tensor([1.0, 2.0])
    for function in (for_its_effect, bound_anew):
        b = torch.tensor([3.0, 5.0], requires_grad=True)
        with mode(), torch.enable_grad():
            found = function(start.clone(), b)
        wanted = ((start + b) * b - b) / b
        assert torch.allclose(found, wanted)
        assert torch.allclose(*(torch.autograd.grad(one.sum(), b)[0] for one in (found, wanted)))

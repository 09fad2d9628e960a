"""Linear and Conv layers as linear functions to autograd, with weights that no graph holds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.ops
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .inference_tensors import alias

_CONV_INPUT_GRADIENT = {
    1: torch.nn.grad.conv1d_input,
    2: torch.nn.grad.conv2d_input,
    3: torch.nn.grad.conv3d_input,
}
_FEW, _LARGE = 256, 2**20  # pixels, numbers in a weight: oneDNN lays the weight out anew for each call, MKL does not


def _few(pixels: int, weight: Tensor) -> bool:
    """Whether a convolution to so many pixels is better a product with its weight [out, in, h, w] as it lies."""
    slow = weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.dim() == 4
    return slow and pixels <= _FEW and weight.numel() >= _LARGE


class ConvolutionAsProduct(TorchFunctionMode):
    """While inside, large convolutions of few pixels on a processor are products, whoever computes them."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        product = _product(*args, **(kwargs or {})) if func is nn.functional.conv2d else None
        return func(*args, **(kwargs or {})) if product is None else product


def _product(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """conv2d of the same arguments, or None where it should be computed as it is."""
    if groups != 1 or isinstance(padding, str) or input.dim() != 4 or type(weight) not in (Tensor, nn.Parameter):
        return None
    size = _output_size(input.shape[2:], weight.shape[2:], stride, padding, dilation)
    if not _few(input.shape[0] * size.numel(), weight):
        return None
    y = weight.flatten(1) @ nn.functional.unfold(input, weight.shape[2:], dilation, padding, stride)
    return (y if bias is None else y.add_(bias[:, None])).unflatten(2, size)


def _output_size(size: torch.Size, kernel: torch.Size, stride: Any, padding: Any, dilation: Any) -> torch.Size:
    each = [(one, one) if isinstance(one, int) else one for one in (stride, padding, dilation)]
    return torch.Size((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, kernel, *each, strict=True))


class FrozenLayer(torch.autograd.Function):
    """y = W x + b with a weight that is fetched again for the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: Any, inner: Callable, args: tuple, kwargs: dict) -> Tensor:
        ctx.module, ctx.shape, ctx.dtype = module, x.shape, x.dtype
        ctx.convolution = Convolution.of(module, kwargs) if hasattr(module, "kernel_size") else None
        large = ctx.convolution is not None and module.weight.numel() >= _LARGE
        with torch.inference_mode(), ConvolutionAsProduct() if large else nullcontext():
            y = inner(x.detach(), *args, **kwargs)
        return alias(y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor):
        module = ctx.module
        with torch.inference_mode():
            if gradient.device.type == "cpu" and gradient.dtype == torch.float16:
                gradient = gradient.float()  # a processor multiplies halves sixty times as slowly
            weight, bias, stream = comfy.ops.cast_bias_weight(
                module, dtype=gradient.dtype, device=gradient.device, bias_dtype=gradient.dtype, offloadable=True
            )
            try:
                result = _input_gradient(ctx, gradient, weight)
            finally:  # also before the retry that a lack of memory leads to, which needs the room
                comfy.ops.uncast_bias_weight(module, weight, bias, stream)
        return alias(result.to(ctx.dtype)), None, None, None, None


def _input_gradient(ctx: Any, gradient: Tensor, weight: Tensor) -> Tensor:
    if hasattr(weight, "dequantize") and type(weight) not in (Tensor, nn.Parameter):
        weight = weight.dequantize()
    weight = weight.to(gradient.dtype)
    if ctx.convolution is not None:
        return ctx.convolution.input_gradient(weight, gradient, ctx.shape)
    result = _linear_input_gradient(gradient, weight)
    scale = getattr(ctx.module, "pre_quant_scale", None)
    return result if scale is None else result * scale.to(result)


def _linear_input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """gradient @ weight. On a processor as a transposed 1 x 1 convolution: PyTorch computes those by oneDNN, and
    float32 products by MKL, which leaves half of an AMD processor idle.

    A gradient that comes out of a convolution has its channels first in memory; left so, those of all layers below
    would follow, and elementwise backwards (GELU's) take fifteen times as long on them.
    """
    if gradient.device.type != "cpu" or gradient.dtype != torch.float32 or gradient[..., 0].numel() <= _FEW:
        return gradient @ weight
    pixels = gradient.contiguous().reshape(1, -1, 1, gradient.shape[-1]).permute(0, 3, 1, 2)
    result = nn.functional.conv_transpose2d(pixels, weight[:, :, None, None])
    return result.permute(0, 2, 3, 1).reshape(*gradient.shape[:-1], weight.shape[1])


@dataclass(frozen=True)
class Convolution:
    """How a convolution was computed: packs that tile pictures change it, some only while the model runs."""

    geometry: tuple[Any, ...]  # stride, padding, dilation, groups
    changed: Callable[[Tensor, Tensor, None], Tensor] | None  # of (input, weight, bias), where that is not all

    @classmethod
    def of(cls, module: Any, kwargs: dict) -> Convolution:
        plain = (
            not kwargs
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
            and "_conv_forward" not in vars(module)
            and type(module)._conv_forward.__module__.startswith(("torch.", "comfy.ops"))
        )
        changed = None if plain else partial(copy(module)._conv_forward, **kwargs)
        return cls((module.stride, module.padding, module.dilation, module.groups), changed)

    def input_gradient(self, weight: Tensor, gradient: Tensor, shape: torch.Size) -> Tensor:
        """[*shape]. On a processor: a product with a large weight as it lies, at few pixels; at many, channels last."""
        if self.changed is not None:
            return self._by_autograd(weight, gradient, shape)
        stride, padding, dilation, groups = self.geometry
        if gradient.device.type == "cpu" and gradient.dtype == torch.float32 and weight.dim() == 4:
            pixels = gradient[:, 0].numel()
            if _few(pixels, weight) and groups == 1:
                columns = weight.flatten(1).t() @ gradient.flatten(2)
                return nn.functional.fold(columns, shape[2:], weight.shape[2:], dilation, padding, stride)
            if pixels >= 4 * _FEW and weight[0, 0].numel() > 1:
                weight, gradient = (one.contiguous(memory_format=torch.channels_last) for one in (weight, gradient))
        return _CONV_INPUT_GRADIENT[weight.dim() - 2](shape, weight, gradient, *self.geometry)

    def _by_autograd(self, weight: Tensor, gradient: Tensor, shape: torch.Size) -> Tensor:
        """Whatever was computed is linear in the input, so its gradient is the same at zero."""
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.zeros(shape, dtype=weight.dtype, device=weight.device, requires_grad=True)
            return torch.autograd.grad(self.changed(x, alias(weight), None), x, alias(gradient))[0]


def frozen_norm(module: Any, x: Tensor) -> Tensor:
    """A norm whose weight ComfyUI fetches: copied, since it is tiny and autograd keeps it."""
    weight = bias = None
    if module.weight is not None:
        with torch.inference_mode():
            fetched, fetched_bias, stream = comfy.ops.cast_bias_weight(module, x, offloadable=True)
            try:
                weight, bias = fetched.clone(), None if fetched_bias is None else fetched_bias.clone()
            finally:
                comfy.ops.uncast_bias_weight(module, fetched, fetched_bias, stream)
        weight, bias = alias(weight), None if bias is None else alias(bias)
    if isinstance(module, nn.GroupNorm):
        return nn.functional.group_norm(x, module.num_groups, weight, bias, module.eps)
    if isinstance(module, nn.LayerNorm):
        return nn.functional.layer_norm(x, module.normalized_shape, weight, bias, module.eps)
    return nn.functional.rms_norm(x, module.normalized_shape, weight, module.eps)

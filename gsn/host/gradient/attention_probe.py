"""Whether the attention that a gradient pass will meet has a gradient, found out by what it does.

Packs put kernels without a backward in the place of PyTorch's or ComfyUI's attention, for the whole process. Inside
`differentiable` ComfyUI's own functions compute by PyTorch's; what stands in the place of one of them does not, and
nobody knows what PyTorch's own name stands for by then. So each function that the network calls computes one small
attention, whose gradient is compared with that of the same attention in single operations.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from inspect import getsourcefile, unwrap
from typing import Any

import comfy.ldm.modules.attention as attention
import comfy.model_management as mm
import comfy.ops
import torch
from torch import Tensor

from ..errors import GsnError
from .differentiable import Changes, differentiable_attention

_HEADS, _TOKENS, _DIM = 2, 32, 64  # kernels may take no fewer
_NAMES = ("optimized_attention", "optimized_attention_masked")  # by which ComfyUI's models call it
_OVERRIDE = "optimized_attention_override"


def check_attention(model: Any, by_override: bool, origin: str) -> None:
    """Raise GsnError naming a function whose gradient is not attention's, and where it comes from.

    model: a BaseModel. by_override: its maps are read by ComfyUI's override, which a function has to ask for.
    """
    dtype, device = model.get_dtype_inference(), mm.get_torch_device()
    with torch.inference_mode(False), torch.enable_grad():
        wanted, changes = _gradient(_written_out, dtype, device), Changes()
        try:
            differentiable_attention(changes)
            for function in _called_by(model.diffusion_model):
                asked: list[bool] = []
                options = {_OVERRIDE: partial(_noted, asked)}
                found = _gradient(partial(function, transformer_options=options), dtype, device)
                if found is not None and not _same(found, wanted, dtype):
                    raise GsnError(
                        f"{origin}: attention is computed by {_culprit(function)}, whose gradient is not attention's,"
                        " so nothing could be optimised; switch it off, or leave out the node or start option that puts"
                        " it there"
                    )
                if found is not None and by_override and not asked:
                    raise GsnError(
                        f"{origin}: {_named(function)} stands in the place of ComfyUI's attention and asks for no"
                        " override, by which this model's attention maps are read; leave out the node that puts it"
                        " there"
                    )
        finally:
            changes.undo()


def _called_by(network: Any) -> Iterator[Callable]:
    """Every attention that Python modules beside the network's own have under ComfyUI's names, each once."""
    packages = {type(one).__module__.rpartition(".")[0] for one in network.modules()}
    packages = {one for one in packages if one.startswith("comfy.")} | {"comfy.ldm.modules"}
    seen = {id(attention.attention_pytorch)}
    yield attention.attention_pytorch
    for name, module in list(sys.modules.items()):
        for key in _NAMES if module is not None and name.rpartition(".")[0] in packages else ():
            function = vars(module).get(key)
            if callable(function) and id(function) not in seen:
                seen.add(id(function))
                yield function


def _noted(asked: list[bool], function: Callable, *args: Any, **kwargs: Any) -> Any:
    asked.append(True)
    return function(*args, **kwargs)


def _gradient(function: Callable, dtype: torch.dtype, device: Any) -> Tensor | None:
    """[3, 1, tokens, heads * dim] in float32, with respect to q, k and v; None of a function that cannot be asked."""
    size = 3 * _TOKENS * _HEADS * _DIM
    values = torch.linspace(0, 50, size, device=device).sin().view(3, 1, _TOKENS, -1)
    leaf = values.to(dtype).requires_grad_(True)
    out = None
    with suppress(Exception):  # of other shapes, perhaps; the run itself will tell
        out = function(*leaf.unbind(0), _HEADS)
    if not isinstance(out, Tensor) or out.shape != leaf.shape[1:]:
        return None
    if not out.requires_grad:
        return torch.zeros_like(values)
    weights = torch.linspace(0, 30, out.numel(), device=device).cos().view_as(out)
    (out.float() * weights).sum().backward()
    assert leaf.grad is not None, "it does not require a gradient for nothing"
    return leaf.grad.float()


def _written_out(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (one.unflatten(-1, (heads, -1)).transpose(1, 2).float() for one in (q, k, v))
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def _same(found: Tensor, wanted: Tensor | None, dtype: torch.dtype) -> bool:
    """As near as the precision allows: half precision leaves some thousandths, a gradient that is none leaves 1."""
    assert wanted is not None
    return bool((found - wanted).norm() <= (0.01 if dtype == torch.float32 else 0.1) * wanted.norm())


def _culprit(function: Callable) -> str:
    """PyTorch's function, if that is not PyTorch's any more; ComfyUI's way to it; or the function itself."""
    functional = torch.nn.functional.scaled_dot_product_attention
    if not str(getattr(functional, "__module__", "")).startswith("torch"):
        return f"{_named(functional)} in the place of torch.nn.functional.scaled_dot_product_attention"
    if not comfy.ops.scaled_dot_product_attention.__module__.startswith("comfy"):
        return f"{_named(comfy.ops.scaled_dot_product_attention)} in the place of ComfyUI's"
    return _named(function)


def _named(function: Any) -> str:
    inner = unwrap(getattr(function, "func", function))
    name = f"{getattr(inner, '__module__', '?')}.{getattr(inner, '__qualname__', type(inner).__qualname__)}"
    with suppress(TypeError):
        return f"{name} ({getsourcefile(inner)})"
    return name

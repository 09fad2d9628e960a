"""A model call that autograd can go through, whatever ComfyUI did to the weights.

ComfyUI runs everything in inference mode, so weights are inference tensors that autograd refuses to save;
with offloading or dynamic VRAM the tensor a layer used may be overwritten before backward reads it, and a
plain backward is then silently wrong. So inside `differentiable`:

- Linear and Conv modules run their own inference forward and are linear functions to autograd, which keeps
  nothing of them; backward fetches the weight again through ComfyUI. The forward is bit-equal, weights
  collect no gradients and none is kept alive by the graph.
- The few other parameters and buffers (norms, embeddings, schedules) become normal tensors that share
  the same storage.
- `a += b` makes a new tensor, as autograd and recomputation may need the old one.
- Modules that are not the model's own (other packs' patches bring them) are treated alike when they first run,
  and any other inference tensor a patch computes with is seen as a normal one.
- Every attention function of ComfyUI computes by PyTorch's own, whoever holds it: some of the others have no
  backward, and would give a gradient that is silently wrong.
- Rotary embeddings are computed by comfy-kitchen's own plain PyTorch code, not by its operators.

Everything is undone on leaving, in every case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any

import comfy.ldm.modules.attention as attention
import comfy.model_management as mm
import comfy.ops
import comfy.quant_ops
import torch
from comfy.weight_adapter.bypass import BypassForwardHook
from torch import Tensor, nn

from ..errors import GsnError
from .frozen_layers import FrozenLayer, frozen_norm
from .inference_tensors import OutOfPlace, alias

_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@contextmanager
def differentiable(model: Any, origin: str) -> Iterator[None]:
    """Gradients through `model` (a BaseModel) with respect to its inputs, never its weights.

    Raises GsnError before anything is changed where a weight format has no known derivative.
    """
    refuse_foreign(model, origin)
    changes = Changes()
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autograd.set_multithreading_enabled(False),
        OutOfPlace(),
    ):
        try:
            changes.set(vars(mm), "in_training", _Here())
            _differentiable_rope(changes)
            differentiable_attention(changes)
            own = {*model.diffusion_model.modules(), *_submodules(model.model_sampling)}
            for module in own:
                _prepare(module, changes)
            changes.later(_prepare_when_called(own, changes, origin).remove)
            yield
        finally:
            changes.undo()


def refuse_foreign(model: Any, origin: str) -> None:
    """Raise GsnError naming the first weight that cannot be differentiated."""
    for name, module in model.diffusion_model.named_modules():
        _refuse_foreign(module, f"{origin}: layer '{name}'")
        place, key = _forward_place(module)
        if _is_quantised(module) and getattr(place.get(key, module.forward), "__self__", None) is not module:
            raise GsnError(
                f"{origin}: another node replaced the forward of layer '{name}' ({type(module).__qualname__}), whose"
                " weights are quantised, in a way that is not known here; load the model in fp16, bf16 or fp8, or"
                " leave that node out"
            )


def _refuse_foreign(module: nn.Module, where: str) -> None:
    kind = type(module)
    if isinstance(module, comfy.ops.CastWeightBiasOp):
        own = kind.forward_comfy_cast_weights.__module__ if hasattr(kind, "forward_comfy_cast_weights") else ""
        foreign = bool(own) and not own.startswith("comfy.ops")
    else:
        foreign = any(not p.is_floating_point() for p in module.parameters(recurse=False))
    if foreign:
        raise GsnError(
            f"{where} keeps its weights in a format ({kind.__module__}.{kind.__qualname__}) that has no known"
            " derivative; load the model in fp16, bf16, fp8 or one of ComfyUI's own quantised formats"
        )


class Changes:
    """Entries set in dictionaries and the like, so that they can all be put back."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], Any]] = []

    def set(self, place: dict, key: str, value: Any) -> None:
        if key in place:
            self.later(partial(place.__setitem__, key, place[key]))
        else:
            self.later(partial(place.pop, key, None))
        place[key] = value

    def later(self, undo: Callable[[], Any]) -> None:
        self._undo.append(undo)

    def undo(self) -> None:
        """Everything that can be; then the first failure, if there was one, is raised."""
        failures: list[Exception] = []
        while self._undo:
            try:
                self._undo.pop()()
            except Exception as failure:
                failures.append(failure)
        if failures:
            raise failures[0]


class _Here:
    """True in the thread that made it, and false in the others: for a switch that the whole process reads."""

    def __init__(self) -> None:
        self._thread = get_ident()

    def __bool__(self) -> bool:
        return get_ident() == self._thread


def _differentiable_rope(changes: Changes) -> None:
    """comfy-kitchen's operators have no derivative; the functions behind them do."""
    kitchen = getattr(comfy.quant_ops, "ck", None)
    plain = getattr(getattr(getattr(kitchen, "backends", None), "eager", None), "rope", None)
    for name in vars(plain) if plain is not None else ():
        if "rope" in name and not name.startswith("_") and not name.endswith("_") and hasattr(kitchen, name):
            changes.set(vars(kitchen), name, partial(_with_own_weights, getattr(plain, name)))


def differentiable_attention(changes: Changes) -> None:
    """Packs import ComfyUI's attention function by value, so it is what the function calls that is exchanged."""
    plain = attention.attention_pytorch.__wrapped__
    for function in {f for f in vars(attention).values() if hasattr(f, "__wrapped__")}:
        for cell in function.__closure__ or ():
            if cell.cell_contents is function.__wrapped__:
                changes.later(partial(setattr, cell, "cell_contents", function.__wrapped__))
                cell.cell_contents = plain


def _prepare_when_called(known: set[nn.Module], changes: Changes, origin: str) -> Any:
    """Modules that patches bring along are not part of the model; they are found when they run, in this thread."""
    here = _Here()

    def hook(module: nn.Module, args: Any) -> None:
        if here and torch.is_grad_enabled() and module not in known:
            known.add(module)
            _refuse_foreign(module, f"{origin}: a layer of a patch on this model")
            _prepare(module, changes)

    return nn.modules.module.register_module_forward_pre_hook(hook)


def _with_own_weights(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Norm weights come here straight from ComfyUI's fetch, and may be lent or inference tensors: copied, tiny."""
    return function(*(a.clone() if isinstance(a, Tensor) and a.dim() == 1 else a for a in args), **kwargs)


def _submodules(owner: Any) -> tuple[nn.Module, ...]:
    return tuple(owner.modules()) if isinstance(owner, nn.Module) else ()


def _prepare(module: nn.Module, changes: Changes) -> None:
    if _is_linear(module) or isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        if isinstance(module, comfy.ops.CastWeightBiasOp):
            return _freeze(module, changes)
    elif isinstance(module, _NORMS) and _casts(module):
        own = module.__dict__
        changes.set(own, "comfy_cast_weights", True)
        return changes.set(own, "forward_comfy_cast_weights", lambda x, m=module: frozen_norm(m, x))
    for table in (module._parameters, module._buffers):
        for key, tensor in list(table.items()):
            if tensor is not None and (tensor.is_inference() or tensor.requires_grad):
                shared = alias(tensor)
                changes.set(table, key, nn.Parameter(shared, False) if table is module._parameters else shared)


def _is_linear(module: nn.Module) -> bool:
    return hasattr(module, "in_features") and hasattr(module, "out_features") and hasattr(module, "weight")


def _is_quantised(module: nn.Module) -> bool:
    """ComfyUI's quantised Linear is no nn.Linear, and chooses its path inside forward."""
    plain = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return _is_linear(module) and isinstance(module, comfy.ops.CastWeightBiasOp) and not isinstance(module, plain)


def _forward_place(module: nn.Module) -> tuple[dict, str]:
    """Where the module's own forward is to be exchanged: behind ComfyUI's bypass LoRA, if there is one."""
    place, key = vars(module), "forward"
    while isinstance(hook := getattr(place.get(key), "__self__", None), BypassForwardHook):
        place, key = vars(hook), "original_forward"
    return place, key


def _casts(module: Any) -> bool:
    """ComfyUI will run this module through its weight-fetching path."""
    has_function = len(getattr(module, "weight_function", ())) or len(getattr(module, "bias_function", ()))
    return bool(getattr(module, "comfy_cast_weights", False) or has_function)


def _freeze(module: Any, changes: Changes) -> None:
    """Make the module a linear function that remembers only itself."""
    own = module.__dict__
    if _is_quantised(module):
        place, key = _forward_place(module)
        inner = place.get(key, module.forward)
        return changes.set(place, key, lambda x, *args, **kw: FrozenLayer.apply(x, module, inner, args, kw))
    if _casts(module):
        inner = module.forward_comfy_cast_weights
    else:
        plain = _plain_linear if isinstance(module, nn.Linear) else _plain_conv
        inner = partial(plain, module)
    changes.set(own, "comfy_cast_weights", True)
    changes.set(own, "forward_comfy_cast_weights", lambda x, *args, **kw: FrozenLayer.apply(x, module, inner, args, kw))


def _plain_linear(module: Any, x: Tensor) -> Tensor:
    return nn.Linear.forward(module, x)


def _plain_conv(module: Any, x: Tensor) -> Tensor:
    return module._conv_forward(x, module.weight, module.bias)

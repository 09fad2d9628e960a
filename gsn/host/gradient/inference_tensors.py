"""Normal tensors in place of inference tensors, which autograd refuses, and new ones in place of changed ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def alias(tensor: Tensor) -> Tensor:
    """A normal tensor (autograd may save it) over the same storage; a copy where the device cannot share storage."""
    with torch.inference_mode(False), torch.no_grad():
        if type(tensor) not in (Tensor, nn.Parameter):
            return tensor.detach().clone()
        try:
            shared = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
            return shared.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
        except (RuntimeError, NotImplementedError):
            return tensor.detach().clone()


class OutOfPlace(TorchFunctionMode):
    """`a += b` and its kin rebind `a` to a new tensor of the same values; inference tensors come in as normal ones.

    Python calls `add_` for it, so a model that writes `a.add_(b)` for its effect on `a` would be misled: such
    lines of ComfyUI's models work on parts (`a[:n].mul_(b)`), which are left in place.
    """

    _INSTEAD = {"add_": torch.add, "sub_": torch.sub, "mul_": torch.mul, "div_": torch.div}

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        if not torch.is_grad_enabled() or name in ("__get__", "__set__"):
            return function(*args, **kwargs)
        args = tuple(_normal(one) for one in args)
        kwargs = {key: _normal(one) for key, one in kwargs.items()}
        instead = self._INSTEAD.get(name)
        if instead is not None and not _is_part(args[0]):
            return instead(*args, **kwargs).to(args[0].dtype)
        return function(*args, **kwargs)


def _normal(value: Any) -> Any:
    is_plain = type(value) in (Tensor, nn.Parameter)
    return alias(value) if is_plain and value.is_inference() else value


def _is_part(tensor: Tensor) -> bool:
    return tensor._is_view() and tensor._base is not None and tensor.numel() < tensor._base.numel()

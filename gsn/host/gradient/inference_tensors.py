"""Normal tensors in place of inference tensors, which autograd refuses, and new ones in place of changed ones."""

from __future__ import annotations

import dis
import sys
from types import CodeType, FrameType
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

    Python calls `add_` for it, too; a line that calls `a.add_(b)` itself and throws the result away wants its effect on
    `a`, and has it. So do lines that work on parts (`a[:n].mul_(b)`).
    """

    _INSTEAD = {"add_": torch.add, "sub_": torch.sub, "mul_": torch.mul, "div_": torch.div}

    def __init__(self) -> None:
        super().__init__()
        self._for_effect: dict[tuple[CodeType, int], bool] = {}  # by place in the code, which is slow to read

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        if not torch.is_grad_enabled() or name in ("__get__", "__set__"):
            return function(*args, **kwargs)
        args = tuple(_normal(one) for one in args)
        kwargs = {key: _normal(one) for key, one in kwargs.items()}
        instead = self._INSTEAD.get(name)
        if instead is not None and not _is_part(args[0]) and not self._is_for_effect(sys._getframe(1)):
            return instead(*args, **kwargs).to(args[0].dtype)
        return function(*args, **kwargs)

    def _is_for_effect(self, frame: FrameType) -> bool:
        place = frame.f_code, frame.f_lasti
        if place not in self._for_effect:
            self._for_effect[place] = _for_effect(*place)
        return self._for_effect[place]


def _for_effect(code: CodeType, at: int) -> bool:
    """Whether the instruction there calls a function whose answer is thrown away, or asked for another method."""
    following = iter(dis.get_instructions(code))
    here = next((one for one in following if one.offset == at), None)
    called = here is not None and here.opname.startswith("CALL")
    return called and next(following).opname in ("POP_TOP", "LOAD_METHOD", "LOAD_ATTR")


def _normal(value: Any) -> Any:
    is_plain = type(value) in (Tensor, nn.Parameter)
    return alias(value) if is_plain and value.is_inference() else value


def _is_part(tensor: Tensor) -> bool:
    return tensor._is_view() and tensor._base is not None and tensor.numel() < tensor._base.numel()

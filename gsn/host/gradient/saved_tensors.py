"""Autograd's saved tensors stay what they were when somebody writes into them before backward.

As `torch.autograd.graph.allow_mutation_on_saved_tensors`, which is not used because it knows tensors by their address:
once it has copied one, another may be given that address, and then backward is handed the copy of the first. With
FreeU, PyTorch 2.13 did so now and then: a wrong gradient, or an error about sizes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@contextmanager
def copied_when_written() -> Iterator[None]:
    """Forward and backward must both run inside."""
    saved = _Saved()
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda one: one.tensor), _Writes(saved):
        yield


class _One:
    """A tensor as it was saved."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


class _Saved:
    def __init__(self) -> None:
        # By the storage's address, which is nobody else's as long as one of these holds it; one that let go of it
        # for a copy leaves.
        self._by_storage: defaultdict[int, WeakSet[_One]] = defaultdict(WeakSet)

    def pack(self, tensor: Tensor) -> _One:
        one = _One(tensor)
        self._by_storage[_storage(tensor)].add(one)
        return one

    def copy(self, written: Tensor) -> None:
        """Part with the storage that is about to be written into."""
        copies: dict[int, Tensor] = {}
        held = list(self._by_storage.pop(_storage(written), ()))
        for one, before in [(one, one.tensor) for one in held]:
            if id(before) not in copies:
                copies[id(before)] = before.detach().clone()
            one.tensor = copies[id(before)]


class _Writes(TorchDispatchMode):
    """Sees every operation before it runs, and what it is going to write into."""

    def __init__(self, saved: _Saved):
        super().__init__()
        self._saved = saved
        self._written: dict[Any, tuple[tuple[int, str], ...]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function not in self._written:
            self._written[function] = _arguments_written(function)
        for place, name in self._written[function]:
            for tensor in tree_leaves(args[place] if place < len(args) else kwargs.get(name)):
                if isinstance(tensor, Tensor):
                    self._saved.copy(tensor)
        return function(*args, **kwargs)


def _arguments_written(function: Any) -> tuple[tuple[int, str], ...]:
    """(place, name) of those that the operation writes into."""
    declared = enumerate(function._schema.arguments)
    return tuple((i, one.name) for i, one in declared if one.alias_info is not None and one.alias_info.is_write)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata

"""Which of the model's blocks is running, and gradient checkpointing: running one again instead of keeping it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from inspect import signature
from types import ModuleType
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from ..families import Block, Position
from .inference_tensors import OutOfPlace

_ATTENTION = "optimized_attention"  # the name by which ComfyUI's models import it
_OPTIONS, _SEEN = "transformer_options", "optimized_attention_override"  # attention is seen through the second

# What PyTorch's attention comes down to: half of a large picture's arithmetic, and a small result. Backward finds
# that result and computes only the rest of a block again.
_KEPT = [
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
]


@contextmanager
def track_blocks(blocks: Sequence[Block], last: tuple, recompute: bool = False) -> Iterator[Position]:
    """Inside, the Position tells which block runs, also while backward recomputes one.

    recompute: where the Position's `recompute` stands at first. The block of the layer `last` is always kept:
    the pass leaves it by an exception.
    """
    position = Position(recompute=recompute)
    before = [(block.module, block.module.__dict__.get("forward")) for block in blocks]
    try:
        for block in blocks:
            block.module.__dict__["forward"] = _placed(block, position, block.key == last[: len(block.key)])
        yield position
    finally:
        for module, own in before:
            if own is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = own


def _placed(block: Block, position: Position, is_last: bool) -> Any:
    inner = block.module.forward

    def run(options: dict, *args: Any, **kwargs: Any) -> Any:
        position.enter(block.key)
        told = _OPTIONS in kwargs or any(isinstance(one, dict) for one in args) or block.silent is not None
        if not told and _SEEN in options and _takes_options(inner):
            # a pack's own forward of the model: patches that it leaves out stay out
            kwargs[_OPTIONS] = {_SEEN: options[_SEEN]}
        with _passed_on(block.silent, options):
            return inner(*args, **kwargs)

    def rerun(*args: Any, **kwargs: Any) -> Any:
        with OutOfPlace():  # backward runs this outside the mode that is on in the first run
            return run(*args, **kwargs)

    def forward(*args: Any, **kwargs: Any) -> Any:
        options = position.options  # by the time of a second run another model call's may stand there
        if is_last or not position.recompute or not torch.is_grad_enabled():
            return run(options, *args, **kwargs)
        # The model goes on writing into its options; the second run must see them as they are now.
        args = tuple(dict(one) if isinstance(one, dict) else one for one in args)
        kwargs = {name: dict(one) if isinstance(one, dict) else one for name, one in kwargs.items()}
        keep = partial(create_selective_checkpoint_contexts, _KEPT)
        return checkpoint(rerun, options, *args, use_reentrant=False, context_fn=keep, **kwargs)

    return forward


def _takes_options(forward: Callable) -> bool:
    with suppress(TypeError, ValueError):  # a callable that does not say what it takes
        return _OPTIONS in signature(forward).parameters
    return False


@contextmanager
def _passed_on(silent: ModuleType | None, options: dict) -> Iterator[None]:
    """Inside, attention that this Python module calls without options is called with these."""
    if silent is None:
        yield
        return
    names = vars(silent)
    before = names[_ATTENTION]
    names[_ATTENTION] = partial(before, transformer_options=options)
    try:
        yield
    finally:
        names[_ATTENTION] = before

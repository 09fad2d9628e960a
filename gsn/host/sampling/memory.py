"""The memory estimate of a gradient pass, room for it before the run, and what to do when it was not enough."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import torch

from ...methods.model_presets import MODEL_PRESETS, ModelPreset
from ...methods.plan import CaptureSpec, Plan
from ..attention.early_exit import last_layer
from ..attention.layers import choose_layers
from ..errors import GsnError
from ..families import FAMILIES, Family

# What the driver, the allocator's gaps and ComfyUI itself want to find free besides.
_MARGIN = 1.1
# Where nothing is computed twice on a processor, glibc holds pages that were freed as well: at SD 1.5's, SDXL's and
# SD 3's shapes a process held 1.6, 1.4 and 1.2 times the estimate. A recomputing pass gives them back: see `pages`.
_UNUSED_PAGES = 1.6
# What goes into a block and what its attention gave, as a share of all that is kept of it: 0.05 to 0.26 of the models
# in lab/benchmarks/kept.py, for most 0.13 to 0.2.
_KEPT_TO_RECOMPUTE = 0.2
# Losses that look at how the picture attends to itself keep some rows of that, and keys in float32. Counted on toys in
# bfloat16 with two subjects, as bytes of the tensors saved for backward: with `self_conflict`, a row for each, 1 % more
# on SD 1.5, 4 on SDXL, 19 on SD 3; with `self_cross`, which looks at more rows, 7, 25 and 45.
_SELF_ROWS = 1.5


@dataclass(frozen=True)
class Kept:
    """Numbers that one forward and backward keeps for each cell of the latent.

    whole: of all blocks that run; largest: of one of them, which is computed again while the others wait.
    """

    whole: float
    largest: float

    def numbers(self, recompute: bool) -> float:
        return _KEPT_TO_RECOMPUTE * self.whole + self.largest if recompute else self.whole

    def bytes(self, model: Any, shape: Any, device: Any, recompute: bool) -> int:
        """For a latent of this shape, [B, C, ..., h, w]."""
        pages = _UNUSED_PAGES if torch.device(device).type == "cpu" and not recompute else 1.0
        cells = shape[0] * math.prod(shape[2:])
        return int(self.numbers(recompute) * pages * cells * mm.dtype_size(model.get_dtype_inference()))


def kept(family: Family, preset: ModelPreset, model: Any, spec: CaptureSpec, needs: frozenset[str]) -> Kept:
    """By the blocks that run until the last layer that is read. Raises GsnError where there is none: `choose_layers`.

    Against what was counted tensor by tensor on models of real size (lab/benchmarks/kept.py) it is 12 % too low to 30 %
    too high; with blocks computed twice up to 75 % too high.
    """
    last = last_layer(family.layers(model), choose_layers(family, model, spec, preset), needs)
    blocks = family.blocks(model)
    end = max(i for i, block in enumerate(blocks) if block.key == last[: len(block.key)])
    rows = _SELF_ROWS if "self_rows" in needs else 1.0
    weights = [block.weight * rows for block in blocks[: end + 1]]
    return Kept(sum(weights), max(weights))


@dataclass(frozen=True)
class Strategy:
    """How a gradient pass is run; the result is the same."""

    recompute: bool  # keep only what goes into each block, and run it again in backward
    one_by_one: bool  # one image of the batch after another


def fitting_strategy(choice: str, kept: Kept, model: Any, shape: Any, device: Any) -> Strategy:
    """The fastest one whose estimate fits into what is free, or the leanest.

    choice: "fast" never recomputes, "low" always does, "auto" as it has to. Images one by one cost next to nothing,
    so that comes first.
    """
    free = mm.get_free_memory(device)
    strategies = [
        Strategy(recompute, one_by_one)
        for recompute in {"fast": (False,), "low": (True,)}.get(choice, (False, True))
        for one_by_one in ((False, True) if shape[0] > 1 else (False,))
    ]
    for one in strategies:
        images = (1, *shape[1:]) if one.one_by_one else shape
        if kept.bytes(model, images, device, one.recompute) * _MARGIN <= free:
            return one
    return strategies[-1]


class EstimateWrapper:
    """PREPARE_SAMPLING wrapper: ask ComfyUI for room as if the batch were larger; nothing else changes."""

    def __init__(self, plan: Plan):
        self.recompute = plan.capture is not None and plan.capture.memory == "low"
        self.spec = plan.capture or CaptureSpec()
        self.needs = tuple(action.needs for action in plan.live_actions() if action.intervention.gradients)

    def __call__(self, executor: Any, model: Any, noise_shape: Any, conds: Any, *args: Any, **kwargs: Any) -> Any:
        family = next((one for one in FAMILIES if one.preset_name(model.model) is not None), None)
        shape = list(noise_shape)
        if family is not None and self.needs:
            wanted = self._most(family, model, shape)
            plain = model.memory_required(shape)
            shape[0] = math.ceil(shape[0] * max(1.0, wanted / max(plain, 1)))
        return executor(model, shape, conds, *args, **kwargs)

    def _most(self, family: Family, model: Any, shape: list[int]) -> int:
        preset = MODEL_PRESETS[family.preset_name(model.model)]
        try:
            all_kept = [kept(family, preset, model.model, self.spec, needs) for needs in self.needs]
        except GsnError:  # the blocks are not there; `prepare` says so, with all that it checks before
            return 0
        return max(one.bytes(model.model, shape, model.load_device, self.recompute) for one in all_kept)


# mallopt's parameters: what glibc itself works up to in a process that frees large blocks, all kept, nothing kept.
_USUAL = {-3: 32 * 2**20, -1: 64 * 2**20, -2: 2**17}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD
# A thread's memory comes in heaps of 64 MiB, of which an empty one is given back but for what M_TOP_PAD asks to stay.
_KEEP_ALL = {-3: 2**31 - 1, -1: 2**31 - 1, -2: 64 * 2**20}
_KEEP_NONE = dict.fromkeys(_USUAL, 2**17)  # what glibc starts with
_OWN_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


@contextmanager
def pages(device: Any, keep: bool) -> Iterator[None]:
    """While inside, glibc keeps the blocks that are freed, or gives each back at once; on leaving it gives all back.

    keep: every iteration would get its gigabytes from the system anew, zeroed page by page: a quarter of the time of a
    pass on the processor. Not keeping needs the least memory: left to itself, glibc holds almost twice what is in use.
    Does nothing on other devices, and where somebody has set the allocator up himself.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" and device.type == "cpu" else None
    if not hasattr(libc, "mallopt") or any(name in os.environ for name in _OWN_SETTINGS):
        yield
        return
    for parameter, value in (_KEEP_ALL if keep else _KEEP_NONE).items():
        libc.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _USUAL.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    return mm.is_oom(error)


def release() -> None:
    mm.soft_empty_cache()


def out_of_memory(origin: str, x_shape: tuple[int, ...]) -> Exception:
    """ComfyUI's own error class, so that the executor unloads models, with advice."""
    height, width = x_shape[-2] * 8, x_shape[-1] * 8
    return mm.OOM_EXCEPTION(
        f"{origin}: out of memory while computing gradients for {x_shape[0]} image(s) of about {width}x{height},"
        " also one image at a time and with blocks recomputed. Lower the image size or the batch size, choose fewer"
        " or coarser blocks in AttentionCapture, or load the model in a smaller precision."
    )

"""Memory: what a gradient pass needs, room for it before the run, and what to do when it was not enough."""

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

from ..model_presets import MODEL_PRESETS, ModelPreset
from ..plan import CaptureSpec, GsnError, Plan
from .capture import choose_layers, last_layer
from .families import FAMILIES, Family

# What the driver, the allocator's gaps and ComfyUI itself want to find free besides.
_MARGIN = 1.1


# Losses that look at how the picture attends to itself keep some rows of that, and keys in float32. Counted on toys in
# bfloat16 with two subjects, as bytes of the tensors saved for backward: with `self_conflict`, a row for each, 1 % more
# on SD 1.5, 4 on SDXL, 19 on SD 3; with `self_cross`, which looks at more rows, 7, 25 and 45.
_SELF_ROWS = 1.5


def needed(preset: ModelPreset, model: Any, shape: Any, recompute: bool, share: float = 1.0) -> int:
    """Bytes that one forward and backward keeps for a latent of this shape, [B, C, ..., h, w]; see `share_of`."""
    cells = shape[0] * math.prod(shape[2:])
    values = preset.memory[1 if recompute else 0]
    return int(1000 * values * share * cells * mm.dtype_size(model.get_dtype_inference()))


def share_of(family: Family, preset: ModelPreset, model: Any, spec: CaptureSpec, needs: frozenset[str]) -> float:
    """What a pass keeps, as a share of one that reads the family's own blocks for the subjects' maps alone.

    By the weights of the blocks that run. Counted on toys of SD 1.5, SDXL and Flux it is right within a tenth for
    passes that end later than the family's own, and too high by up to a half for those that end in the first blocks.
    """
    offered = family.layers(model)
    own, chosen = (choose_layers(family, model, one, preset) for one in (CaptureSpec(), spec))
    usual, kept = (_kept(family, model, last_layer(offered, *one)) for one in ((own, frozenset()), (chosen, needs)))
    return kept / usual * (_SELF_ROWS if "self_rows" in needs else 1.0)


def _kept(family: Family, model: Any, last: tuple) -> float:
    """By the blocks down to that of the layer `last`, in no unit."""
    blocks = family.blocks(model)
    end = max(i for i, block in enumerate(blocks) if block.key == last[: len(block.key)])
    return sum(block.weight for block in blocks[: end + 1])


@dataclass(frozen=True)
class Way:
    """How a gradient pass is run; the result is the same."""

    recompute: bool  # keep only what goes into each block, and run it again in backward
    one_by_one: bool  # one image of the batch after another


def way_to_fit(choice: str, preset: ModelPreset, model: Any, shape: Any, device: Any, share: float = 1.0) -> Way:
    """The fastest way whose estimate fits into what is free, or the leanest.

    choice: "fast" never recomputes, "low" always does, "auto" as it has to. Images one by one cost next to nothing,
    so that comes first.
    """
    free = mm.get_free_memory(device)
    ways = [
        Way(recompute, one_by_one)
        for recompute in {"fast": (False,), "low": (True,)}.get(choice, (False, True))
        for one_by_one in ((False, True) if shape[0] > 1 else (False,))
    ]
    for way in ways:
        images = (1, *shape[1:]) if way.one_by_one else shape
        if needed(preset, model, images, way.recompute, share) * _MARGIN <= free:
            return way
    return ways[-1]


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
            preset = MODEL_PRESETS[family.preset_name(model.model)]
            share = self._largest_share(family, preset, model.model)
            wanted = needed(preset, model.model, shape, self.recompute, share)
            plain = model.memory_required(shape)
            shape[0] = math.ceil(shape[0] * max(1.0, wanted / max(plain, 1)))
        return executor(model, shape, conds, *args, **kwargs)

    def _largest_share(self, family: Family, preset: ModelPreset, model: Any) -> float:
        try:
            return max(share_of(family, preset, model, self.spec, needs) for needs in self.needs)
        except GsnError:  # the blocks are not there; `prepare` says so, with all that it checks before
            return 1.0


# mallopt's parameters, and the values that glibc itself works up to in a process that frees large blocks.
_MALLOPT = {-3: 32 * 2**20, -1: 64 * 2**20}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
_KEEP_ALL, _KEEP_NONE = 2**31 - 1, 2**17  # what glibc starts with
_OWN_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


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
    for parameter in _MALLOPT:
        libc.mallopt(parameter, _KEEP_ALL if keep else _KEEP_NONE)
    try:
        yield
    finally:
        for parameter, usual in _MALLOPT.items():
            libc.mallopt(parameter, usual)
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

"""Memory: what a gradient pass needs, room for it before the run, and what to do when it was not enough."""

from __future__ import annotations

import math
from typing import Any

import comfy.model_management as mm

from ..plan import Plan
from ..presets import MODEL_PRESETS, ModelPreset
from .families import FAMILIES

# What the driver, the allocator's gaps and ComfyUI itself want to find free besides.
_MARGIN = 1.1


def needed(preset: ModelPreset, model: Any, shape: Any, recompute: bool) -> int:
    """Bytes that one forward and backward keeps for a latent of this shape, [B, C, ..., h, w]."""
    cells = shape[0] * math.prod(shape[2:])
    values = preset.memory[1 if recompute else 0]
    return int(1000 * values * cells * mm.dtype_size(model.get_dtype_inference()))


def has_to_recompute(choice: str, preset: ModelPreset, model: Any, shape: Any, device: Any) -> bool:
    """choice: "fast" keeps everything, "low" recomputes; "auto" recomputes where the estimate says it must."""
    if choice != "auto":
        return choice == "low"
    return needed(preset, model, shape, recompute=False) * _MARGIN > mm.get_free_memory(device)


class EstimateWrapper:
    """PREPARE_SAMPLING wrapper: ask ComfyUI for room as if the batch were larger; nothing else changes."""

    def __init__(self, plan: Plan):
        self.recompute = plan.capture is not None and plan.capture.memory == "low"

    def __call__(self, executor: Any, model: Any, noise_shape: Any, conds: Any, *args: Any, **kwargs: Any) -> Any:
        names = [family.preset_name(model.model) for family in FAMILIES]
        name = next((one for one in names if one is not None), None)
        shape = list(noise_shape)
        if name is not None:
            wanted = needed(MODEL_PRESETS[name], model.model, shape, self.recompute)
            plain = model.memory_required(shape)
            shape[0] = math.ceil(shape[0] * max(1.0, wanted / max(plain, 1)))
        return executor(model, shape, conds, *args, **kwargs)


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

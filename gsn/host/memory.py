"""Memory: a larger estimate for ComfyUI before the run, and what to do when it was not enough."""

from __future__ import annotations

from typing import Any

import comfy.model_management as mm

# A truncated forward and backward needs about 3 times the estimate ComfyUI makes for a plain pass
# (SD1.5, 512x512, fp32, measured on a CPU; on a GPU untested).
GRADIENT_FACTOR = 3


def estimate_wrapper(executor: Any, model: Any, noise_shape: Any, conds: Any, *args: Any, **kwargs: Any) -> Any:
    """PREPARE_SAMPLING wrapper: ask for room as if the batch were larger; nothing else changes."""
    shape = [noise_shape[0] * GRADIENT_FACTOR, *list(noise_shape)[1:]]
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
        " also one image at a time. Lower the image size or the batch size, choose fewer or coarser blocks in"
        " AttentionCapture, or load the model in a smaller precision."
    )

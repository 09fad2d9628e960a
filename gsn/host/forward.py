"""One conditioning entry's model call, cut off after the last attention layer that is read."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import comfy.samplers
import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch import Tensor

from ..maps import AttentionMaps, MapProcessing
from ..subjects import Subjects
from .capture import CaptureDone, Collector
from .differentiable import alias
from .families import Family, Layer, Position

# Wrappers that keep state from step to step, or a compiled model: an extra call would disturb them.
_STATEFUL = ("easycache", "lazycache", "torch.compile")


@dataclass(frozen=True)
class OpenedStep:
    """The sampler's state at an opened step.

    x: [B, C, h, w] float32, the host's scale; sigma: scalar tensor; scale: z = scale * x (papers' VP latent).
    """

    x: Tensor
    sigma: Tensor
    scale: float
    model: Any  # comfy.model_base.BaseModel
    model_k: Any  # KSamplerX0Inpaint, which holds latent_image and noise
    extra_args: dict

    def blended(self, x: Tensor, rows: slice) -> Tensor:
        """What the network sees of x under an inpaint mask; its gradient is thereby masked as well."""
        mask = self.extra_args.get("denoise_mask")
        if mask is None:
            return x
        options, sigma = self.extra_args["model_options"], self.sigma.expand(x.shape[0])
        if "denoise_mask_function" in options:
            extra = {"model": self.model_k.inner_model, "sigmas": self.model_k.sigmas}
            mask = options["denoise_mask_function"](sigma, mask, extra_options=extra)
        outside = self.model.scale_latent_inpaint(
            x=x.detach(), sigma=sigma, noise=_rows(self.model_k.noise, rows),
            latent_image=_rows(self.model_k.latent_image, rows),
        )  # fmt: skip
        mask = _rows(mask, rows).detach().clone()
        return x * mask + (outside * (1.0 - mask)).detach().clone()


@dataclass(frozen=True)
class Reading:
    """What is read of this model in every call."""

    family: Family
    layers: tuple[Layer, ...]
    processing: MapProcessing

    def columns(self, subjects: Subjects) -> tuple[int, ...] | None:
        """The positions on the text axis that the maps are made of; None where padding competes as well."""
        if self.processing.columns != "words":
            return None
        return tuple(stream.offset + p for stream in subjects.streams for p in stream.words)


class EntryForward:
    """z -> AttentionMaps for one positive entry; the `Forward` that interventions call."""

    def __init__(
        self, entry: dict, subjects: Subjects, reading: Reading, position: Position, step: OpenedStep
    ):
        self.subjects = subjects
        self._entry = entry
        self._reading = reading
        self._position = position
        self._step = step
        self._z0 = step.x * step.scale

    def __call__(self, latent: Tensor, rows: slice) -> AttentionMaps:
        step = self._step
        x = step.x[rows] + (latent - self._z0[rows]) / step.scale  # equals the sampler's x bit for bit at z0
        x = step.blended(x, rows)
        entry = _rows_of_entry(self._entry, rows, step.x.shape[0])
        options = plain_options(step.extra_args["model_options"])
        collector = Collector(self._reading.layers, self._reading.columns(self.subjects))
        options["transformer_options"]["optimized_attention_override"] = _pytorch_attention
        self._reading.family.attach(options, collector.sink, self._position, self.subjects.text_length)
        sigma = step.sigma.detach().clone().expand(x.shape[0])
        self._apply_hooks(entry, sigma, options)
        with suppress(CaptureDone):
            comfy.samplers.calc_cond_batch(step.model, [[entry]], x, sigma, options)
        return collector.maps()

    def _apply_hooks(self, entry: dict, sigma: Tensor, options: dict) -> None:
        """LoRA hooks write weights in place, which inference tensors allow in inference mode only."""
        hooks = entry.get("hooks")
        patcher = self._step.model.current_patcher
        with torch.inference_mode():
            if hooks is not None:
                patcher.prepare_hook_patches_current_keyframe(sigma, hooks, options)
            patcher.apply_hooks(hooks=hooks)


def plain_options(model_options: dict) -> dict:
    """A clone of the run's model options without what must not see extra calls."""
    options = comfy.model_patcher.create_model_options_clone(model_options)
    options.pop("multigpu_clones", None)  # that path runs without gradients
    transformer = options.setdefault("transformer_options", {})
    wrappers = {kind: {key: value for key, value in table.items() if key not in _STATEFUL}
                for kind, table in transformer.get("wrappers", {}).items()}  # fmt: skip
    transformer["wrappers"] = wrappers
    return options


def _pytorch_attention(function: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Other backends have no backward, or keep everything for it."""
    return attention_pytorch(*args, **kwargs)


def detached(entry: dict) -> dict:
    """The entry with its ControlNet run outside the graph."""
    if entry.get("control") is None:
        return entry
    return {**entry, "control": _DetachedControl(entry["control"])}


class _DetachedControl:
    """A ControlNet whose residuals are constants."""

    def __init__(self, control: Any):
        self.__dict__["_control"] = control

    def __getattr__(self, name: str) -> Any:
        return getattr(self._control, name)

    def get_control(self, x: Tensor, t: Tensor, cond: Any, number: int, transformer_options: dict) -> Any:
        with torch.inference_mode():
            found = self._control.get_control(x.detach(), t, cond, number, transformer_options)
        if not found:
            return found
        return {key: [None if r is None else alias(r) for r in residuals] for key, residuals in found.items()}


def _rows(tensor: Tensor, rows: slice) -> Tensor:
    """The images `rows` of a tensor that has one entry per image, or one for all."""
    return tensor if tensor is None or tensor.shape[0] == 1 else tensor[rows]


def _rows_of_entry(entry: dict, rows: slice, batch: int) -> dict:
    """The entry for some images of the batch: ComfyUI would repeat the first image's conditioning."""
    if rows == slice(0, batch):
        return entry
    conds = {}
    for name, cond in entry["model_conds"].items():
        tensor = getattr(cond, "cond", None)
        per_image = isinstance(tensor, Tensor) and tensor.shape[0] == batch > 1
        conds[name] = cond._copy_with(tensor[rows]) if per_image else cond
    cut = {**entry, "model_conds": conds}
    if isinstance(entry.get("mask"), Tensor):
        cut["mask"] = _rows(entry["mask"], rows)
    return cut

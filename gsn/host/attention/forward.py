"""One conditioning entry's model call, cut off after the last attention layer that is read."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from functools import partial
from types import FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import comfy.conds
import comfy.model_patcher
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...attention.maps import AttentionMaps, MapProcessing
from ...interventions.context import History, NoiseLevel
from ...text.subjects import Subjects
from ..errors import GsnError
from ..families import Family, ImageAttention, Layer, Position, TextAttention
from ..families.family import Sink
from ..gradient.inference_tensors import alias
from .capture import Collector
from .early_exit import CaptureDone, last_layer

# Wrappers that keep state from step to step, or a compiled model: an extra call would disturb them.
_STATEFUL = ("easycache", "lazycache", "torch.compile")
EDIT_KEY = "gsn_edit"  # our own edits of ordinary calls; maps are read of the model as it is
_CALLED_INSTEAD = "model_function_wrapper"
_ANSWERED = (
    "AttentionCapture: another node on this model left out layers that are read, as caches do (TeaCache and its kin);"
    " maps and gradients are those of the model without that node, which goes on working in the ordinary steps"
)


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
    rewind: Callable[[], None] = lambda: None  # see `unnoticed`
    tell: Callable[[str], None] = lambda text: None  # the user, once

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


def noise_level(sampling: Any, sigma: Tensor) -> NoiseLevel:
    """From the model's own mixing of picture and noise; sampling: ComfyUI's model_sampling."""
    sigma = sigma.reshape(1)
    one, zero = torch.ones(1, device=sigma.device), torch.zeros(1, device=sigma.device)
    alpha = sampling.noise_scaling(sigma, zero.clone(), one.clone())
    spread = sampling.noise_scaling(sigma, one.clone(), zero.clone())
    scale = vp_scale(sampling, sigma)
    return NoiseLevel(float(alpha) * scale, float(spread) * scale)


def vp_scale(sampling: Any, sigma: Tensor) -> float:
    """The papers' latent over the sampler's."""
    return float(sampling.calculate_input(sigma.reshape(1), torch.ones(1, device=sigma.device)))


@dataclass(frozen=True)
class Reading:
    """What is read of this model in every call."""

    family: Family
    layers: tuple[Layer, ...]
    fine: tuple[Layer, ...]  # read as well where a loss needs more detail
    offered: tuple[Layer, ...]  # all there are, in the order in which they run
    processing: MapProcessing

    def last(self, needs: frozenset[str]) -> tuple:
        """Key of the layer after which a call may end."""
        return last_layer(self.offered, self.layers, needs)

    def collector(self, subjects: Subjects, needs: frozenset[str]) -> Collector:
        fine = self.fine if "fine" in needs else None
        apart = self.offered if "blocks" in needs else ()
        return Collector(self.layers, self.columns(subjects), fine, "self_rows" in needs, self.last(needs), apart)

    def columns(self, subjects: Subjects) -> tuple[int, ...] | None:
        """The positions on the text axis that the maps are made of; None where padding competes as well."""
        if self.processing.columns != "words":
            return None
        return subjects.word_columns()


class EntryForward:
    """z -> AttentionMaps for one positive entry; the `Forward` that interventions call."""

    def __init__(
        self, entry: dict, subjects: Subjects, history: History, reading: Reading, needs: frozenset[str],
        position: Position, step: OpenedStep,
    ):  # fmt: skip
        self.subjects = subjects
        self.history = history
        self.entry = entry
        self._reading = reading
        self._needs = needs
        self._position = position
        self._step = step
        self._z0 = step.x * step.scale
        self._itself = False  # ask the model itself, as another node has answered in its place

    def __call__(self, latent: Tensor, rows: slice) -> AttentionMaps:
        step = self._step
        step.rewind()
        x = step.x[rows] + (latent - self._z0[rows]) / step.scale  # equals the sampler's x bit for bit at z0
        x = step.blended(x, rows)
        entry = _rows_of_entry(self.entry, rows, step.x.shape[0])
        collector = self._called(entry, x)
        if not collector.closed and not self._itself and _CALLED_INSTEAD in step.extra_args["model_options"]:
            self._itself = True
            step.tell(_ANSWERED)
            collector = self._called(entry, x)
        return collector.maps()

    def _called(self, entry: dict, x: Tensor) -> Collector:
        """What one call of the model reported."""
        step = self._step
        options = plain_options(step.extra_args["model_options"])
        if self._itself:
            del options[_CALLED_INSTEAD]
        collector = self._reading.collector(self.subjects, self._needs)
        text = self.subjects.text_length
        sink = partial(_of_these_images, collector.sink, x.shape[0])
        self._reading.family.attach(options, sink, self._position, text, collector.images)
        sigma = step.sigma.detach().clone().expand(x.shape[0])
        self._apply_hooks(entry, sigma, options)
        with unnoticed(step.extra_args["model_options"], step.model, x.device), suppress(CaptureDone):
            comfy.samplers.calc_cond_batch(step.model, [[entry]], x, sigma, options)
        return collector

    def _apply_hooks(self, entry: dict, sigma: Tensor, options: dict) -> None:
        """LoRA hooks write weights in place, which inference tensors allow in inference mode only."""
        hooks = entry.get("hooks")
        patcher = self._step.model.current_patcher
        with torch.inference_mode():
            if hooks is not None:
                patcher.prepare_hook_patches_current_keyframe(sigma, hooks, options)
            patcher.apply_hooks(hooks=hooks)


def _of_these_images(sink: Sink, images: int, key: tuple, call: TextAttention | ImageAttention) -> None:
    if isinstance(call, TextAttention) and len(call.q) != images:
        raise GsnError(
            f"AttentionCapture: another node on this model runs {len(call.q)} rows through the attention for"
            f" {images} image(s) (a negative prompt beside them, for example), so which row is whose is not known;"
            " leave that node out"
        )
    sink(key, call)


def plain_options(model_options: dict) -> dict:
    """A clone of the run's model options without what must not see extra calls."""
    options = comfy.model_patcher.create_model_options_clone(model_options)
    options.pop("multigpu_clones", None)  # that path runs without gradients
    options.pop("context_handler", None)  # context windows: it would be several calls, each of a part
    transformer = options.setdefault("transformer_options", {})
    transformer.pop("optimized_attention_override", None)  # `differentiable` chooses the attention
    wrappers = {kind: {key: value for key, value in table.items() if key not in (*_STATEFUL, EDIT_KEY)}
                for kind, table in transformer.get("wrappers", {}).items()}  # fmt: skip
    transformer["wrappers"] = wrappers
    return options


@contextmanager
def unnoticed(model_options: dict, model: Any, device: torch.device) -> Iterator[Callable[[], None]]:
    """Inside, a call begins as the sampler's next call will, and the patches on the model do not remember it.

    Patches draw random numbers (token merging, tiling), and keep things from one part of a call to another in
    their own attributes or closures, or on the network (a BaseModel's); a call that is cut off, or a backward that
    recomputes, would leave them in the middle. Yields what takes their memory back to the beginning.
    """
    undo: list[Callable[[], None]] = []
    seen: set[int] = set()
    _remember(model_options, undo, 2, seen)
    _remember_added(model.diffusion_model, undo, seen)

    def rewind() -> None:
        for one in undo:
            one()

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield rewind
        finally:
            rewind()


def _remember(value: Any, undo: list[Callable[[], None]], depth: int, seen: set[int], pack: str | None = None) -> None:
    """Note down what a patch holds: entries of containers, variables of closures, attributes of plain objects.

    depth: how many functions or objects inside one another are looked into. pack: the package that brought the patch,
    once that is known. What is of another package's making (a server, a logger, a queue), and what holds a lock or a
    thread, lives on beside the call and is left alone.
    """
    if id(value) in seen:
        return
    seen.add(id(value))
    held: list[Any] = []
    if isinstance(value, (dict, list, set)):
        undo.append(partial(_restore, value, copy(value)))
        held = list(value.values()) if isinstance(value, dict) else list(value)
    elif isinstance(value, tuple):
        held = list(value)
    elif depth == 0 or isinstance(value, (Tensor, nn.Module, ModelPatcher, type, ModuleType)):
        return
    elif isinstance(value, FunctionType):
        depth, pack = depth - 1, pack or _package(value)
        for cell in value.__closure__ or ():
            with suppress(ValueError):  # a variable that has no value yet
                held.append(cell.cell_contents)
                undo.append(partial(setattr, cell, "cell_contents", held[-1]))
    elif isinstance(value, (MethodType, partial)):
        held = [value.__self__] if isinstance(value, MethodType) else [value.func, *value.args]
    elif hasattr(value, "__dict__") and _is_of(type(value), pack) and not _lives_in_threads(value):
        depth, pack = depth - 1, pack or _package(type(value))
        held = [vars(value)]
    for one in held:
        _remember(one, undo, depth, seen, pack)


def _package(made: Any) -> str:
    return str(made.__module__).partition(".")[0]


def _is_of(kind: type, pack: str | None) -> bool:
    return pack is None or kind is SimpleNamespace or _package(kind) == pack


def _lives_in_threads(value: Any) -> bool:
    return any(isinstance(one, _OF_THREADS) for one in vars(value).values())


_OF_THREADS = (
    type(threading.Lock()), type(threading.RLock()), threading.Thread, threading.Event, threading.Condition,
    threading.Semaphore, queue.SimpleQueue, queue.Queue,
)  # fmt: skip


def _remember_added(network: nn.Module, undo: list[Callable[[], None]], seen: set[int]) -> None:
    """Note down the network's attributes but for PyTorch's own tables, which others here exchange meanwhile."""
    own, tables = vars(network), vars(nn.Module()).keys()
    before = {name: value for name, value in own.items() if name not in tables}

    def back() -> None:
        for name in own.keys() - tables - before.keys():
            del own[name]
        own.update(before)

    undo.append(back)
    for value in before.values():
        _remember(value, undo, 1, seen)


def _restore(container: Any, before: Any) -> None:
    """Only what is different is touched, and the container is never empty meanwhile: another thread may look at it."""
    if isinstance(container, list):
        if len(container) != len(before) or any(a is not b for a, b in zip(container, before, strict=False)):
            container[:] = before
    elif isinstance(container, set):
        container.difference_update(container - before)
        container.update(before)
    else:
        for key in container.keys() - before.keys():
            container.pop(key, None)
        for key, value in before.items():
            if container.get(key, _GONE) is not value:
                container[key] = value


_GONE = object()


def detached(entry: dict) -> dict:
    """The entry with its ControlNet run outside the graph."""
    if entry.get("control") is None:
        return entry
    return {**entry, "control": _DetachedControl(entry["control"])}


class _DetachedControl:
    """A ControlNet whose residuals are constants, and which keeps what it prepares for these calls to itself."""

    def __init__(self, control: Any):
        self.__dict__["_control"] = _own_control(control)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._control, name)

    def get_control(self, x: Tensor, t: Tensor, cond: Any, number: int, transformer_options: dict) -> Any:
        with torch.inference_mode():
            found = self._control.get_control(x.detach(), t, cond, number, transformer_options)
        if not found:
            return found
        return {key: [None if r is None else alias(r) for r in residuals] for key, residuals in found.items()}

    def of_images(self, rows: slice, batch: int) -> _DetachedControl:
        """For some images of the batch: ComfyUI would give them the first image's hint."""
        return _DetachedControl(_own_control(self._control, rows, batch))


def _own_control(control: Any, rows: slice | None = None, batch: int = 1) -> Any:
    """A ControlNet, with those before it, whose calls leave the given one as it was.

    ComfyUI keeps hints cut or repeated to the last call's number of images, and a T2I adapter's answer for good.
    """
    own = copy(control)
    if hasattr(own, "control_input"):
        own.control_input = None
    for name in ("cond_hint_original", "cond_hint") if rows is not None else ():
        hint = getattr(own, name, None)
        if isinstance(hint, Tensor):
            setattr(own, name, _rows(hint[:batch], rows))
    if getattr(own, "previous_controlnet", None) is not None:
        own.previous_controlnet = _own_control(own.previous_controlnet, rows, batch)
    return own


def _rows(tensor: Tensor, rows: slice) -> Tensor:
    """The images `rows` of a tensor that has one entry per image, or fewer, which ComfyUI gives to them in turn."""
    if tensor is None or tensor.shape[0] == 1:
        return tensor
    if rows.stop <= tensor.shape[0]:
        return tensor[rows]
    return tensor[[row % tensor.shape[0] for row in range(rows.start, rows.stop)]]


def _rows_of_entry(entry: dict, rows: slice, batch: int) -> dict:
    """The entry for some images of the batch: ComfyUI would take the first images' conditioning for them."""
    if rows == slice(0, batch):
        return entry
    conds = {name: _rows_of_cond(cond, rows) for name, cond in entry["model_conds"].items()}
    cut = {**entry, "model_conds": conds}
    if isinstance(entry.get("mask"), Tensor):
        cut["mask"] = _rows(entry["mask"], rows)
    if entry.get("control") is not None:
        cut["control"] = entry["control"].of_images(rows, batch)
    return cut


def _rows_of_cond(cond: Any, rows: slice) -> Any:
    """cond: one of ComfyUI's `comfy.conds`; what they repeat to the batch is a tensor, or a list of them."""
    if isinstance(cond, comfy.conds.CONDList):
        return cond._copy_with([_rows(one, rows) for one in cond.cond])
    if isinstance(cond, comfy.conds.CONDRegular) and not isinstance(cond, comfy.conds.CONDConstant):
        return cond._copy_with(_rows(cond.cond, rows))
    return cond

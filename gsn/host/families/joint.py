"""What the transformers have in common: one attention over a sequence that holds text and image.

A family file gives a `Joint` its facts. Calls are seen through ComfyUI's `optimized_attention_override`,
after everything a model does to queries and keys (norms, rotary positions), and addressed by the block
that is running.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor, nn

from ..errors import GsnError
from .edited import Place, edited_attention
from .family import (
    Block,
    EditedImages,
    ImageAttention,
    Layer,
    Position,
    Sink,
    TextAttention,
    is_kind,
    own_preset,
    tokens_brought,
)
from .fused_attention import attend, can_attend

Where = Callable[[Any, int, int, int, int], "tuple[int, int] | None"]


def text_first(network: Any, queries: int, keys: int, text: int, image: int) -> tuple[int, int] | None:
    """Text, then the image (then reference images, if any; where they are cached, only their keys are there)."""
    return (0, text) if keys >= queries >= text + image else None


def image_last(network: Any, queries: int, keys: int, text: int, image: int) -> tuple[int, int] | None:
    """Text, then whatever the model puts between (more text, reference images), then the image."""
    return (0, keys - image) if queries == keys >= text + image else None


def image_first(network: Any, queries: int, keys: int, text: int, image: int) -> tuple[int, int] | None:
    """The image, then the text."""
    return (image, 0) if queries == keys == text + image else None


def image_then_texts(network: Any, queries: int, keys: int, text: int, image: int) -> tuple[int, int] | None:
    """The image, then the text, then more text of another encoder."""
    return (image, 0) if queries == keys >= text + image else None


def cross(network: Any, queries: int, keys: int, text: int, image: int) -> tuple[int, int] | None:
    """Image queries on text keys alone."""
    return (0, 0) if (queries, keys) == (image, text) else None


def cross_first(network: Any, queries: int, keys: int, text: int, image: int) -> tuple[int, int] | None:
    """Image queries on the text's keys, then whatever the model puts behind them (more text, filling)."""
    return (0, 0) if queries == image and keys >= text else None


_APART = (cross, cross_first)  # the image meets itself in an attention call of its own


@dataclass(frozen=True, kw_only=True)
class Joint:
    """kinds: (name of a model_base class, preset name), the most special first.
    parts: the network -> (part name, its blocks in order); patch: latent cells per token and side.
    kept: of each part, numbers that a gradient pass keeps of a block for each that its layers give; see
    lab/benchmarks/kept.py.
    where: (network, query count, key count, text length, image tokens) -> (first text key, first image query),
    or None for a call that is not text meeting image. given: the encoder's text length -> the conditioning's,
    where the model's `extra_conds` pads it. brought: see `Family`. call: which attention call of a block it is, for
    those that cannot be told apart by their lengths. silent: see Block. counts_references: the model says how many
    tokens its reference images have, so that tokens of another pack's, which would move the text, are noticed.
    most: the network -> how many tokens of text it reads, where it leaves out what comes behind.
    """

    title: str
    kinds: tuple[tuple[str, str], ...]
    parts: Callable[[Any], Iterable[tuple[str, Iterable[nn.Module]]]]
    patch: Callable[[Any], int]
    kept: Mapping[str, float]
    where: Where = text_first
    given: Callable[[int], int] = int
    brought: Callable[[dict], int] = tokens_brought
    call: int | None = None
    silent: str = ""
    counts_references: bool = False
    most: Callable[[Any], int] | None = None

    by_override: ClassVar[bool] = True

    def preset_name(self, model: Any) -> str | None:
        return next((own_preset(model) or name for kind, name in self.kinds if is_kind(model, kind)), None)

    def blocks(self, model: Any) -> tuple[Block, ...]:
        cells, silent = self.patch(model.diffusion_model) ** 2, sys.modules.get(self.silent)
        return tuple(
            Block((part, number), module, self.kept[part] / cells, silent)
            for part, modules in self.parts(model.diffusion_model)
            for number, module in enumerate(modules)
        )

    def layers(self, model: Any) -> tuple[Layer, ...]:
        ratio = 1 / self.patch(model.diffusion_model)
        return tuple(Layer(block.key, *block.key, ratio) for block in self.blocks(model))

    def most_text(self, model: Any) -> int | None:
        return None if self.most is None else self.most(model.diffusion_model)

    def attach(self, model_options: dict, sink: Sink, position: Position, text: int, images: bool = False) -> None:
        def wrapper(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
            # here, because only now are the picture's size and the text's length known
            network = executor.class_obj.diffusion_model
            patch = self.patch(network)
            position.enter(())
            grid = (-(-x.shape[-2] // patch), -(-x.shape[-1] // patch))
            options = dict(transformer_options or {})
            # in the place of another pack's: which attention is computed is for `differentiable` to say
            options["optimized_attention_override"] = _Watch(
                partial(self.where, network),
                sink,
                position,
                text,
                grid,
                self.call,
                self.given(text) + grid[0] * grid[1] if self.counts_references else None,
                ("apart" if self.where in _APART else "together") if images else None,
            )
            position.options = options
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

        add_wrapper_with_key(
            WrappersMP.APPLY_MODEL, "gsn_capture", wrapper, model_options.setdefault("transformer_options", {})
        )

    def edit(self, model: Any, options: dict, images: tuple[EditedImages, ...], position: Position, shape: Any) -> None:
        patch = self.patch(model.diffusion_model)
        grid = (-(-shape[-2] // patch), -(-shape[-1] // patch))
        before = options.get("optimized_attention_override")
        where = partial(self.where, model.diffusion_model)
        tokens = [self.given(one.text) + grid[0] * grid[1] if self.counts_references else None for one in images]
        options["optimized_attention_override"] = _Edit(where, images, tokens, position, grid, self.call, before)


@dataclass(frozen=True)
class _Watch:
    where: Callable[[int, int, int, int], tuple[int, int] | None]
    sink: Sink
    position: Position
    text: int
    grid: tuple[int, int]
    call: int | None
    tokens: int | None  # text and image, where more than these and the reference images is an error
    images: str | None  # report the image's meeting with itself: "together" with the text's, or "apart"

    def __call__(self, function: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any):
        axis = 2 if kwargs.get("skip_reshape", False) else 1
        image = self.grid[0] * self.grid[1]
        in_block = bool(self.position.key)
        mine = in_block and self.call in (None, self.position.calls)
        text_alone = mine and self.call is not None  # its keys may be as many as the picture's cells
        self.position.calls += 1
        heads_of = partial(_by_heads, heads, axis == 2)
        if in_block and self.images == "apart" and not text_alone and q.shape[axis] == k.shape[axis] == image:
            self._report(ImageAttention, *heads_of(q, k, v)[:2], slice(0, image), slice(0, image), args, kwargs)
        found = self.where(q.shape[axis], k.shape[axis], self.text, image) if mine else None
        if found is None:
            return function(q, k, v, heads, *args, **kwargs)
        text, first = found
        _check(k.shape[axis], self.tokens, kwargs.get("transformer_options") or {})
        queries, keys, values = heads_of(q, k, v)
        rows, columns = slice(first, first + image), slice(text, text + self.text)
        if self.images == "together":
            self._report(ImageAttention, queries, keys, rows, rows, args, kwargs)
        if k.shape[axis] == self.text or not can_attend(queries, keys, values, _mask(args, kwargs)):
            self._report(TextAttention, queries, keys, rows, columns, args, kwargs)
            return function(q, k, v, heads, *args, **kwargs)
        out, log_sum = attend(queries, keys, values, _scale(queries, kwargs))
        self._report(TextAttention, queries, keys, rows, columns, args, kwargs, log_sum=log_sum[:, :, rows])
        return out if kwargs.get("skip_output_reshape", False) else out.transpose(1, 2).flatten(2)

    def _report(
        self, kind: type, q: Tensor, k: Tensor, rows: slice, columns: slice, args: tuple, kwargs: dict, **more: Tensor
    ) -> None:
        """rows: of the queries, the image's; columns: of the keys, those that the report is about."""
        if k.shape[1] != q.shape[1]:  # grouped queries share keys
            k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
        mask = _rows_of_mask(_mask(args, kwargs), rows)
        self.sink(self.position.key, kind(q[:, :, rows], k, columns, self.grid, _scale(q, kwargs), mask, **more))


@dataclass(frozen=True)
class _Edit:
    """An attention override that edits, and calls the one that was there before.

    tokens: of each of `images`, as `_Watch.tokens`.
    """

    where: Callable[[int, int, int, int], tuple[int, int] | None]
    images: tuple[EditedImages, ...]
    tokens: list[int | None]
    position: Position
    grid: tuple[int, int]
    call: int | None
    before: Callable | None

    def __call__(self, function: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any):
        axis = 2 if kwargs.get("skip_reshape", False) else 1
        mine = bool(self.position.key) and self.call in (None, self.position.calls)
        self.position.calls += 1
        places = self._places(q.shape[axis], k.shape[axis], kwargs.get("transformer_options") or {}) if mine else []
        inner = function if self.before is None else partial(self.before, function)
        if not places:
            return inner(q, k, v, heads, *args, **kwargs)
        own = kwargs.pop("mask", None) if "mask" in kwargs else (args[0] if args else None)

        def attend(keys: Tensor, mask: Tensor | None) -> Tensor:
            if args:  # the mask is the first
                return inner(q, keys, v, heads, mask, *args[1:], **kwargs)
            return inner(q, keys, v, heads, mask=mask, **kwargs)

        out_axis = 2 if kwargs.get("skip_output_reshape", False) else 1
        return edited_attention(attend, k, own, places, q.shape[axis], axis, out_axis)

    def _places(self, queries: int, keys: int, options: dict) -> list[Place]:
        image, places = self.grid[0] * self.grid[1], []
        for one, tokens in zip(self.images, self.tokens, strict=True):
            found = self.where(queries, keys, one.text, image)
            if found is not None:
                _check(keys, tokens, options)
                text, first = found
                columns = slice(text, text + one.text)
                places.append(Place(one.rows, slice(first, first + image), columns, one.at(self.grid)))
                one.done()
        return places


def _check(keys: int, tokens: int | None, options: dict) -> None:
    more = 0 if tokens is None else keys - tokens - sum(options.get("reference_image_num_tokens", ()))
    if more:
        raise GsnError(
            f"AttentionCapture: another node on this model (a style reference, for example) put {more} tokens"
            " beside the prompt's, so which column is which word is not known; leave that node out"
        )


def _by_heads(heads: int, already: bool, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each [B, H, N, D], keys and values with as many heads as they have."""
    if already:
        return q, k, v
    size = q.flatten(2).shape[-1] // heads  # some models have parted the heads already, behind the sequence
    return tuple(one.reshape(*one.shape[:2], -1, size).transpose(1, 2) for one in (q, k, v))


def _mask(args: tuple, kwargs: dict) -> Tensor | None:
    return kwargs.get("mask", args[0] if args else None)


def _scale(q: Tensor, kwargs: dict) -> float:
    return kwargs.get("scale") or q.shape[-1] ** -0.5


def _rows_of_mask(mask: Tensor | None, rows: slice) -> Tensor | None:
    """ComfyUI's masks are [K], [N, K], [B, N, K] or [B, H, N, K]."""
    if mask is None:
        return None
    while mask.dim() < 2:
        mask = mask[None]
    if mask.dim() == 3:
        mask = mask[:, None]
    mask = mask if mask.shape[-2] == 1 else mask[..., rows, :]
    return mask

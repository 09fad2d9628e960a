"""SD1.x, SD2.x, SDXL and their variants: cross-attention `attn2` of ComfyUI's UNetModel.

The text axis is one stream of CLIP tokens, 77 per chunk; SDXL's two encoders share positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import comfy.model_base as known
import comfy.supported_models as configs
from comfy.ldm.modules.attention import SpatialTransformer, attention_pytorch, optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, UNetModel, Upsample
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

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

_PRESETS = ((configs.SDXL, "sdxl"), (configs.SD20, "sd2"), (configs.SD15, "sd1"))  # configuration -> preset
_KEPT = 1.25  # see Joint.kept


class Unet:
    title = "SD 1.x, SD 2.x, SDXL and their variants (UNet)"
    by_override = False
    # SSD-1B, Vega, KOALA, Playground and the inpainting models have no class of their own
    kinds = ("BaseModel", "SD21UNCLIP", "SDXL", "SD15_instructpix2pix", "SDXL_instructpix2pix")

    def preset_name(self, model: Any) -> str | None:
        if not any(is_kind(model, name) for name in self.kinds) or not isinstance(model.diffusion_model, UNetModel):
            return None
        if own := own_preset(model):
            return own
        if model.model_type == known.ModelType.EDM:
            return "playground"
        return next((name for config, name in _PRESETS if isinstance(model.model_config, config)), None)

    def layers(self, model: Any) -> tuple[Layer, ...]:
        return tuple(
            layer for part, number, ratio, block in _levels(model.diffusion_model)
            for layer in _layers_of(block, part, number, ratio)
        )  # fmt: skip

    def blocks(self, model: Any) -> tuple[Block, ...]:
        return tuple(
            Block((part, number), module, _KEPT * ratio**2)
            for part, number, ratio, block in _levels(model.diffusion_model)
            for module in block
            if isinstance(module, (ResBlock, SpatialTransformer))
        )

    def brought(self, entry: dict) -> int:
        return tokens_brought(entry)

    def most_text(self, model: Any) -> int | None:
        return None

    def attach(self, model_options: dict, sink: Sink, position: Position, text: int, images: bool = False) -> None:
        def wrapper(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
            # calc_cond_batch rebuilds the options as plain dicts, so the catch-all goes in after it
            options = dict(transformer_options or {})
            replacements = dict(options.get("patches_replace", {}))
            replacements["attn2"] = _EveryBlock(replacements.get("attn2", {}), partial(_text_call, sink, text))
            if images:
                spared = _without_self_attention(executor.class_obj.diffusion_model)
                report = partial(_image_call, sink)
                replacements["attn1"] = _EveryBlock(replacements.get("attn1", {}), report, spared)
            options["patches_replace"] = replacements
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)

        add_wrapper_with_key(
            WrappersMP.APPLY_MODEL, "gsn_capture", wrapper, model_options.setdefault("transformer_options", {})
        )

    def edit(self, model: Any, options: dict, images: tuple[EditedImages, ...], position: Position, shape: Any) -> None:
        replacements = dict(options.get("patches_replace", {}))
        replacements["attn2"] = _EditedBlocks(replacements.get("attn2", {}), images)
        options["patches_replace"] = replacements


def _levels(unet: Any) -> Iterator[tuple[str, int, float, Any]]:
    """(part, number, its grid / the latent's, modules) of each block, in the order in which they run."""
    ratio = 1.0
    for number, block in enumerate(unet.input_blocks):
        ratio /= 2 ** sum(isinstance(m, Downsample) for m in block)
        yield "input", number, ratio, block
    if unet.middle_block is not None:
        yield "middle", 0, ratio, unet.middle_block
    for number, block in enumerate(unet.output_blocks):
        yield "output", number, ratio, block
        ratio *= 2 ** sum(isinstance(m, Upsample) for m in block)


def _layers_of(block: Any, part: str, number: int, ratio: float) -> list[Layer]:
    return [
        Layer((part, number, index), part, number, ratio, image=not inner.disable_self_attn)
        for module in block
        if isinstance(module, SpatialTransformer)
        for index, inner in enumerate(module.transformer_blocks)
        if inner.attn2 is not None
    ]


def _without_self_attention(unet: Any) -> frozenset[tuple]:
    """Addresses of the blocks whose attn1 asks the text as attn2 does, as SDXS 0.9 has them; the methods read attn2.

    ComfyUI hands a replacement of such an attn1 no values, so there must be none.
    """
    return frozenset(
        address
        for part, number, _, block in _levels(unet)
        for module in block
        if isinstance(module, SpatialTransformer)
        for index, inner in enumerate(module.transformer_blocks)
        if inner.disable_self_attn
        for address in ((part, number), (part, number, index))
    )


def _text_call(sink: Sink, text: int, address: tuple, q: Tensor, k: Tensor, grid: tuple[int, int], scale: float):
    _refuse_other_rows(address, len(q), len(k))
    if k.shape[2] < text:
        raise GsnError(
            f"AttentionCapture: another node's attn2 patch left {k.shape[2]} of the prompt's {text} text"
            f" tokens in block {address[0]}{address[1]}; leave that node out, or choose blocks that it spares"
        )
    sink(address, TextAttention(q, k, slice(0, text), grid, scale))


def _image_call(sink: Sink, address: tuple, q: Tensor, k: Tensor, grid: tuple[int, int], scale: float):
    sink(address, ImageAttention(q, k, slice(0, grid[0] * grid[1]), grid, scale))


def _refuse_other_rows(address: tuple, images: int, texts: int) -> None:
    if images != texts:
        raise GsnError(
            f"AttentionCapture: another node on this model gives block {address[0]}{address[1]} {texts} rows of text"
            f" for {images} of the picture (a negative prompt within the attention, for example), and its own way to"
            " compute with them does not go together with reading or editing that attention; leave that node out"
        )


class _InEveryBlock(dict):
    """Stands for a replacement in every block; knows what another pack had put there."""

    def __init__(self, inner: dict):
        super().__init__(inner)
        self.inner = inner

    def __contains__(self, key: object) -> bool:
        return True

    def previous(self, key: tuple) -> Callable | None:
        return self.inner.get(key) or self.inner.get(key[:2])


def _address(extra: dict) -> tuple:
    return (*extra["block"], extra["block_index"])


def _grid(extra: dict) -> tuple[int, int]:
    return (int(extra["activations_shape"][-2]), int(extra["activations_shape"][-1]))


class _EveryBlock(_InEveryBlock):
    """Reports, then does what would have been done."""

    def __init__(
        self, inner: dict, report: Callable[[tuple, Tensor, Tensor, tuple[int, int], float], None],
        spared: frozenset[tuple] = frozenset(),
    ):  # fmt: skip
        super().__init__(inner)
        self.report = report
        self.spared = spared

    def __contains__(self, key: object) -> bool:
        return key not in self.spared

    def __getitem__(self, key: tuple):
        previous = self.previous(key)

        def patch(q, k, v, extra):
            address = _address(extra)
            grid = _grid(extra)
            heads = extra["n_heads"]
            by_heads = (one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in (q, k))
            self.report(address, *by_heads, grid, (q.shape[-1] // heads) ** -0.5)
            if previous is not None:
                return previous(q, k, v, extra)
            return attention_pytorch(q, k, v, heads, attn_precision=extra.get("attn_precision"))

        return patch


class _EditedBlocks(_InEveryBlock):
    """Text attention with edited logits. What another pack computes in its place is moved by as much."""

    def __init__(self, inner: dict, images: tuple[EditedImages, ...]):
        super().__init__(inner)
        self.images = images

    def __getitem__(self, key: tuple):
        previous = self.previous(key)

        def patch(q, k, v, extra):
            heads, precision = extra["n_heads"], extra.get("attn_precision")
            _refuse_other_rows(_address(extra), len(q), len(k))

            def attend(keys: Tensor, mask: Tensor | None) -> Tensor:
                return optimized_attention(
                    q, keys, v, heads, mask=mask, attn_precision=precision, transformer_options=extra
                )

            grid, cells = _grid(extra), slice(0, q.shape[1])
            places = []
            for one in self.images:
                if cells.stop == grid[0] * grid[1] and k.shape[1] >= one.text:  # not what another pack made of them
                    places.append(Place(one.rows, cells, slice(0, one.text), one.at(grid)))
                    one.done()
            if not places:
                return attend(k, None) if previous is None else previous(q, k, v, extra)
            edited = edited_attention(attend, k, None, places, cells.stop, 1, 1)
            return edited if previous is None else previous(q, k, v, extra) + edited - attend(k, None)

        return patch


UNET = Unet()

FAMILIES = (UNET,)

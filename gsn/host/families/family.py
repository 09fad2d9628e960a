"""What a family file must state, and the value in which a family reports one attention call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar, Protocol

import comfy.model_base
from torch import Tensor, nn

from ...attention.logit_edit import LogitEdit


@dataclass(frozen=True)
class Layer:
    """One attention call where text meets image, in execution order.

    key: the call's address, opening with its block's; part, number: as in the block language;
    ratio: its grid / the latent's grid. image: the picture attends to itself there as well.
    """

    key: tuple
    part: str
    number: int
    ratio: float
    image: bool = True


@dataclass(frozen=True)
class Block:
    """A module that one block of the model is, or one of several; key: the block's address.

    share: numbers that a gradient pass keeps of it, for each cell of the latent and each number that the block's layers
    give for one of its own cells. silent: the Python module through whose name `optimized_attention` the block calls
    attention without passing the model call's options on; None where it passes them.
    """

    key: tuple
    module: nn.Module
    share: float
    silent: ModuleType | None = None

    @property
    def weight(self) -> float:
        """How many numbers a gradient pass keeps of it for each cell of the latent.

        Of a transformer's the text's layers count as well; those that shift and scale do not: they see one vector for
        all cells, and every family calls them modulation, in short.
        """
        return self.share * sum(
            one.out_channels if isinstance(one, nn.Conv2d) else getattr(one, "out_features", 0)  # quantised ones too
            for name, one in self.module.named_modules()
            if "mod" not in name.lower()
        )


def is_kind(model: Any, name: str) -> bool:
    """Whether a model is of ComfyUI's class of this name. A ComfyUI that lacks it has no such model."""
    return type(model) is getattr(comfy.model_base, name, None)


@dataclass
class Position:
    """Where in the model the pass is.

    key: address of the block that is running; calls: its attention calls so far; recompute: keep of a block what
    goes in and what its attention gives, and compute the rest again in backward (the same gradient, less memory).
    options: the running model call's transformer_options, for blocks that are silent about them.
    """

    key: tuple = ()
    calls: int = 0
    recompute: bool = False
    options: dict = field(default_factory=dict)

    def enter(self, key: tuple) -> None:
        self.key, self.calls = key, 0


@dataclass(frozen=True)
class TextAttention:
    """One attention call where text meets image.

    q: [B, H, N, D], the image's queries only; k: [B, H, K, D], every key the softmax runs over;
    text: which of the K are the conditioning's text axis, all of it and in its order; grid: (h, w), h w = N;
    mask: broadcastable to [B, H, N, K], bool or added to the logits, or None; scale: of the logits.
    log_sum: [B, H, N], the logarithm of the softmax's denominators, where it is known.
    """

    q: Tensor
    k: Tensor
    text: slice
    grid: tuple[int, int]
    scale: float
    mask: Tensor | None = None
    log_sum: Tensor | None = None


@dataclass(frozen=True)
class ImageAttention:
    """One attention call where the image meets itself, perhaps among other things.

    q: [B, H, N, D], the image's queries; k: [B, H, K, D]; image: which of the K are the image's own cells;
    grid, scale, mask: see TextAttention.
    """

    q: Tensor
    k: Tensor
    image: slice
    grid: tuple[int, int]
    scale: float
    mask: Tensor | None = None


@dataclass(frozen=True)
class EditedImages:
    """The images of one conditioning entry in a model call whose attention is edited.

    rows: of the batch; text: columns of the entry's text axis; at: the edit on a grid of cells; done: to be called
    for each attention call that was edited.
    """

    rows: slice
    text: int
    at: Callable[[tuple[int, int]], LogitEdit]
    done: Callable[[], None]


def tokens_brought(entry: dict) -> int:
    """Tokens of the text that a conditioning entry holds, as its encoder gave them: `extra_conds` may fill them up."""
    text = entry.get("cross_attn")
    return 0 if text is None else text.shape[1]


Sink = Callable[[tuple, "TextAttention | ImageAttention"], None]  # given a layer's key and its call


def own_preset(model: Any) -> str | None:
    """Key into MODEL_PRESETS of a model that names its own: the demo models."""
    return vars(model.model_config).get("gsn_preset")


class Family(Protocol):
    """by_override: its attention is seen through ComfyUI's override, which a function in its place may not ask for."""

    title: str
    by_override: ClassVar[bool]

    def preset_name(self, model: Any) -> str | None:
        """Key into MODEL_PRESETS, or None where the model is not of this family."""

    def layers(self, model: Any) -> tuple[Layer, ...]: ...

    def blocks(self, model: Any) -> tuple[Block, ...]:
        """The modules whose running makes up the pass; also the units of recomputation."""

    def brought(self, entry: dict) -> int:
        """Columns of the text axis that a conditioning entry brings, before the model fills it up."""
        ...

    def most_text(self, model: Any) -> int | None:
        """Tokens of text that the network reads, where it leaves out what comes behind; None where it reads all."""
        ...

    def attach(self, model_options: dict, sink: Sink, position: Position, text: int, images: bool = False) -> None:
        """Make every call of `layers` report to the sink, in this clone of the model options only.

        text: tokens of the conditioning's text axis. images: the blocks of `layers` also report how the image
        meets itself, with the layer's key and before its text.
        """

    def edit(self, model: Any, options: dict, images: tuple[EditedImages, ...], position: Position, shape: Any) -> None:
        """Make every call of `layers` compute with edited logits, by one model call's own transformer_options.

        shape: of the latent that the call is given. What other packs put in the same place is called in its turn.
        """

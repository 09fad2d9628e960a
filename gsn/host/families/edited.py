"""Attention with edited logits between image and text, by whatever attention function the model would call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...attention.logit_edit import LogitEdit


@dataclass(frozen=True)
class Place:
    """images: of the batch; cells: of the queries, the image's; text: of the keys; edit: on the call's grid."""

    images: slice
    cells: slice
    text: slice
    edit: LogitEdit


def edited_attention(
    attend: Callable[[Tensor, Tensor | None], Tensor], k: Tensor, mask: Tensor | None, places: list[Place],
    queries: int, axis: int, out_axis: int,
) -> Tensor:  # fmt: skip
    """The attention of all images of a batch, edited at some places.

    attend(keys, mask): the call with these in the place of its own. k, mask: its own; axis: of k's tokens;
    queries: how many; out_axis: of the answer's queries.
    """
    keys, bias = k, None
    for place in places:
        if place.edit.factor is not None:
            keys = k.clone() if keys is k else keys
            part = keys[place.images].narrow(axis, place.text.start, place.text.stop - place.text.start)
            part.mul_(place.edit.factor.to(k.dtype).view(-1, *[1] * (k.dim() - 1 - axis)))
        if place.edit.bias is not None:
            bias = k.new_zeros(k.shape[0], 1, queries, k.shape[axis]) if bias is None else bias
            bias[place.images, 0, place.cells, place.text] = place.edit.bias.flatten(1, 2).to(k.dtype)
    mask = mask if bias is None else _with_bias(mask, bias)
    answer = attend(keys, mask)
    if keys is k or all(place.cells == slice(0, queries) for place in places):
        return answer
    # Other queries are not the image's: to them the keys are as they were.
    result = attend(k, mask)
    for place in places:
        chosen = (place.images, *[slice(None)] * (out_axis - 1), place.cells)
        result[chosen] = answer[chosen]
    return result


def _with_bias(mask: Tensor | None, bias: Tensor) -> Tensor:
    """bias [B, 1, N, K] on a mask as ComfyUI has them: [K], [N, K], [B, N, K] or [B, H, N, K], bool or added."""
    if mask is None:
        return bias
    mask = mask[:, None] if mask.dim() == 3 else mask
    if mask.dtype == torch.bool:
        return bias.masked_fill(~mask, -torch.inf)
    return bias + mask.to(bias.dtype)

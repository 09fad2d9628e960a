"""Attention's softmax over a call's queries and keys, in float32 whatever the model runs in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..families import ImageAttention, TextAttention


def text_probabilities(call: TextAttention, columns: tuple[int, ...] | None = None) -> Tensor:
    """The text columns of softmax(q k^T), mean over heads: [B, N, T] float32; nothing of size N x N is formed."""
    q, k = call.q.float(), call.k.float()
    length = call.text.stop - call.text.start
    if k.shape[2] == length and call.mask is None:
        return ((q @ k.transpose(-1, -2)) * call.scale).softmax(-1).mean(1)
    wanted = torch.arange(length, device=q.device) if columns is None else torch.tensor(columns, device=q.device)
    index = wanted + call.text.start
    if call.log_sum is not None:
        logits = (q @ k[:, :, index].transpose(-1, -2)) * call.scale
        found = (logits - call.log_sum[..., None]).exp().mean(1)
    else:
        found = _columns(q, k, index, call.scale, call.mask)
    return found if columns is None else q.new_zeros(*found.shape[:2], length).index_copy(-1, wanted, found)


def _columns(q: Tensor, k: Tensor, index: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """softmax(q k^T)[..., index], mean over heads, by fused attention whose values are one-hot vectors."""
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(q.dtype)
    size, found = q.shape[-1], []
    for some in index.split(size):
        values = q.new_zeros(k.shape[2], size)
        values[some, torch.arange(len(some), device=q.device)] = 1
        out = F.scaled_dot_product_attention(q, k, values.expand(*k.shape[:2], -1, -1), attn_mask=mask, scale=scale)
        found.append(out[..., : len(some)].mean(1))
    return torch.cat(found, -1)


def cell_probabilities(call: ImageAttention, index: Tensor) -> Tensor:
    """What the cells `index` [B, R] attend to in the picture, mean over heads: [B, R, h, w]."""
    q = call.q.gather(2, index[:, None, :, None].expand(-1, call.q.shape[1], -1, call.q.shape[3]))
    logits = q.float() @ call.k.float().transpose(-1, -2) * call.scale
    if call.mask is not None:
        logits = _masked(logits, call.mask, index)
    return logits.softmax(-1)[..., call.image].mean(1).unflatten(-1, call.grid)


def _masked(logits: Tensor, mask: Tensor, index: Tensor) -> Tensor:
    """logits [B, H, R, K] under the rows `index` [B, R] of a mask that broadcasts to [B, H, N, K]."""
    mask = mask[(None,) * (4 - mask.dim())]
    if mask.shape[2] > 1:
        mask = mask.expand(logits.shape[0], -1, -1, -1)
        mask = mask.gather(2, index[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3]))
    return logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask

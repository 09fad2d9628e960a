"""Attention that also says the logarithm of its softmax's denominators, both with a gradient.

With that logarithm the weight of any single key is exp(q k - log_sum): the maps of a block cost a few columns
more, not a second attention. PyTorch has the number and hides it, and its backward knows nothing of a gradient of it.
With p the weights, g the output's gradient and l that of the logarithm, the logits' gradient is

    dS_ij = p_ij (g_i v_j + l_i - d_i),   d_i = g_i out_i,

which is what the same backward computes where the output's gradient has one more number, l_i, every value a one there,
and the output a zero.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_ATTEND = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
_MORE = 8  # numbers beside a head's own, one of which is used: an odd length is slower


def can_attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> bool:
    """float32 on a processor, where it was measured; no mask, and as many heads of keys as of queries."""
    plain = mask is None and q.device.type == "cpu" and q.dtype == k.dtype == v.dtype == torch.float32
    return plain and q.shape[1] == k.shape[1] == v.shape[1] and q.shape[-1] == v.shape[-1]


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """q, k, v [B, H, N or K, D] -> softmax(scale q k) v [B, H, N, D], and the log of its denominators [B, H, N]."""
    return _Attend.apply(q, k, v, scale)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        out, log_sum = _ATTEND(q, k, v, scale=scale)
        ctx.scale = scale
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, k, v, out, log_sum)
        return out, log_sum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_out: Tensor | None, of_log: Tensor | None):
        q, k, v, out, log_sum = ctx.saved_tensors
        if of_out is None:  # the pass ended before anybody read the output
            of_out = torch.zeros_like(out)
        given = (of_out, q, k, v, out)
        if of_log is not None:
            given = (_wider(of_out, of_log), _wider(q), _wider(k), _wider(v, 1.0), _wider(out))
        found = _BACKWARD(*given, log_sum, 0.0, False, scale=ctx.scale)
        return *(one[..., : q.shape[-1]] for one in found), None


def _wider(x: Tensor, more: Tensor | float = 0.0) -> Tensor:
    """[..., D] with this number behind the D, and zeros."""
    wide = F.pad(x, (0, _MORE))
    wide[..., x.shape[-1]] = more
    return wide

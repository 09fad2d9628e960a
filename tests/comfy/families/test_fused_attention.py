"""Attention that tells its softmax's denominators: against plain autograd on the whole matrix, in float64."""

import pytest
import torch


def plain(q, k, v, scale):
    logits = q @ k.transpose(-1, -2) * scale
    return logits.softmax(-1) @ v, logits.logsumexp(-1)


@pytest.mark.parametrize("read", ["both", "output", "logarithm"])
@pytest.mark.parametrize("shape", [(2, 3, 37, 50, 16), (1, 2, 5, 70, 40)])
def test_values_and_gradients(comfy, read, shape):
    fused = comfy.pack("gsn.host.families.fused_attention")
    batch, heads, queries, keys, size = shape
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn((batch, heads, n, size), generator=generator) for n in (queries, keys, keys)]
    weights = [torch.randn((batch, heads, queries, size), generator=generator),
               torch.randn((batch, heads, queries), generator=generator)]  # fmt: skip

    def gradients(function, dtype):
        leaves = [one.to(dtype).requires_grad_(True) for one in inputs]
        found = function(*leaves, 0.3)
        read_of = {"both": (0, 1), "output": (0,), "logarithm": (1,)}[read]
        total = sum((found[i] * weights[i]).sum() for i in read_of)
        return [*found, *torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)]

    ours, naive = gradients(fused.attend, torch.float32), gradients(plain, torch.float64)
    for one, other in zip(ours, naive, strict=True):
        assert torch.allclose(one.double(), other, rtol=1e-4, atol=1e-5)


def test_what_it_is_not_made_for_goes_the_other_way(comfy):
    can_attend = comfy.pack("gsn.host.families.fused_attention").can_attend
    q, few = torch.zeros(1, 4, 8, 16), torch.zeros(1, 2, 8, 16)
    assert can_attend(q, q, q, None)
    assert not can_attend(q, q, q, torch.zeros(8, 8))
    assert not can_attend(q, few, few, None)
    assert not can_attend(q.half(), q.half(), q.half(), None)

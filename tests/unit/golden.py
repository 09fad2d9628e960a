"""The synthetic attention of the published golden vectors, computed with the reference loss functions."""

import torch

from gsn.maps import AttentionMaps
from gsn.subjects import Subject, Subjects, TextStream


def attention(batch=1):
    """[batch, 16, 16, 77] probabilities: softmax_k(3 sin(0.37 y + 1.3 k) cos(0.53 x - 0.7 k))."""
    y, x, k = torch.meshgrid(
        torch.arange(16, dtype=torch.float64),
        torch.arange(16, dtype=torch.float64),
        torch.arange(77, dtype=torch.float64),
        indexing="ij",
    )
    logits = 3 * torch.sin(0.37 * y + 1.3 * k) * torch.cos(0.53 * x - 0.7 * k)
    return AttentionMaps(logits.softmax(-1).float().expand(batch, -1, -1, -1))


def subjects(*groups):
    stream = TextStream("clip", 0, 77, tuple(range(1, 9)), (0,), ("x",) * 77)
    items = tuple(Subject(f"s{i}", {"clip": tuple(group)}) for i, group in enumerate(groups))
    return Subjects("prompt", items, (stream,))

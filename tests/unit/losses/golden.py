"""The synthetic attention of the published golden vectors, computed with the reference loss functions."""

import torch

from gsn.attention.maps import AttentionMaps
from gsn.text.subjects import Subject, Subjects, TextStream


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


def of_two_encoders():
    """Attention of a joint softmax of which the text has a tenth, 77 columns of CLIP and 20 of T5; two subjects."""
    y, x, k = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (16, 16, 97)), indexing="ij")
    logits = 3 * torch.sin(0.21 * y + 1.3 * k) * torch.cos(0.44 * x - 0.7 * k)
    clip = TextStream("clip", 0, 77, tuple(range(1, 9)), (0,), ("x",) * 77)
    t5 = TextStream("t5", 77, 20, tuple(range(1, 11)), (), ("x",) * 20)
    items = tuple(Subject(f"s{c}", {"clip": (c,), "t5": (t,)}) for c, t in ((5, 6), (8, 10)))
    return AttentionMaps(0.1 * logits.softmax(-1).float()[None]), Subjects("prompt", items, (clip, t5))


def subjects(*groups):
    stream = TextStream("clip", 0, 77, tuple(range(1, 9)), (0,), ("x",) * 77)
    items = tuple(Subject(f"s{i}", {"clip": tuple(group)}) for i, group in enumerate(groups))
    return Subjects("prompt", items, (stream,))

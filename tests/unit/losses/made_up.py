"""Prompts and attention made up for the tests of losses."""

import math

import torch

from gsn.text.subjects import Subject, TextStream


def of_streams(*streams):
    """[(name, pieces)] -> TextStreams; a piece in < > is no word."""
    made, offset = [], 0
    for name, pieces in streams:
        words = tuple(p for p, piece in enumerate(pieces) if not piece.startswith("<"))
        starts = tuple(p for p, piece in enumerate(pieces) if piece == "<start>")
        made.append(TextStream(name, offset, len(pieces), words, starts, tuple(pieces)))
        offset += len(pieces)
    return tuple(made)


def subject(label, tokens, *attributes, box=None):
    """tokens: positions in clip, or positions by stream."""
    by_stream = tokens if isinstance(tokens, dict) else {"clip": tuple(tokens)}
    return Subject(label, by_stream, tuple(subject(f"a{label}", one) for one in attributes), box)


def rows_from(itself):
    """[B, N, N] as AttentionMaps.self_rows, on a grid that the maps' own call must match."""

    def rows(cells):
        assert cells.dtype == torch.int64 and not cells.requires_grad
        found = itself.gather(1, cells[..., None].expand(-1, -1, itself.shape[2]))
        h = next(n for n in range(math.isqrt(itself.shape[2]), 0, -1) if itself.shape[2] % n == 0)
        return found.unflatten(2, (h, -1))

    return rows

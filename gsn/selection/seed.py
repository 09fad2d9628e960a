"""Which of many noises to begin with, by what the subjects' maps look like after a few steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from ..trace import Trace


def joined(traces: Sequence[Trace]) -> Trace:
    """The traces of parts of one batch, each of one look, as one look at the whole batch."""
    records = [trace.records[0] for trace in traces]
    kept = [trace.kept[0] for trace in traces]
    first = records[0]
    record = replace(
        first,
        loss=[value for one in records for value in one.loss],
        terms={name: [value for one in records for value in one.terms[name]] for name in first.terms},
        maxima=[values for one in records for values in one.maxima],
        update_rms=[value for one in records for value in one.update_rms],
        seconds=sum(one.seconds for one in records),
    )
    maps = replace(kept[0], maps=torch.cat([one.maps for one in kept]))
    notes = list(dict.fromkeys(note for trace in traces for note in trace.notes))
    batch = sum(trace.batch for trace in traces)
    return replace(traces[0], batch=batch, records=[record], kept=[maps], notes=notes)


def best_first(losses: Sequence[float]) -> list[int]:
    """Indices from the lowest loss to the highest; equal ones in their order, and those that are no number last."""
    return sorted(range(len(losses)), key=lambda i: (math.inf if math.isnan(losses[i]) else losses[i], i))


def ranking(trace: Trace, order: Sequence[int], keep: int) -> str:
    """A table of candidates, best first: the loss, its terms, and each subject's largest value."""
    (record,) = trace.records
    names = ["total", *record.terms, *(f"max {label}" for label in trace.labels)]
    lines = [f"{len(order)} noises at {record.step}, best first; kept {keep}", ""]
    lines.append("  ".join([" noise", *(name.rjust(9) for name in names), ""]).rstrip())
    for place, i in enumerate(order):
        values = [record.loss[i], *(term[i] for term in record.terms.values()), *record.maxima[i]]
        cells = [f"{value:.4f}".rjust(max(9, len(name))) for value, name in zip(values, names, strict=True)]
        lines.append("  ".join([f"{i:6d}", *cells, "kept" if place < keep else ""]).rstrip())
    return "\n".join(lines)

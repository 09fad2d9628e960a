"""The numbers of a study: cells with intervals, pairs against plain, and the table that never changes.

The table depends on the rows' scores alone, in a fixed order and without what differs between two runs (seconds), so
that the same study gives the same bytes however often it was stopped and whoever made the pictures.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gsn.metrics.stats import bootstrap_mean, sign_test, wilson

from .store import KEY
from .study import PLAIN, Study, label_of

_FIXED = (*KEY, "image", "sha256")
_LEFT_OUT = ("seconds",)


@dataclass(frozen=True)
class Cell:
    """All images of one model, method and set. `won`, `lost`: pairs with plain; None where there is no plain one.

    `low`, `high`: Wilson's over images; `prompts_low`, `prompts_high`: bootstrap over prompts, wider where the images
    of a prompt succeed or fail together. `by_position[i]`: (found, n) of subject i.
    `more`: each numeric column of a scorer, as its mean over images and a bootstrap over prompts (mean, low, high).
    """

    model: str
    method: str
    step: str
    set: str
    split: str
    n: int
    prompts: int
    seeds: int
    successes: int
    low: float
    high: float
    prompts_low: float
    prompts_high: float
    by_position: tuple[tuple[int, int], ...]
    won: int | None
    lost: int | None
    p: float | None
    seconds: float
    gradients: float | None
    more: dict[str, tuple[float, float, float]]

    @property
    def rate(self) -> float:
        return self.successes / self.n

    @property
    def label(self) -> str:
        return label_of(self.method, self.step)

    @property
    def subjects(self) -> tuple[int, int]:
        """(found, n) of all places together."""
        return sum(k for k, _ in self.by_position), sum(n for _, n in self.by_position)

    @property
    def recall(self) -> float:
        found, n = self.subjects
        return found / max(1, n)


def ordered(study: Study, rows: Iterable[dict]) -> list[dict]:
    """Rows of the study in its own order: set, prompt, model, method, seed. Others (of another study) are left out."""
    by_key = {tuple(row[name] for name in KEY): row for row in rows}
    return [by_key[key] for batch in study.batches() for key in batch.keys if key in by_key]


def cells(study: Study, rows: Iterable[dict]) -> list[Cell]:
    """In the study's order; cells without a scored image are left out."""
    groups: dict[tuple, list[dict]] = {}
    for row in ordered(study, rows):
        if row["success"] is not None:
            groups.setdefault((row["set"], row["split"], row["model"], row["method"], row["step"]), []).append(row)
    place = {(m.name, n.name, n.step): (i, j) for i, m in enumerate(study.models) for j, n in enumerate(study.methods)}
    sets = [(one.name, one.split) for one in study.sets]
    order = sorted(groups, key=lambda key: (sets.index(key[:2]), place[key[2:]]))
    return [_cell(groups[key], groups.get((*key[:3], PLAIN, ""), []) if key[3] != PLAIN else []) for key in order]


def _cell(rows: Sequence[dict], plain: Sequence[dict]) -> Cell:
    successes, n = sum(row["success"] for row in rows), len(rows)
    _, low, high = over_prompts(rows, "success")
    places = range(max(len(row["found"]) for row in rows))
    found = [[row["found"][i] for row in rows if i < len(row["found"])] for i in places]
    won, lost = against(by_image(rows), by_image(plain)) or (None, None)
    gradients = [row["gradients"] for row in rows if row["gradients"] is not None]
    first = rows[0]
    return Cell(
        *(first[name] for name in ("model", "method", "step", "set", "split")),
        n=n,
        prompts=len({row["prompt"] for row in rows}),
        seeds=len({row["seed"] for row in rows}),
        successes=successes,
        **dict(zip(("low", "high"), wilson(successes, n), strict=True)),
        prompts_low=low,
        prompts_high=high,
        by_position=tuple((sum(one), len(one)) for one in found),
        won=won,
        lost=lost,
        p=None if won is None or lost is None else sign_test(won, lost),
        seconds=sum(row["seconds"] for row in rows) / n,
        gradients=sum(gradients) / len(gradients) if gradients else None,
        more={name: over_prompts(rows, name) for name in extra_columns(rows)},
    )


def by_image(rows: Iterable[dict], name: str = "success") -> dict[tuple[str, int], int]:
    """A column by (prompt, seed), of one model, method and set."""
    return {(row["prompt"], row["seed"]): row[name] for row in rows}


def against(mine: Mapping[tuple[str, int], int], other: Mapping[tuple[str, int], int]) -> tuple[int, int] | None:
    """(won, lost): pairs of equal prompt and seed in which one of the two has more, or alone succeeded; None where
    there are no pairs."""
    both = mine.keys() & other.keys()
    if not both:
        return None
    return sum(mine[k] > other[k] for k in both), sum(other[k] > mine[k] for k in both)


def over_prompts(rows: Sequence[dict], name: str) -> tuple[float, float, float]:
    """A column's mean over all images, and its interval by a bootstrap over prompts."""
    by_prompt: dict[str, list[float]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt"], []).append(row[name])
    _, low, high = bootstrap_mean([sum(one) / len(one) for one in by_prompt.values()])
    return sum(row[name] for row in rows) / len(rows), low, high


def score_columns(found: Iterable[Cell]) -> list[str]:
    """Scorers' columns of any of the cells, in order."""
    return list(dict.fromkeys(name for one in found for name in one.more))


def extra_columns(rows: Sequence[dict]) -> list[str]:
    """Columns of scorers that are numbers in every row."""
    known = {*_FIXED, *_LEFT_OUT, "subjects", "colours", "found", "bound", "success", "confidence", "gradients"}
    names = [name for name in rows[0] if name not in known] if rows else []
    return [name for name in names if all(isinstance(row.get(name), int | float) for row in rows)]


def contract(found: Iterable[Cell]) -> list[dict]:
    """What `--json` prints. A scorer's column has its name, and its interval's ends `name_low` and `name_high`."""
    return [
        {
            "model": one.model, "method": one.method, "step": one.step, "set": one.set, "split": one.split,
            "prompts": one.prompts, "seeds": one.seeds, "n": one.n, "success": round(one.rate, 6),
            "ci_low": round(one.low, 6), "ci_high": round(one.high, 6), "seconds_per_image": round(one.seconds, 3),
            "gradients": None if one.gradients is None else round(one.gradients, 2), "won": one.won, "lost": one.lost,
            **{name + end: round(value, 6) for name, values in one.more.items()
               for end, value in zip(("", "_low", "_high"), values, strict=True)},
        }
        for one in found
    ]  # fmt: skip


def table_json(study: Study, rows: Iterable[dict]) -> str:
    """Every image's scores, in the study's order, and every cell's rate."""
    rows = ordered(study, rows)
    kept = [{name: value for name, value in row.items() if name not in _LEFT_OUT} for row in rows]
    rates = [{k: v for k, v in one.items() if k != "seconds_per_image"} for one in contract(cells(study, rows))]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, sort_keys=True) for row in kept)
    head = ",\n".join(json.dumps(rate, ensure_ascii=False) for rate in rates)
    return f'{{"cells": [\n{head}\n],\n"images": [\n{lines}\n]}}\n'


def table_csv(study: Study, rows: Iterable[dict]) -> str:
    """The cells, for a spreadsheet, without seconds."""
    found = [{k: v for k, v in one.items() if k != "seconds_per_image"} for one in contract(cells(study, rows))]
    out = io.StringIO()
    names = list(dict.fromkeys(name for one in found for name in one)) or ["model"]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return out.getvalue()

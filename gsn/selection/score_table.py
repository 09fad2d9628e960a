"""Success counts per step and set, read from what a study writes: JSON, JSONL or CSV.

Three kinds of rows are known, told apart by their columns:

    step, set, model, method, prompt, seed, success    one image: success is true or false
    step, set, successes, n                            so many of n images
    step, set, n or prompts and seeds, success         a rate, as `dev.py study --json` prints it

and the JSON of a TIAM score whose pictures have labels: "Ours @ 8" is the method and its step.

step: 8 (an index), "50%" or "sigma 5.6". Rows without a step are other runs, such as plain sampling. Where rows have a
split, only those of "validation" are looked at, so that nothing is chosen on what is tested later.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..methods.steps import Step, parse_steps
from ..metrics.tiam_report import METRIC
from .step import Cell

_NAMED = 3  # bad rows named one by one
_YES, _NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")


class ScoresError(ValueError):
    """The text holds no scores to choose from; the message says what to give."""


@dataclass(frozen=True)
class ScoreTable:
    """cells: one per row; run: model and method; notes: what was left out, and what to know of the rest."""

    cells: tuple[Cell, ...]
    run: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    where: str
    run: str
    split: str
    cell: Cell
    image: tuple[str, str] | None  # prompt and seed of a row that is one image


@dataclass
class _Left:
    """Rows that do not count."""

    bad: list[str] = field(default_factory=list)
    no_step: int = 0


def read_scores(text: str, only: str = "") -> ScoreTable:
    """only: a model, a method, or "model / method", where the text holds several. Raises ScoresError."""
    left = _Left()
    rows = list(_rows(text, left))
    if not rows:
        why = f": {left.bad[0]}" if left.bad else f"; {left.no_step} rows are without a step" if left.no_step else ""
        raise ScoresError(f"there are no scores{why}. Give rows with step, set and success, or step, set, successes, n")
    rows, run = _of_one_run(rows, only)
    rows, splits = _validation(rows)
    rows, again = _once(rows)
    notes = [f"left out: {one}" for one in left.bad[:_NAMED]]
    notes += [f"left out: {len(left.bad) - _NAMED} more unreadable rows"] * (len(left.bad) > _NAMED)
    notes += [f"{again} rows stand there twice and were counted once"] * bool(again)
    notes += splits + _uneven(rows)
    return ScoreTable(tuple(row.cell for row in rows), run, tuple(notes))


def _rows(text: str, left: _Left) -> Iterator[_Row]:
    for where, content in _records(text, left):
        try:
            if not isinstance(content, dict):
                raise ValueError(f"{content!r} is not a row; write an object in braces")
            step = _step(content)
            if step is None:
                left.no_step += 1
                continue
            yield _row(where, content, step)
        except ValueError as error:
            left.bad.append(f"{where}: {error}")


def _records(text: str, left: _Left) -> Iterator[tuple[str, Any]]:
    """(where it stands, the row) of each row, whatever the format."""
    text = text.strip().removeprefix("\ufeff")
    if text.startswith("["):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ScoresError(f"the scores begin like JSON but are not: {error}") from None
        yield from ((f"row {n + 1}", row) for n, row in enumerate(content))
    elif text.startswith("{") and (images := _of_tiam(text)) is not None:
        yield from ((f"image {n + 1}", row) for n, row in enumerate(images))
    elif text.startswith("{"):
        for n, line in enumerate(text.splitlines()):
            if line.strip():
                try:
                    yield f"line {n + 1}", json.loads(line)
                except (ValueError, RecursionError):
                    left.bad.append(f"line {n + 1}: not JSON, perhaps cut short")
    elif text:
        head = text.splitlines()[0]
        table = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=head.count))
        names = [str(name).strip().lower() for name in table.fieldnames or ()]
        if "step" not in names:
            raise ScoresError(f"the first line names the columns, and among '{head[:80]}' there is no step")
        table.fieldnames = names
        yield from ((f"line {n + 2}", row) for n, row in enumerate(table))


def _of_tiam(text: str) -> list | None:
    """The images of a TIAM score's JSON, each with the method and step of its label; None for any other text.

    An entry that is no image stays as it is, to be named as a bad row.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if content.get("metric") != METRIC:
        return None
    rows: list[Any] = list(content.get("images") or ())
    stepped = 0
    for n, image in enumerate(rows):
        if isinstance(image, dict):
            method, _, step = (part.strip() for part in str(image.get("label", "")).partition("@"))
            rows[n] = {**image, "method": method, "step": step}
            stepped += bool(step)
    if not stepped:
        raise ScoresError(
            "the TIAM score names no steps; connect the label of GSNSweep to GSNTIAMScore, and write lines with steps"
            " into GSNSweep, such as: paper @ 8"
        )
    return rows


def _step(content: dict) -> Step | None:
    """The row's step; None for a row that has none."""
    value, unit = content.get("step"), content.get("step_unit") or content.get("unit")
    if value is None or str(value).strip() == "":
        return None
    if unit in ("percent", "sigma"):
        value = f"{value}%" if unit == "percent" else f"sigma {value}"
    steps = parse_steps(str(value))
    if len(steps) != 1:
        raise ValueError(f"the step is {value!r}; write one, such as 8, 50% or sigma 5.6")
    return steps[0]


def _row(where: str, content: dict, step: Step) -> _Row:
    run = " / ".join(str(content[key]) for key in ("model", "method") if content.get(key))
    group, split = (str(content.get(key) or usual) for key, usual in (("set", "all"), ("split", "")))
    rate = any(content.get(key) not in (None, "") for key in ("n", "prompts"))
    if content.get("successes") not in (None, "") or rate:
        return _Row(where, run, split, Cell(step, group, *_counts(content)), None)
    said = str(content.get("success", "")).strip().lower()
    if said not in (*_YES, *_NO):
        raise ValueError(f"success is {content.get('success')!r}; write true or false")
    missing = [key for key in ("prompt", "seed") if content.get(key) in (None, "")]
    if missing:
        raise ValueError(f"{missing[0]} is missing; a row of one image needs prompt and seed")
    image = str(content["prompt"]), str(content["seed"])
    return _Row(where, run, split, Cell(step, group, int(said in _YES), 1), image)


def _counts(content: dict) -> tuple[int, int]:
    """Successes and images, as counts or from a rate."""
    by_n = content.get("n") not in (None, "") or content.get("prompts") in (None, "")
    n = _whole(content, "n") if by_n else _whole(content, "prompts") * _whole(content, "seeds")
    if content.get("successes") not in (None, ""):
        successes = _whole(content, "successes")
    else:
        exact = _number(content, "success") * n
        successes = round(exact)
        if abs(exact - successes) > max(0.01, 1e-6 * n):  # rates are written with six digits
            raise ValueError(f"success is {content['success']!r}, which is no share of {n} images")
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n} images; n is at least 1, and no fewer than the successes")
    return successes, n


def _whole(content: dict, key: str) -> int:
    value = _number(content, key)
    if value != int(value):
        raise ValueError(f"{key} is {content[key]!r}; write a whole number")
    return int(value)


def _number(content: dict, key: str) -> float:
    try:
        value = float(content[key])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{key} is {content.get(key)!r}; write a number") from None
    if not abs(value) < float("inf"):
        raise ValueError(f"{key} is {value}; write a finite number")
    return value


def _of_one_run(rows: list[_Row], only: str) -> tuple[list[_Row], str]:
    wanted = only.strip().lower()
    runs = list(dict.fromkeys(row.run for row in rows))
    fit = [run for run in runs if not wanted or wanted in (run.lower(), *run.lower().split(" / "))]
    if len(fit) != 1:
        many = f"the scores are of several: {', '.join(fit)}; say which one" if fit else ""
        raise ScoresError(many or f"nothing in the scores is called '{only}'; there are: {', '.join(runs)}")
    return [row for row in rows if row.run == fit[0]], fit[0]


def _validation(rows: list[_Row]) -> tuple[list[_Row], list[str]]:
    """The rows to choose on, and what is to be said of it."""
    chosen = [row for row in rows if row.split == "validation"]
    if chosen and len(chosen) < len(rows):
        return chosen, [f"{len(rows) - len(chosen)} rows of another split than validation were not looked at"]
    others = sorted({row.split for row in rows} - {"validation", ""})
    said = f"chosen on the split {' and '.join(others)}: a success rate on the same prompts then flatters the choice"
    return rows, [said] if others else []


def _once(rows: list[_Row]) -> tuple[list[_Row], int]:
    """Each image once, and how many stood there again. One image with two results is refused."""
    seen: dict[tuple, _Row] = {}
    kept = []
    for row in rows:
        key = (row.cell.step, row.cell.group, row.image)
        before = seen.setdefault(key, row)
        if row.image is None or before is row:
            kept.append(row)
        elif before.cell != row.cell:
            raise ScoresError(
                f"{before.where} and {row.where} are the same image (step {row.cell.step}, set '{row.cell.group}',"
                f" prompt '{row.image[0]}', seed {row.image[1]}) with different results; remove one"
            )
    return kept, len(rows) - len(kept)


def _uneven(rows: list[_Row]) -> list[str]:
    """A note for each set whose candidates were scored on different images."""
    images: dict[str, dict[Step, set]] = {}
    for row in rows:
        images.setdefault(row.cell.group, {}).setdefault(row.cell.step, set()).add(row.image)
    return [
        f"set '{group}': the candidates were not scored on the same prompts and seeds; finish the study before you"
        " trust the choice"
        for group, by_step in images.items()
        if any(own != next(iter(by_step.values())) for own in by_step.values())
    ]

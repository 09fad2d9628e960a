"""A TIAM score as text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from .tiam import Rate, Row, Summary

PLACES = ("first", "second", "third", "fourth", "fifth", "sixth")
METRIC = "TIAM"  # how its JSON is known
_MOST_PROMPTS = 40  # lines in the text; the JSON has all


def place(index: int) -> str:
    """Which subject of a prompt, counted from 0, as a word."""
    return PLACES[index] if index < len(PLACES) else f"{index + 1}th"


def percent(one: Rate) -> str:
    return f"{100 * one.rate:.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}], {one.successes} of {one.n}"


def as_text(summaries: Sequence[Summary], detector: str, note: str = "") -> str:
    """The first summary in full, then the score at the other thresholds. `note` is what to know about the detector."""
    main = summaries[0]
    prompts = len(main.by_prompt)
    span = f" [{100 * main.tiam_low:.1f}, {100 * main.tiam_high:.1f}] (bootstrap over prompts)" if prompts > 1 else ""
    several = f" of {len(main.by_label)} labels together" if len(main.by_label) > 1 else ""
    lines = [
        f"TIAM {100 * main.tiam:.1f} %{span}: {prompts} prompts, {main.images.n} images{several}",
        f"detector: {detector}, threshold {main.threshold:g}",
        *([note] if note else []),
        *(["", "images correct, by label:"] if main.by_label else []),
        *(f"  {name}: {percent(one)}" for name, one in main.by_label.items()),
        "",
        f"images correct: {percent(main.images)}",
        f"subjects found: {percent(main.recall)}",
    ]
    for i, (found, bound) in enumerate(zip(main.by_position, main.bound_by_position, strict=True)):
        lines.append(f"  {place(i)} subject: {percent(found)}")
        if bound:
            lines.append(f"    with its colour: {percent(bound)}")
    if len(main.by_seed) > 1:
        lines += ["", "by seed:", *(f"  {name}: {percent(one)}" for name, one in main.by_seed.items())]
    if prompts > 1:
        shown = list(main.by_prompt.items())[:_MOST_PROMPTS]
        lines += ["", "by prompt:", *(f"  {name}: {percent(one)}" for name, one in shown)]
        lines += [f"  and {prompts - len(shown)} more"] if prompts > len(shown) else []
    if len(summaries) > 1:
        lines += ["", "by threshold:", *(f"  {one.threshold:g}: {100 * one.tiam:.1f} %" for one in summaries)]
    lines += ["", "Intervals are for 95 %; rates of images have Wilson's, images taken as independent."]
    return "\n".join(lines)


def as_json(summaries: Sequence[Summary], rows: Sequence[Row], detector: str, note: str = "") -> str:
    """Everything: the summaries and, at the first summary's threshold, every image."""
    images = [
        {"prompt": str(row.prompt), "seed": str(row.seed), **asdict(row.score)}
        | ({"label": row.label} if row.label else {})
        for row in rows
        if row.threshold == summaries[0].threshold
    ]
    whole = {
        "metric": METRIC,
        "detector": detector,
        "note": note,
        "summaries": [one.as_dict() for one in summaries],
        "images": images,
    }
    return json.dumps(whole)

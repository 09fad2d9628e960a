"""A list of methods and of seeds as a person writes them: `Ours @ 8`, `0-15, 40`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .presets import PRESETS, Preset, refinements, with_refinement_at
from .steps import Step, parse_steps

MOST_SEEDS = 4096
MOST_METHODS = 1000
_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")


@dataclass(frozen=True)
class Variant:
    """One method, and the step it was moved to, or "" for its own."""

    method: str
    step: str
    preset: Preset

    @property
    def label(self) -> str:
        return f"{self.method} @ {self.step}" if self.step else self.method


def read_variants(
    text: str, presets: Mapping[str, Preset] = PRESETS, file: Callable[[str], Preset] | None = None
) -> list[Variant]:
    """A method on each line, with the step that takes the place of its own: `Ours`, `Ours @ 8`, `paper @ sigma 5.6`.

    A name that ends in .json is asked of `file`. Raises ValueError naming the line.
    """
    found = []
    lines = [line for one in text.splitlines() if (line := one.strip())]
    if len(lines) > MOST_METHODS:
        raise ValueError(f"there are {len(lines)} methods; {MOST_METHODS} are the most")
    for line in lines:
        name, at, said = (part.strip() for part in line.partition("@"))
        preset = file(name) if file is not None and name.endswith(".json") else presets.get(name)
        if preset is None:
            raise ValueError(f"there is no method '{name}'; there are: {', '.join(presets)}")
        if not at:
            found.append(Variant(name, "", preset))
            continue
        steps = parse_steps(said)
        if len(steps) != 1:
            raise ValueError(f"'{line}' names {len(steps)} steps; write one after the @, as in: {name} @ 8")
        found.append(Variant(name, str(steps[0]), at_step(name, preset, steps[0])))
    labels = [one.label for one in found]
    twice = [label for label in dict.fromkeys(labels) if labels.count(label) > 1]
    if twice:
        raise ValueError(f"'{twice[0]}' is listed twice; every method may stand on one line")
    return found


def at_step(name: str, preset: Preset, step: Step) -> Preset:
    """`with_refinement_at`, for a method of a list: this is the paper's curve of the step, with and without guidance.

    Raises ValueError naming a method with no refinement at one step, or several.
    """
    if (count := len(refinements(preset))) != 1:
        raise ValueError(
            f"the method '{name}' has {count} refinements that could stand at another step, so a step cannot be"
            " given to it; leave the step out, or take a method with one, such as paper, Ours or Ours+"
        )
    return with_refinement_at(preset, step)


def read_seeds(text: str) -> tuple[int, ...]:
    """`0-3, 10` as (0, 1, 2, 3, 10). Raises ValueError on anything else, on a seed given twice, and on none."""
    seeds: list[int] = []
    for piece in (one.strip() for one in text.replace("\n", ",").split(",")):
        if not piece:
            continue
        found = _RANGE.fullmatch(piece)
        if found is None:
            raise ValueError(f"cannot read the seeds '{piece}'; write whole numbers and ranges, as in 0-15, 40")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last - first >= MOST_SEEDS or last >= 2**64:
            raise ValueError(f"the seeds '{piece}' are no range of at most {MOST_SEEDS} rising numbers below 2^64")
        seeds += range(first, last + 1)
        if len(seeds) > MOST_SEEDS:
            raise ValueError(f"there are more than {MOST_SEEDS} seeds up to '{piece}'; {MOST_SEEDS} are the most")
    if not seeds:
        raise ValueError("no seeds are given; write whole numbers and ranges, as in 0-15, 40")
    twice = next((seed for seed, times in Counter(seeds).items() if times > 1), None)
    if twice is not None:
        raise ValueError(f"the seed {twice} is given twice")
    return tuple(seeds)

"""When an image is good enough: levels of losses, written as text and read from it, and those that the papers give."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..losses import LOSSES
from ..losses.objective import Objective, out_of_reach
from .context import Levels

# Guo et al. 2024 (InitNO), released constants; both are losses in [0, 1] and [0, 0.5].
INITNO_LEVELS = (("attend_excite", 0.2), ("self_conflict", 0.3))


def in_words(levels: Levels, verb: str = "") -> str:
    """`attend_excite at or below 0.2 and ...`, or with the verb " is" the same as a sentence."""
    return " and ".join(f"{name}{verb} at or below {level:g}" for name, level in levels)


def parse_levels(text: str, objective: Objective) -> Levels:
    """`attend_excite 0.2, total 0.5` as levels; nothing for an empty text; `auto` is InitNO's, of the losses in use.

    Raises ValueError on anything else; whether the names and numbers suit the objective is for `check_levels` to say.
    """
    if text.strip() == "auto":
        used = {term.loss for term in objective.terms}
        return tuple(level for level in INITNO_LEVELS if level[0] in used)
    levels = []
    for piece in (p.strip() for p in text.split(",")):
        if not piece:
            continue
        try:
            name, level = piece.split()
            levels.append((name, float(level)))
        except ValueError:
            raise ValueError(
                f"cannot read the level '{piece}'; write a loss and a number, for example attend_excite 0.2, total 0.5"
            ) from None
    return tuple(levels)


def check_levels(levels: Levels, objective: Objective, counts: Sequence[int] = ()) -> None:
    """Raise ValueError for a level that is not a number, names no loss, or lies where the loss cannot come.

    counts: see `Objective.lowest`.
    """
    for name, level in levels:
        if not math.isfinite(level):
            raise ValueError(f"the threshold of {name} is {level}; give a finite number or switch it off")
        watched = ("total", *(term.loss for term in objective.terms))
        if name not in watched:
            raise ValueError(f"the threshold names the loss '{name}'; this objective has {', '.join(watched)}")
        lowest = objective.lowest(name, counts)
        if out_of_reach(level, lowest):
            later = " after a run's first step" if name in LOSSES and LOSSES[name].looks_back else ""
            raise ValueError(
                f"the threshold of {name} is {level:g}, which it cannot reach: it is never below {lowest:g}{later}"
            )

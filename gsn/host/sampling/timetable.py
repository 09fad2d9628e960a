"""Which actions act at which steps of a run, and what a person should know of each."""

from __future__ import annotations

import logging

from ...methods.plan import Action, places
from ...trace import Trace
from ..attention.edit import Range, range_of
from ..errors import named
from .facts import Facts

log = logging.getLogger("gsn-nodes")


def timetable(facts: Facts, trace: Trace) -> dict[int, list[Action]]:
    """Step index -> the actions that act there, in order. The trace is told what will be done and what will not.

    Raises GsnError for an action that the prompt's subjects or the run's steps do not allow.
    """
    found: dict[int, list[Action]] = {}
    for action in facts.actions:
        if not _is_for_these_prompts(action, facts):
            continue
        indices = _steps(action, facts)
        _tell(action, indices, facts, trace)
        for index in indices:
            found.setdefault(index, []).append(action)
    return found


def edited_ranges(facts: Facts, table: dict[int, list[Action]]) -> tuple[Range, ...]:
    """Where the actions that edit attention do it."""
    found = []
    for action in facts.actions:
        steps = tuple(sorted(index for index, acting in table.items() if action in acting))
        if action.intervention.edits and steps:
            found.append(range_of(action, steps, facts.schedule))
    return tuple(found)


def told(trace: Trace, text: str) -> None:
    """A note in the trace, and a warning in the log."""
    trace.notes.append(text)
    log.warning(text)


def _is_for_these_prompts(action: Action, facts: Facts) -> bool:
    described = any(one.attributes for text, _ in facts.texts for one in text.items)
    return action.only in ("", "attributes" if described else "no attributes")


def _steps(action: Action, facts: Facts) -> tuple[int, ...]:
    for subjects, grid in facts.texts:
        named(action.origin, action.objective.check, subjects, grid)
        named(action.origin, action.objective.check_read, subjects, facts.spec.stream)
    where = (action.intervention, action.first, action.last, facts.schedule, facts.preset)
    indices = named(action.origin, places, *where)
    counts = [len(subjects.items) for subjects, _ in facts.texts]
    named(action.origin, action.intervention.check_run, action.objective, indices, counts)
    return indices


def _tell(action: Action, indices: tuple[int, ...], facts: Facts, trace: Trace) -> None:
    if not indices:
        first, last = facts.schedule.sigmas[0], facts.schedule.sigmas[-1]
        told(
            trace,
            f"{action.origin}: its noise level is not part of this run (sigma {first:.4g} to {last:.4g}), so it did"
            " nothing here",
        )
        return
    for said in dict.fromkeys(action.warning(subjects) for subjects, _ in facts.texts):
        if said and (text := f"{action.origin}: {said}") not in trace.notes:  # a preset may have several such moves
            told(trace, text)
    if action.intervention.changes:
        trace.plan.append(f"{action.origin} at {facts.schedule.named(indices)}: {action.describe()}")
        log.info(trace.plan[-1])

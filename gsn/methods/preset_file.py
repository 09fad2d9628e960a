"""A preset as JSON that a person can copy, edit and load; what cannot be meant is refused by its place in the file.

{"use": "...", "noise": "ddpm", "moves": [{"do": "refine", "at": "sigma 5.633", "iterations": 50, ...,
 "loss": [{"loss": "attend_excite", "weight": 0.5}]}]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from reprlib import repr as shown  # of anything that JSON can hold, in a line
from typing import Any

from ..attention.maps import COLUMNS, MapChoice
from ..interventions import INTERVENTIONS
from ..interventions.intervention import Intervention
from ..losses import LOSSES
from ..losses.objective import Objective, Term
from .presets import PRESET_FAMILIES, Move, Preset
from .steps import Step, check_range, parse_steps

_NOISE = ("any", "ddpm", "flow")
_ONLY = ("", "attributes", "no attributes")
_MOST_WEIGHT = 1000.0  # of a loss; more is a slip of the pen


class PresetError(ValueError):
    """The text is not a preset; the message says where and what to write there."""


def to_json(preset: Preset) -> str:
    content = {"use": preset.use, "source": preset.source, "confidence": preset.confidence, "noise": preset.noise,
               "family": preset.family, "maps": preset.maps.given(),
               "moves": [_written(move) for move in preset.moves]}  # fmt: skip
    return json.dumps(content, indent=2, ensure_ascii=False)


def from_json(text: str) -> Preset:
    """Raises PresetError, naming the place."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise PresetError(f"this is not JSON: {error}") from None
    except RecursionError:
        raise PresetError("this is nested deeper than any preset; begin again from GSNPreset's json output") from None
    _known(content, ("use", "source", "confidence", "noise", "family", "maps", "moves"), "the preset")
    noise = _choice(content.get("noise", "any"), _NOISE, "noise")
    family = _choice(content.get("family", "any"), ("any", *PRESET_FAMILIES), "family")
    moves = content.get("moves")
    if not isinstance(moves, list):
        raise PresetError("moves is missing; give a list, [] for ordinary sampling")
    maps = _maps(content.get("maps", {}))
    words = {key: _text(content.get(key, ""), key) for key in ("source", "confidence", "use")}
    made = tuple(_move(one, f"moves[{i}]") for i, one in enumerate(moves))
    return Preset(made, noise, **words, family=family, maps=maps)


def _maps(content: Any) -> MapChoice:
    _known(content, ("columns", "contrast", "blur"), "maps")
    numbers = {name: _number(content[name], f"maps.{name}") for name in ("contrast", "blur") if name in content}
    maps = MapChoice(_choice(content.get("columns", "auto"), COLUMNS, "maps.columns"), **numbers)
    try:
        maps.check()
    except ValueError as error:
        raise PresetError(f"maps: {error}") from None
    return maps


def _written(move: Move) -> dict:
    content: dict[str, Any] = {"do": move.intervention.name}
    if move.last is None:
        content["at"] = str(move.first)
    else:
        content |= {"from": str(move.first), "to": str(move.last)}
    content |= {"paper_step": move.paper_step} if move.paper_step else {}
    content |= {"only": move.only} if move.only else {}
    for field in fields(move.intervention):  # type: ignore[arg-type]  (each is a dataclass)
        value = getattr(move.intervention, field.name)
        content[field.name] = dict(value) if field.name == "stop" else value
    content["loss"] = [_written_term(term) for term in move.objective.terms]
    return content


def _written_term(term: Term) -> dict:
    content: dict[str, Any] = {"loss": term.loss, "weight": term.weight}
    content |= {"settings": dict(term.settings)} if term.settings else {}
    content |= {"while_below": dict([term.while_below])} if term.while_below is not None else {}
    return content


def _move(content: Any, where: str) -> Move:
    _known(content, None, where)
    kinds = {name: one for name, one in INTERVENTIONS.items() if one.changes}
    kind = kinds[_choice(content.get("do"), kinds, f"{where}.do")]
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  (each is a dataclass)
    _known(content, ("do", "at", "from", "to", "paper_step", "only", "loss", *names), where)
    intervention = _intervention(kind, {name: content[name] for name in names if name in content}, where)
    objective = _objective(content.get("loss"), f"{where}.loss")
    first, last = _steps(content, where)
    try:
        if last is not None:
            check_range(first, last)
        objective.check_terms()
        objective.check_weights()
        intervention.check(objective)
    except ValueError as error:
        raise PresetError(f"{where}: {error}") from None
    only = _choice(content.get("only", ""), _ONLY, f"{where}.only")
    return Move(intervention, objective, first, last, _text(content.get("paper_step", ""), f"{where}.paper_step"), only)


def _intervention(kind: type[Intervention], given: dict, where: str) -> Intervention:
    made: dict[str, Any] = {}
    for name, value in given.items():
        place = f"{where}.{name}"
        if name == "stop":
            _known(value, None, place)
            made[name] = tuple((loss, _number(level, f"{place}.{loss}")) for loss, level in value.items())
        else:
            made[name] = _like(value, getattr(kind, name), kind.most, name, place)
    return kind(**made)


def _objective(content: Any, where: str) -> Objective:
    if not isinstance(content, list) or not content:
        raise PresetError(f'{where} is missing; give a list such as [{{"loss": "attend_excite", "weight": 1}}]')
    return Objective(tuple(_term(one, f"{where}[{i}]") for i, one in enumerate(content)))


def _term(content: Any, where: str) -> Term:
    _known(content, ("loss", "weight", "settings", "while_below"), where)
    loss = _choice(content.get("loss"), LOSSES, f"{where}.loss")
    settings, known = content.get("settings", {}), LOSSES[loss].settings()
    _known(settings, tuple(known), f"{where}.settings")
    most = LOSSES[loss].most
    values = tuple(
        (name, _like(value, known[name], most, name, f"{where}.settings.{name}")) for name, value in settings.items()
    )
    below = content.get("while_below")
    if below is not None:
        _known(below, tuple(LOSSES), f"{where}.while_below")
        if len(below) != 1:
            raise PresetError(f"{where}.while_below names {len(below)} losses; name one, with its level")
        ((name, level),) = below.items()
        below = (name, _number(level, f"{where}.while_below.{name}"))
    weight = _like(content.get("weight", 1.0), 1.0, {"weight": _MOST_WEIGHT}, "weight", f"{where}.weight")
    return Term(loss, weight, values, below)


def _steps(content: dict, where: str) -> tuple[Step, Step | None]:
    if "from" in content or "to" in content:
        if "at" in content or "from" not in content or "to" not in content:
            raise PresetError(f"{where} needs either 'at', or both 'from' and 'to'")
        return _step(content["from"], f"{where}.from"), _step(content["to"], f"{where}.to")
    return _step(content.get("at", "auto"), f"{where}.at"), None


def _step(value: Any, where: str) -> Step:
    if value == "auto":
        return Step()
    try:
        (step,) = parse_steps(str(value) if isinstance(value, str | int | float) else "")
    except ValueError:
        raise PresetError(f"{where} is {shown(value)}; write auto, 8, 50% or sigma 5.6") from None
    return step


def _known(content: Any, keys: Iterable[str] | None, where: str) -> None:
    if not isinstance(content, dict):
        raise PresetError(f"{where} is {shown(content)}; write an object in braces")
    if keys is None:
        return
    for key in content:
        if key not in keys:
            raise PresetError(f"{where} has the unknown key {shown(key)}; known are {', '.join(keys) or 'none'}")


def _choice(value: Any, options: Iterable[str], where: str) -> str:
    if not isinstance(value, str) or value not in options:
        raise PresetError(f"{where} is {shown(value)}; choose one of {', '.join(repr(one) for one in options)}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise PresetError(f"{where} is {shown(value)}; write a text in quotes")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PresetError(f"{where} is {shown(value)}; write a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise PresetError(f"{where} is {shown(value)}; write a finite number")
    return number


def _like(value: Any, model: Any, most: Mapping[str, float], name: str, where: str) -> Any:
    """value if it is of the kind of a default value, and no number above the most that is meant by that name."""
    if isinstance(model, bool):
        if not isinstance(value, bool):
            raise PresetError(f"{where} is {shown(value)}; write true or false")
        return value
    if isinstance(model, str):
        return _text(value, where)
    if isinstance(model, int) and (isinstance(value, bool) or not isinstance(value, int)):
        raise PresetError(f"{where} is {shown(value)}; write a whole number")
    number = value if isinstance(model, int) else _number(value, where)
    if abs(number) > most[name]:
        raise PresetError(f"{where} is {shown(number)}; the most is {most[name]:g}")
    return number

"""Every method by its name, as data: what it does to the latent, at which noise levels, and on whose word.

Steps are noise levels, so that they mean the same under every scheduler and number of steps; the paper's own step
stands beside each. Sources: Table 1 of Grimal et al. 2025 and each method's own paper and released constants.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .interventions import Guide, Intervention, Refine
from .losses import PAPER, Objective, objective
from .model_presets import ModelPreset
from .plan import Action, Plan
from .steps import Step
from .trace import TraceHandle


@dataclass(frozen=True)
class Move:
    """One intervention of a method; `last` None = at one step.

    paper_step: the source's own step, for people. only: "attributes" or "no attributes", for which prompts it is.
    by_user: where a node's iterations and rate take the place of the intervention's own: factors on the two.
    """

    intervention: Intervention
    objective: Objective = PAPER
    first: Step = Step()
    last: Step | None = None
    paper_step: str = ""
    only: str = ""
    by_user: tuple[float, float] | None = None


@dataclass(frozen=True)
class Preset:
    """A method. noise: whose noise levels it names: "ddpm", "flow", or "any" where it names none.

    source: where it is from; confidence: how sure its numbers are; use: when a person would choose it.
    """

    moves: tuple[Move, ...]
    noise: str
    source: str
    confidence: str
    use: str


def ddpm_sigma(index: float) -> float:
    """Noise level of a step of SD 1.4's 50 DDPM steps (t = 981 - 20 index); between two, their geometric mean."""
    low, high = math.floor(index), math.ceil(index)
    return round(math.sqrt(_ddpm_sigma(low) * _ddpm_sigma(high)), 4)


def _ddpm_sigma(index: int) -> float:
    kept = 1.0
    for t in range(981 - 20 * index + 1):
        kept *= 1 - (0.00085**0.5 + t / 999 * (0.012**0.5 - 0.00085**0.5)) ** 2
    return math.sqrt((1 - kept) / kept)


def _at(index: int) -> dict:
    return {"first": Step(ddpm_sigma(index), "sigma"), "paper_step": f"{index} of 50"}


def _over(first: int, last: int) -> dict:
    """A range of steps; its ends lie between two steps, so that ranges that follow each other leave no gap."""
    start = Step(0.0, "percent") if first == 0 else Step(ddpm_sigma(first - 0.5), "sigma")
    return {"first": start, "last": Step(ddpm_sigma(last + 0.5), "sigma"), "paper_step": f"{first} to {last} of 50"}


_ATTEND = objective("attend_excite")
_PAPER_MOVE = Move(Refine(), PAPER, by_user=(1.0, 1.0))
_GUIDANCE_MOVE = Move(Guide(), _ATTEND, last=Step(), by_user=(1.0, 1.0))
_FALLING = {"optimiser": "sgd", "lr": 20.0, "schedule": "sqrt", "overshoot": True}  # Chefer et al.'s inner loop


def _refined(objective: Objective, iterations: int, levels: dict[int, tuple[tuple[str, float], ...]]) -> list[Move]:
    """Refinements at several steps, each until its own levels."""
    return [Move(Refine(iterations, stop=stop, **_FALLING), objective, **_at(i)) for i, stop in levels.items()]


_ANY = "paper's settings; the noise level is the model's, untested on real weights but SD 1.4's and SD 3's"
PRESETS: dict[str, Preset] = {
    "paper": Preset((_PAPER_MOVE,), "any", "Grimal et al. 2025", _ANY, "the default: one refinement, the least harm"),
    "guidance": Preset(
        (_GUIDANCE_MOVE,), "any", "Chefer et al. 2023", _ANY, "cheaper than the paper's, and changes every early step"
    ),
    "paper + guidance": Preset(
        (_PAPER_MOVE, _GUIDANCE_MOVE), "any", "Grimal et al. 2025; Chefer et al. 2023", _ANY,
        "when either alone is not enough",
    ),
    "fast": Preset(
        (replace(_PAPER_MOVE, intervention=Refine(10, 0.05), by_user=(1 / 5, 5.0)),), "any", "this project",
        "measured on the demo model alone (benchmarks/README.md)", "a fifth of the gradients of the paper's",
    ),
}  # fmt: skip


def refuse_noise(name: str, noise: str, model: ModelPreset) -> None:
    """Raise ValueError where a preset's noise levels are not this model's."""
    if noise in ("any", model.noise):
        return
    others = ", ".join(key for key, one in PRESETS.items() if one.noise in ("any", model.noise))
    kind = {"ddpm": "SD 1.x, SD 2.x and SDXL", "flow": "flow models such as SD 3 and Flux"}[noise]
    raise ValueError(f"the preset '{name}' names noise levels of {kind}; for this model there are: {others}")


def with_numbers(preset: Preset, step: Step, iterations: int, rate: float, size: float) -> Preset:
    """The preset with a person's numbers in the moves that take them. No iterations or no step size takes the
    refinements or the guidance out of every preset."""
    moves = []
    for move in preset.moves:
        intervention, (share, haste) = move.intervention, move.by_user or (1.0, 1.0)
        if (size if isinstance(intervention, Guide) else iterations) == 0:
            continue
        if move.by_user is not None and isinstance(intervention, Guide):
            move = replace(move, intervention=replace(intervention, size=size * haste))
        elif move.by_user is not None and isinstance(intervention, Refine):
            some = math.ceil(iterations * share)
            move = replace(move, intervention=replace(intervention, iterations=some, lr=rate * haste), first=step)
        moves.append(move)
    return replace(preset, moves=tuple(moves))


def plan_of(origin: str, name: str, preset: Preset) -> tuple[Plan, TraceHandle]:
    """The preset as a plan; name is for messages."""
    handle = TraceHandle()
    actions = tuple(
        Action(origin, move.intervention, move.first, move.last, move.objective, move.only) for move in preset.moves
    )
    return Plan(actions=actions, traces=(handle,), presets=((origin, name, preset.noise),)), handle


def describe(name: str, preset: Preset, model: ModelPreset) -> str:
    """What it will do, at which noise level, in plain words."""
    lines = [f"{name}: {preset.source}", f"numbers: {preset.confidence}", f"this model: {model.source}", ""]
    if not preset.moves:
        lines.append("Ordinary sampling; nothing is changed.")
    for move in preset.moves:
        only = f" (prompts with {move.only})" if move.only else ""
        beside = f", the paper's step {move.paper_step}" if move.paper_step else ""
        lines.append(f"At {_when(move, model)}{beside}{only}:")
        lines.append(f"  {move.intervention.describe()}")
        lines.append(f"  of {move.objective.describe()}")
    return "\n".join(lines)


def _when(move: Move, model: ModelPreset) -> str:
    auto = (model.refine_sigma,) * 2 if move.last is None else model.guide_sigmas
    ends: Sequence[Step] = (move.first,) if move.last is None else (move.first, move.last)
    pairs = zip(ends, auto, strict=False)
    return " to ".join(f"sigma {sigma:.4g} (auto)" if step.unit == "auto" else str(step) for step, sigma in pairs)

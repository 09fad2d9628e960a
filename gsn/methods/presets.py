"""Every method by its name, as data: what it does to the latent, at which noise levels, and on whose word.

Steps are noise levels, so that they mean the same under every scheduler and number of steps; the paper's own step
stands beside each. Sources: Table 1 of Grimal et al. 2025 and each method's own paper and released constants.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..attention.maps import MapChoice
from ..interventions.distribution import Distribution
from ..interventions.guide import Guide
from ..interventions.init_noise import InitNoise
from ..interventions.intervention import Intervention, Phase
from ..interventions.levels import INITNO_LEVELS
from ..interventions.refine import Refine
from ..interventions.reweight import Reweight
from ..interventions.temperature import Temperature
from ..losses.objective import PAPER, Objective, Term, objective
from ..trace import TraceHandle
from .model_presets import MODEL_PRESETS, ModelPreset
from .plan import Action, Plan, places, usual_sigmas
from .steps import Schedule, Step


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
    family: the only models it is for, a key of PRESET_FAMILIES, or "any". maps: the method's own way of making maps;
    what it leaves open is the model's.
    """

    moves: tuple[Move, ...]
    noise: str
    source: str
    confidence: str
    use: str
    family: str = "any"
    maps: MapChoice = MapChoice()


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


_CHEFER = {"optimiser": "sgd", "lr": 20.0, "schedule": "sqrt", "overshoot": True}  # Chefer et al.'s inner loop


def _until(objective: Objective, iterations: int, levels: dict[int, dict[str, float]]) -> tuple[Move, ...]:
    """Refinements by Chefer et al.'s loop at several steps, each until its own levels."""
    return tuple(
        Move(Refine(iterations, stop=tuple(stop.items()), **_CHEFER), objective, **_at(i)) for i, stop in levels.items()
    )


def _guided(objective: Objective, first: int, last: int, schedule: str = "sqrt") -> tuple[Move, ...]:
    return (Move(Guide(20.0, schedule), objective, **_over(first, last)),)


_ATTEND, _SYNGEN, _TV = objective("attend_excite"), objective("syngen"), objective("tv")
_PAPER_MOVE = Move(Refine(), PAPER, by_user=(1.0, 1.0))
_GUIDANCE_MOVE = Move(Guide(), _ATTEND, last=Step(), by_user=(1.0, 1.0))


def _bound(coefficient: float) -> Objective:
    """Divide & Bind's loss for prompts with attributes; its levels are of the variation, which is watched beside it."""
    return objective(Term("tv_bind", settings=(("coefficient", coefficient),)), Term("tv", 0.0))


def _divide_and_bind() -> tuple[Move, ...]:
    levels, binding = {0: 0.05, 10: 0.2, 20: 0.3}, {(0, 9): 1.0, (10, 19): 5.0, (20, 24): 10.0}
    moves = [*_until(_TV, 50, {i: {"tv": -least} for i, least in levels.items()}), *_guided(_TV, 0, 24)]
    moves = [replace(move, only="no attributes") for move in moves]
    for (first, last), coefficient in binding.items():
        loss = _bound(coefficient)
        some = [*_until(loss, 50, {first: {"tv": -levels[first]}}), *_guided(loss, first, last)]
        moves += [replace(move, only="attributes") for move in some]
    return tuple(moves)


INITNO = objective("attend_excite", Term("self_conflict", while_below=("attend_excite", 0.5)), "clean")
_INITNO_NOISE = Move(
    InitNoise(stop=INITNO_LEVELS),
    INITNO,
    Step(0, "index"),
    paper_step="0 of 50",
)
_INITNO_LATER = objective("attend_excite", "self_conflict", Term("clean", 0.1), Term("alignment", 0.1))


def _saga(index: int, momentum: float, **more) -> Move:
    return Move(Distribution(momentum=momentum, **more), PAPER, **_at(index))


# "x100 softmax, smooth", with Attend-and-Excite's kernel. Which columns compete depends on the model, as in its code.
_MAPS = MapChoice(contrast=100.0, blur=0.5)
_SD3_MAPS = replace(_MAPS, columns="words")
_SAGA_SD3 = {"first": Step(0.9298, "sigma"), "paper_step": "5 of 28"}
_SAGA = "the method's released configurations"
PRESET_FAMILIES = {  # key of MODEL_PRESETS -> for people
    "sdxl": "SDXL and its variants",
    "sd3": "SD 3 and SD 3.5",
    "flux": "Flux.1, Flux.2, Chroma and LongCat-Image",
}


def _of_family(family: str, model: str, carried: str, paper_step: str) -> Preset:
    """The paper's refinement with one family's own numbers. carried: where the numbers are from, for people."""
    known = MODEL_PRESETS[family]
    move = Move(Refine(), PAPER, Step(known.refine_sigma, "sigma"), paper_step=paper_step)
    confidence = f"untested on real weights of {model}: {carried}"
    use = f"a place to start on {model}; untested on its real weights"
    return Preset((move,), known.noise, "Grimal et al. 2025", confidence, use, family)


_AUTO = "the source's; the noise level is the model's own, untested on real weights other than SD 1.4's and SD 3's"
_TABLE = "Table 1 of Grimal et al. 2025 and the method's released code"
PRESETS: dict[str, Preset] = {
    "paper": Preset(
        (_PAPER_MOVE,), "any", "Grimal et al. 2025", _AUTO, "the default: one refinement, the other steps untouched"
    ),
    "guidance": Preset(
        (_GUIDANCE_MOVE,), "any", "Chefer et al. 2023, without its refinements", _AUTO,
        "half the gradients of the paper's, and changes every early step",
    ),
    "paper + guidance": Preset(
        (_PAPER_MOVE, _GUIDANCE_MOVE), "any", "Grimal et al. 2025; Chefer et al. 2023", _AUTO,
        "when either alone is not enough",
    ),
    "fast": Preset(
        (replace(_PAPER_MOVE, intervention=Refine(10, 0.05), by_user=(1 / 5, 5.0)),), "any", "this project",
        "measured on the demo model alone", "a fifth of the gradients of the paper's",
    ),
    "plain": Preset((), "any", "ordinary sampling", "exact", "to compare with"),
    "SynGen": Preset(
        _guided(_SYNGEN, 0, 24, "constant"), "ddpm", "Rassin et al. 2023", _TABLE,
        "colours and other describing words on the wrong subject",
    ),
    "Attend&Excite": Preset(
        (*_until(_ATTEND, 20, {0: {"attend_excite": 0.95}, 10: {"attend_excite": 0.5}, 20: {"attend_excite": 0.2}}),
         *_guided(_ATTEND, 0, 24)),
        "ddpm", "Chefer et al. 2023", _TABLE, "the first of its kind: missing subjects", maps=_MAPS,
    ),
    "Divide&Bind": Preset(
        _divide_and_bind(), "ddpm", "Li et al. 2023", f"{_TABLE}; 50 updates at each step as the table says",
        "missing subjects, and with describing words their binding", maps=_MAPS,
    ),
    "InitNO": Preset(
        (_INITNO_NOISE,), "ddpm", "Guo et al. 2024", _TABLE, "missing and mixed subjects; every step after is ordinary",
        maps=_MAPS,
    ),
    "InitNO+": Preset(
        (_INITNO_NOISE, *_until(_INITNO_LATER, 20, {10: dict(INITNO_LEVELS), 20: dict(INITNO_LEVELS)}),
         *_guided(_ATTEND, 0, 24)),
        "ddpm", "Guo et al. 2024", f"{_TABLE}; the guidance takes attend_excite alone, as the code does",
        "InitNO where its start is not enough", maps=_MAPS,
    ),
    "A-STAR": Preset(
        _guided(objective("segregation", "retention"), 0, 24), "ddpm", "Agarwal et al. 2023",
        "no code was released: the losses are the paper's, the mask's threshold and the step size are our choice",
        "subjects that fade or merge in the course of the run",
    ),
    "SynGen+": Preset(
        (Move(Refine(), _SYNGEN, **_at(0)), *_guided(_SYNGEN, 0, 24, "constant")), "ddpm", "Grimal et al. 2025",
        "Table 1; the rate (0.01) is lost in the text and taken from the method beside it",
        "SynGen with a better start",
    ),
    "Ours": Preset(
        (Move(Refine(), PAPER, **_at(8)),), "ddpm", "Grimal et al. 2025",
        "Table 1; the rate (0.01) is lost in the text and is InitNO's, from whom the paper takes it",
        "the paper's own step for SD 1.4 on any model with its noise levels", maps=_MAPS,
    ),
    "Ours+": Preset(
        (Move(Refine(), PAPER, **_at(2)), *_guided(_SYNGEN, 3, 24, "constant")), "ddpm", "Grimal et al. 2025",
        "Table 1; the rate as in Ours, the last guided step is 24 or 25",
        "the paper's best: three subjects, subjects with colours", maps=_MAPS,
    ),
    "Ours (SD 3)": Preset(
        (Move(Refine(), PAPER, Step(0.9741, "sigma"), paper_step="2 of 28"),), "flow", "Grimal et al. 2025",
        "the step is the paper's, the rate (0.01) is lost in the text and a guess", "the paper's own step for SD 3",
        maps=_SD3_MAPS,
    ),
    "Ours (SDXL)": _of_family(
        "sdxl", "SDXL", "noise level and rate are those of SD 1.4, whose schedule of noise it has; of its blocks the"
        " encoder half is read, because on the demo model that half does as well as all", "8 of 50, SD 1.4",
    ),
    "Ours (SD 3.5)": _of_family(
        "sd3", "SD 3.5", "noise level and rate are those of SD 3 medium, where the rate (0.01) is a guess already",
        "2 of 28, SD 3",
    ),
    "Ours (Flux)": _of_family(
        "flux", "Flux", "noise level and rate are those of SD 3 medium, where the rate (0.01) is a guess already; that"
        " its double blocks alone are read is a guess, too", "2 of 28, SD 3",
    ),
    "SAGA": Preset(
        (_saga(10, 0.4),), "ddpm", "Grimal et al. 2026", _SAGA, "many images of one prompt: paid once for the batch",
        maps=_MAPS,
    ),
    "SAGA variance": Preset(
        (_saga(12, 0.4, block=4, per_channel=True),), "ddpm", "Grimal et al. 2026", _SAGA,
        "as SAGA, with more variety where the picture is free", maps=_MAPS,
    ),
    "SAGA+": Preset(
        (_saga(6, 0.1), *_guided(_SYNGEN, 6, 24, "constant")), "ddpm", "Grimal et al. 2026", _SAGA,
        "as SAGA, and describing words on the right subject", maps=_MAPS,
    ),
    "SAGA boxes": Preset(
        (replace(_saga(11, 0.5), objective=objective("box_retention")),), "ddpm", "Grimal et al. 2026", _SAGA,
        "as SAGA, every subject in a box that you draw", maps=_MAPS,
    ),
    "SAGA (SD 3)": Preset(
        (Move(Distribution(momentum=0.7, samples=4), PAPER, **_SAGA_SD3),), "flow", "Grimal et al. 2026", _SAGA,
        "SAGA on SD 3", maps=_SD3_MAPS,
    ),
    "SAGA variance (SD 3)": Preset(
        (Move(Distribution(momentum=0.7, samples=4, block=2, per_channel=True), PAPER, **_SAGA_SD3),), "flow",
        "Grimal et al. 2026", _SAGA, "SAGA variance on SD 3", maps=_SD3_MAPS,
    ),
    "BoxDiff": Preset(
        (*_until(objective("box_inner"), 20, {0: {"box_inner": 0.95}, 10: {"box_inner": 0.5}, 20: {"box_inner": 0.2}}),
         *_guided(objective("boxdiff"), 0, 24)),
        "ddpm", "Xie et al. 2023", "the released code", "every subject in a box that you draw", maps=_MAPS,
    ),
    "FOCUS": Preset(
        (Move(Guide(20.0, "constant"), objective("focus"), last=Step()),), "any", "Bill et al. 2025",
        "the loss is the paper's; the paper shifts the velocity, here the latent is shifted, and the size is a guess",
        "words of one subject that drift apart, on flow models too",
    ),
    "TACA": Preset(
        (Move(Temperature(), last=Step()),), "any", "Lv et al. 2025",
        "the idea is the paper's; factor and steps are this project's, untested on real weights",
        "no gradients: quantised models, no time; models that read text and picture in one attention",
    ),
    "DeLeaker": Preset(
        (Move(Reweight(), last=Step()),), "any", "Ventura et al. 2025",
        "the idea is the paper's; factors and steps are this project's, untested on real weights",
        "no gradients: subjects that leak into each other",
    ),
}  # fmt: skip


def refuse_other_models(name: str, noise: str, family: str, model: ModelPreset) -> None:
    """Raise ValueError where a preset's noise levels are not this model's, or it is for other models alone."""
    if _suits(noise, family, model):
        return
    others = ", ".join(key for key, one in PRESETS.items() if _suits(one.noise, one.family, model))
    kind = {"ddpm": "SD 1.x, SD 2.x and SDXL", "flow": "flow models such as SD 3 and Flux"}
    reason = f"names noise levels of {kind[noise]}" if family == "any" else f"is for {PRESET_FAMILIES[family]}"
    raise ValueError(f"the preset '{name}' {reason}; for this model there are: {others}")


def _suits(noise: str, family: str, model: ModelPreset) -> bool:
    return noise in ("any", model.noise) and (family == "any" or MODEL_PRESETS[family] is model)


def with_numbers(preset: Preset, step: Step, iterations: int, rate: float, size: float) -> Preset:
    """The preset with a person's numbers in the moves that take them. No iterations or no step size takes the
    refinements or the guidance out of every preset."""
    moves, given = [], {"iterations": iterations, "size": size}
    for move in preset.moves:
        if given[move.intervention.number] == 0:
            continue
        if move.by_user is not None:
            share, haste = move.by_user
            changed = move.intervention.with_numbers(math.ceil(iterations * share), rate * haste, size * haste)
            move = replace(move, intervention=changed, first=step if move.last is None else move.first)
        moves.append(move)
    return replace(preset, moves=tuple(moves))


def with_refinement_at(preset: Preset, step: Step, noise: str = "", said: str = "") -> Preset:
    """The preset with its one refinement at another step; guidance that begins after it still does, if it can.

    noise: whose noise levels the step is of, if known. said: where the step is from. Raises ValueError for a preset
    without a refinement at one step, or with several; InitNO's belongs to the first step.
    """
    places = refinements(preset)
    if len(places) != 1:
        has = f"refines at {len(places)} steps" if places else "refines nowhere"
        one = ", ".join(name for name, other in PRESETS.items() if len(refinements(other)) == 1)
        raise ValueError(f"the preset {has}, so one step cannot take its place; presets with one refinement: {one}")
    before = preset.moves[places[0]].first
    moves = []
    for n, move in enumerate(preset.moves):
        levels = move.last is not None and move.first.unit == before.unit == "sigma"
        follows = levels and move.first.value < before.value
        if n == places[0] or follows:
            move = replace(move, first=_after(step) if follows else step, paper_step="")
        first, last = move.first, move.last
        if last is not None and first.unit == last.unit == "sigma" and first.value < last.value:
            continue  # nothing is left of it
        moves.append(move)
    confidence = f"{said}; the rest: {preset.confidence}" if said else preset.confidence
    return replace(preset, moves=tuple(moves), noise=noise or preset.noise, confidence=confidence)


def refinements(preset: Preset) -> list[int]:
    """The places of the moves that refine at one step and may do so at any."""
    phases = (Phase.DRAW, Phase.REFINE)
    return [n for n, one in enumerate(preset.moves) if one.last is None and one.intervention.phase in phases]


def _after(step: Step) -> Step:
    """Where the step after this one begins: exact for an index, and for a sigma that is a level of the run; guidance
    may begin at the refined step itself where the level lies a little above its own."""
    if step.unit == "index":
        return replace(step, value=step.value + 1)
    if step.unit == "percent":
        return replace(step, value=min(100.0, step.value + 0.5))
    return replace(step, value=step.value / 1.01)


def plan_of(origin: str, name: str, preset: Preset) -> tuple[Plan, TraceHandle]:
    """The preset as a plan; name is for messages."""
    handle = TraceHandle()
    actions = tuple(
        Action(origin, move.intervention, move.first, move.last, move.objective, move.only, preset.maps)
        for move in preset.moves
    )
    return Plan(actions=actions, traces=(handle,), presets=((origin, name, preset.noise, preset.family),)), handle


def describe(name: str, preset: Preset, model: ModelPreset, schedule: Schedule | None = None) -> str:
    """What it will do, at which noise level, in plain words; with the schedule of a run, at which of its steps.

    Raises StepError for a step that the run cannot have.
    """
    lines = [f"{name}: {preset.source}"]
    if not preset.moves:
        lines.append("Ordinary sampling; nothing is changed.")
    for move in preset.moves:
        only = f" (prompts with {move.only})" if move.only else ""
        beside = f", the paper's step {move.paper_step}" if move.paper_step else ""
        where = f", {_where(move, model, schedule)}" if schedule is not None else ""
        lines.append(f"At {_when(move, model)}{where}{beside}{only}:")
        lines.append(f"  {move.intervention.describe()}")
        if move.intervention.loss_is == "lowered":
            lines.append(f"  it lowers {move.objective.describe()}")
    lines += ["", f"numbers: {preset.confidence}", f"this model: {model.source}"]
    if preset.maps.given():
        lines.append(f"maps: {', '.join(f'{name} {value}' for name, value in preset.maps.given().items())}")
    return "\n".join(lines)


def _when(move: Move, model: ModelPreset) -> str:
    auto = usual_sigmas(move.intervention, move.last, model)
    ends: Sequence[Step] = (move.first,) if move.last is None else (move.first, move.last)
    pairs = zip(ends, auto, strict=False)
    return " to ".join(f"sigma {sigma:.4g} (auto)" if step.unit == "auto" else str(step) for step, sigma in pairs)


def _where(move: Move, model: ModelPreset, schedule: Schedule) -> str:
    indices = places(move.intervention, move.first, move.last, schedule, model)
    return f"in this run {schedule.named(indices)}" if indices else "which is not part of this run"

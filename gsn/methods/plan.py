"""What a MODEL is asked to do while it is sampled. Chained nodes merge their plans into one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..attention.block_ranges import BlockRange
from ..attention.maps import MapChoice
from ..interventions.intervention import Intervention
from ..losses.objective import PAPER, Objective
from ..text.subjects import Subjects
from ..trace import TraceHandle
from .model_presets import ModelPreset
from .steps import Schedule, Step


@dataclass(frozen=True)
class CaptureSpec:
    """Which attention to read. None or "auto" leaves it to the family's preset.

    blocks: ranges of blocks; ratio: attention grid / latent grid; stream: see MapProcessing.
    memory: "fast" keeps what backward needs, "low" computes it again, "auto" decides by what is free.
    maps: of these settings what it says counts before what an action asks for.
    """

    blocks: tuple[BlockRange, ...] | None = None
    ratio: float | None = None
    stream: str = "average"
    memory: str = "auto"
    maps: MapChoice = MapChoice()


@dataclass(frozen=True)
class Action:
    """An intervention at one step (last None) or at every step from first to last.

    only: "attributes" or "no attributes": it is for prompts whose subjects have some, or none; "" for all.
    maps: how the maps are made that it looks at, where the method has its own way.
    """

    origin: str  # the node that asked, for messages
    intervention: Intervention
    first: Step
    last: Step | None = None
    objective: Objective = PAPER
    only: str = ""
    maps: MapChoice = MapChoice()

    def describe(self) -> str:
        """What it does, in plain words."""
        said = self.intervention.describe()
        return said + f"; it lowers {self.objective.describe()}" * (self.intervention.loss_is == "lowered")

    def warning(self, subjects: Subjects) -> str:
        """What a person should know before a run with these subjects; "" where there is nothing."""
        done = self.intervention.loss_is
        idle = self.objective.left_out(subjects) if done else ()
        if not idle:
            return ""
        names, labels = ", ".join(f"'{name}'" for name in idle), ", ".join(subjects.labels)
        one = len(idle) == 1
        said = (
            f"with {len(subjects.items)} subject ({labels}) the {'loss' if one else 'losses'} {names}"
            f" {'does' if one else 'do'} nothing, for {'it compares' if one else 'they compare'} subjects; what is"
            f" {done} is {self.objective.of(subjects).describe()}"
        )
        levels = [name for name, _ in self.intervention.levels if name in idle]
        return said + (f"; the level of {', '.join(levels)} counts as reached" if levels else "")

    @property
    def needs(self) -> frozenset[str]:
        """Which maps beyond the subjects' own: see `AttentionMaps`."""
        return self.intervention.needs(self.objective)


def usual_sigmas(intervention: Intervention, last: Step | None, model: ModelPreset) -> tuple[float, float]:
    """What `auto` is for the first step and the last one; one step is its own last one."""
    if last is not None:
        return model.guide_sigmas
    one = getattr(model, intervention.usual_sigma)
    return one, one


def places(
    intervention: Intervention, first: Step, last: Step | None, schedule: Schedule, model: ModelPreset
) -> tuple[int, ...]:
    """The steps of a run at which it acts; none where its noise level is not part of it. Raises StepError."""
    usual = usual_sigmas(intervention, last, model)
    if last is not None:
        return schedule.between(first, last, usual)
    index = schedule.find(first, usual[0])
    return () if index is None else (index,)


@dataclass(frozen=True)
class Plan:
    """presets: (node, name, noise, family) of each preset in it, to be checked with the model; see `Preset`."""

    capture: CaptureSpec | None = None
    actions: tuple[Action, ...] = ()
    traces: tuple[TraceHandle, ...] = ()
    presets: tuple[tuple[str, str, str, str], ...] = ()

    def merged(self, other: Plan) -> Plan:
        """This plan, then the other; the later node's capture settings win."""
        return replace(
            other,
            capture=other.capture or self.capture,
            actions=self.actions + other.actions,
            traces=self.traces + other.traces,
            presets=self.presets + other.presets,
        )

    def live_actions(self) -> tuple[Action, ...]:
        """Actions that do something, in the order in which they act at one step."""
        live = [a for a in self.actions if not a.intervention.idle]
        return tuple(sorted(live, key=lambda a: a.intervention.phase))

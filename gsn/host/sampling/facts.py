"""What is known of a run before its first model call; each fact is worked out when it is first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from ...methods.model_presets import MODEL_PRESETS, ModelPreset
from ...methods.plan import Action, CaptureSpec, Plan
from ...methods.steps import Schedule
from ...text.subjects import Subjects
from ..attention.layers import choose_layers, grid_of
from ..families import Family, Layer, family_of
from .conditioning import part_seen, with_some_subjects, with_their_subjects


@dataclass
class Facts:
    """plan: what was asked for; actions: those of it that have something to do. The rest is what ComfyUI hands its
    samplers: the SAMPLER and the guider, all noise levels, and the noise [B, C, h, w] of unit variance, zeros where the
    run adds none."""

    plan: Plan
    actions: tuple[Action, ...]
    sampler: Any
    guider: Any
    sigmas: Tensor
    noise: Tensor

    @property
    def origin(self) -> str:
        """The node to name where no single action is meant."""
        return self.actions[0].origin

    @property
    def spec(self) -> CaptureSpec:
        return self.plan.capture or CaptureSpec()

    @property
    def model(self) -> Any:
        """ComfyUI's BaseModel."""
        return self.guider.inner_model

    @cached_property
    def family(self) -> Family:
        return family_of(self.model, self.origin)

    @property
    def preset(self) -> ModelPreset:
        return MODEL_PRESETS[self.family.preset_name(self.model)]

    @property
    def asking(self) -> tuple[Action, ...]:
        """The actions that can do nothing without subjects."""
        return tuple(action for action in self.actions if action.intervention.needs_subjects)

    @cached_property
    def entries(self) -> list[tuple[dict, Subjects]]:
        """The positive entries with at least one subject, if any action asks for them."""
        return with_some_subjects(self.guider.conds, self.family, self.asking[0].origin) if self.asking else []

    @cached_property
    def edited(self) -> list[tuple[dict, Subjects | None]]:
        """The positive entries whose attention may be edited, if any action does."""
        edits = any(action.intervention.edits for action in self.actions)
        return with_their_subjects(self.guider.conds, self.family) if edits else []

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Those that are read."""
        return choose_layers(self.family, self.model, self.spec, self.preset)

    @cached_property
    def offered(self) -> tuple[Layer, ...]:
        return self.family.layers(self.model)

    @property
    def reads_maps(self) -> bool:
        return any(action.intervention.reads_maps for action in self.actions)

    @cached_property
    def schedule(self) -> Schedule:
        return schedule_of(self.model.model_sampling, self.sigmas)

    @cached_property
    def texts(self) -> list[tuple[Subjects, tuple[int, int]]]:
        """Each entry's subjects, with (h, w) of its maps."""
        seen = self.noise.shape
        return [(subjects, grid_of(self.layers, part_seen(entry, seen))) for entry, subjects in self.entries]


def schedule_of(sampling: Any, sigmas: Tensor) -> Schedule:
    """A run's noise levels; sampling: ComfyUI's model_sampling."""
    return Schedule(
        tuple(float(s) for s in sigmas), lambda p: float(sampling.percent_to_sigma(p)), float(sampling.sigma_max)
    )

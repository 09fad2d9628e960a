"""Look at every block's attention by itself, at some steps of a plain run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...interventions.block_probe import BlockProbe
from ...methods.plan import Action, Plan
from ...methods.steps import Step
from ...text.subjects import SUBJECTS_KEY, Subjects
from ...trace import Trace, TraceHandle
from ..errors import GsnError
from .attach import carrying, plan_of
from .ksampler import sample


def probe_blocks(
    model: Any, seed: int, steps: int, cfg: float, sampler_name: str, scheduler: str, positive: Any, negative: Any,
    latent_image: dict, denoise: float, at: tuple[Step, ...],
) -> Trace:  # fmt: skip
    """What every block's maps are like at some steps of a plain run. Of a model's own plan only the way to read
    counts. Raises GsnError where a prompt has a single subject."""
    for _, options in positive:
        subjects = options.get(SUBJECTS_KEY)
        if isinstance(subjects, Subjects) and len(subjects.items) == 1:
            raise GsnError(
                f"GSNBlockProbe: blocks are judged by how well they tell subjects apart, but the prompt has one"
                f" ({subjects.labels[0]}); name a second subject in GSNSubjects"
            )
    before, handle = plan_of(model), TraceHandle()
    actions = tuple(Action("GSNBlockProbe", BlockProbe(), step) for step in at)
    capture = before.capture if before else None
    capture = capture and replace(capture, blocks=None, ratio=None)
    carrier = carrying(model, Plan(capture, actions, (handle,)))
    sample(carrier, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise)
    if handle.trace is None or not handle.trace.blocks:
        reason = "; ".join(handle.trace.notes) if handle.trace else "the run never began"
        raise GsnError(f"GSNBlockProbe: no block was seen: {reason}")
    return handle.trace

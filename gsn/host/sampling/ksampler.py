"""ComfyUI's own KSampler as a function, and a look at what is connected to a node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.samplers
from comfy_execution.graph_utils import is_link
from server import PromptServer

import nodes as comfy_nodes

from ...interventions import BlockProbe
from ...methods.plan import Action, Plan
from ...methods.steps import Schedule, Step
from ...text.subjects import SUBJECTS_KEY, Subjects
from ...trace import Trace, TraceHandle
from ..errors import GsnError
from .run import carrying, plan_of, schedule_of, with_plan

SAMPLERS = comfy.samplers.KSampler.SAMPLERS
SCHEDULERS = comfy.samplers.KSampler.SCHEDULERS


def sample(
    model: Any, seed: int, steps: int, cfg: float, sampler_name: str, scheduler: str, positive: Any, negative: Any,
    latent_image: dict, denoise: float, plan: Plan | None = None, last_step: int | None = None,
) -> dict:  # fmt: skip
    """A LATENT: exactly what the stock KSampler gives for this model, with the plan added to it.

    last_step: where it ends, unfinished; None = never, as KSampler.
    """
    if plan is not None:
        model = with_plan(model, plan)
    return comfy_nodes.common_ksampler(
        model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise=denoise,
        last_step=last_step,
    )[0]  # fmt: skip


def usual_schedule(model: Any, scheduler: str, steps: int) -> Schedule:
    """The noise levels of a whole run of this MODEL, as KSampler makes them."""
    sampling = model.get_model_object("model_sampling")
    return schedule_of(sampling, comfy.samplers.calculate_sigmas(sampling, scheduler, steps))


def own_schedule(model: Any, steps: int, sampler_name: str, scheduler: str, denoise: float) -> Schedule | None:
    """The noise levels of the run that `sample` makes of this; None where there is nothing to sample."""
    sampler = comfy.samplers.KSampler(model, steps, "cpu", sampler_name, scheduler, denoise, model.model_options)
    if len(sampler.sigmas) < 2:
        return None
    return schedule_of(model.get_model_object("model_sampling"), sampler.sigmas)


def show(node_id: str, text: str) -> None:
    """Text below a node while it is being executed."""
    PromptServer.instance.send_progress_text(text, node_id)


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


def output_connected(prompt: dict | None, node_id: str, slot: int) -> bool:
    """Whether any node of an API-format prompt reads this output."""
    wanted = [str(node_id), slot]
    links = (value for node in (prompt or {}).values() for value in node.get("inputs", {}).values() if is_link(value))
    return any([str(link[0]), link[1]] == wanted for link in links)


def output_connected_now(node_id: str, slot: int) -> bool:
    """The same for the prompts being executed; caching asks before a node is told its prompt."""
    queue = getattr(PromptServer.instance, "prompt_queue", None)
    running = getattr(queue, "currently_running", None) or {}
    return any(output_connected(item[2], node_id, slot) for item in running.values())

"""ComfyUI's own KSampler as a function, and the noise levels that it would take."""

from __future__ import annotations

from typing import Any

import comfy.samplers

import nodes as comfy_nodes

from ...methods.plan import Plan
from ...methods.steps import Schedule
from .attach import with_plan
from .facts import schedule_of

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

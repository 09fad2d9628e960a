"""A MODEL that carries a plan: one attachment under one key, which chained nodes add to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy.patcher_extension import WrappersMP
from comfy_execution.utils import get_executing_context

from ...methods.plan import Action, Plan
from ...trace import Trace, TraceHandle
from . import memory
from .run import prepare

KEY = "gsn"


def with_plan(model: Any, addition: Plan) -> Any:
    """A clone of a MODEL that also does what `addition` says. Nothing is attached when there is nothing to do."""
    return carrying(model, (plan_of(model) or Plan()).merged(addition))


def with_action(model: Any, action: Action) -> tuple[Any, TraceHandle]:
    """The same for one action, and what its trace will be found in."""
    handle = TraceHandle()
    return with_plan(model, Plan(actions=(action,), traces=(handle,))), handle


def with_only(model: Any, plan: Plan) -> Any:
    """A clone of a MODEL that does this and nothing else it was asked to; its own capture settings stay."""
    before = plan_of(model)
    return carrying(model, replace(plan, capture=before.capture if before else None))


def carrying(model: Any, plan: Plan) -> Any:
    """A clone of a MODEL that does what this plan says and nothing else of ours."""
    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
    clone.remove_wrappers_with_key(WrappersMP.PREPARE_SAMPLING, KEY)
    clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, SamplerWrapper(plan))
    if plan.live_actions():
        clone.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, memory.EstimateWrapper(plan))
    return clone


def plan_of(model: Any) -> Plan | None:
    """The plan a MODEL carries."""
    found = model.get_wrappers(WrappersMP.SAMPLER_SAMPLE, KEY)
    return found[0].plan if found else None


class SamplerWrapper:
    """ComfyUI's SAMPLER_SAMPLE wrapper that carries out a plan."""

    def __init__(self, plan: Plan):
        self.plan = plan

    def __call__(self, executor, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None,
                 disable_pbar=False):  # fmt: skip
        arguments = (guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar)
        trace = Trace(batch=noise.shape[0])
        run = prepare(self.plan, executor.class_obj, guider, sigmas, noise, trace)
        context = get_executing_context()
        for handle in self.plan.traces:
            handle.receive(trace, run is not None, context.prompt_id if context else "")
        if run is None:
            return executor(*arguments)
        with run.in_place(executor.class_obj):
            return executor(guider, sigmas, run.attached(extra_args), *arguments[3:])

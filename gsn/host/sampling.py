"""ComfyUI's own KSampler as a function, and a look at what is connected to a node."""

from __future__ import annotations

from typing import Any

import comfy.samplers
from comfy_execution.graph_utils import is_link
from server import PromptServer

import nodes as comfy_nodes

from ..plan import Plan
from .run import with_plan

SAMPLERS = comfy.samplers.KSampler.SAMPLERS
SCHEDULERS = comfy.samplers.KSampler.SCHEDULERS


def sample(
    model: Any, seed: int, steps: int, cfg: float, sampler_name: str, scheduler: str, positive: Any, negative: Any,
    latent: dict, denoise: float, plan: Plan | None = None, last_step: int | None = None,
) -> dict:  # fmt: skip
    """A LATENT: exactly what the stock KSampler gives for this model, with the plan added to it.

    last_step: where it ends, unfinished; None = never, as KSampler.
    """
    if plan is not None:
        model = with_plan(model, plan)
    return comfy_nodes.common_ksampler(
        model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise=denoise,
        last_step=last_step,
    )[0]  # fmt: skip


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

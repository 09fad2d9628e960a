"""gsn-nodes: make every subject of the prompt appear. What ComfyUI imports; no side effects."""

from comfy_api.latest import ComfyExtension

from .nodes import (
    capture,
    demo,
    evaluate,
    guidance,
    loss,
    metrics,
    noise,
    presets,
    probe,
    refine,
    sample,
    search,
    selection,
    subjects,
    sweep,
    views,
)
from .nodes import without_gradients as without

MODULES = (
    demo, subjects, capture, loss, refine, guidance, noise, search, without, presets, sample, probe, views, evaluate,
    metrics, selection, sweep,
)  # fmt: skip

WEB_DIRECTORY = "./web"


class GSNExtension(ComfyExtension):
    async def get_node_list(self):
        return [node for module in MODULES for node in module.NODES]


async def comfy_entrypoint():
    return GSNExtension()

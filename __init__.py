"""gsn-nodes: make every subject of the prompt appear. What ComfyUI imports; no side effects."""

from comfy_api.latest import ComfyExtension

from .nodes import MODULES

WEB_DIRECTORY = "./web"


class GSNExtension(ComfyExtension):
    async def get_node_list(self):
        return [node for module in MODULES for node in module.NODES]


async def comfy_entrypoint():
    return GSNExtension()

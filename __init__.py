"""gsn-nodes: make every subject of the prompt appear. What ComfyUI imports; no side effects."""

from .gsn.host.version import check_version

check_version()  # an older ComfyUI fails in some import further down, and says nothing of its age

from comfy_api.latest import ComfyExtension  # noqa: E402

from .nodes import MODULES  # noqa: E402

WEB_DIRECTORY = "./web"


class GSNExtension(ComfyExtension):
    async def get_node_list(self):
        return [node for module in MODULES for node in module.NODES]


async def comfy_entrypoint():
    return GSNExtension()

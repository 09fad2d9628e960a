"""GSNDemoModel: the model that comes with the pack, so that everything can be tried without a download."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.host.demo import demo_names, load_demo, vocabulary
from .sockets import CATEGORY


class GSNDemoModel(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        names = demo_names()
        nouns = "; ".join(f"{name}: {', '.join(vocabulary(name))}" for name in names)
        return io.Schema(
            node_id="GSNDemoModel",
            display_name="GSN Demo Model",
            category=CATEGORY,
            description="A very small text-to-image model that comes with the pack and runs on any machine. Use it"
            f" at 128 x 128 pixels. It can draw these and nothing else: {nouns}.",
            search_aliases=["tiny model", "toy model", "example checkpoint", "no download"],
            inputs=[
                io.Combo.Input("which", options=names, tooltip="Which demo model. It can draw: " + nouns + "."),
            ],
            outputs=[
                io.Model.Output(),
                io.Clip.Output(tooltip="A node that encodes a prompt with words the model does not know says so."),
                io.Vae.Output(),
            ],
        )

    @classmethod
    @override
    def execute(cls, which) -> io.NodeOutput:
        return io.NodeOutput(*load_demo(which))


NODES = [GSNDemoModel]

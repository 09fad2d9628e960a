"""GSNDemoModel: the model that comes with the pack, so that everything can be tried without a download."""

from __future__ import annotations

import logging

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context
from server import PromptServer
from typing_extensions import override

from ..gsn.host.demo import demo_names, load_demo, unknown_words, vocabulary
from .io import CATEGORY

log = logging.getLogger("gsn-nodes")


def _tell_unknown_words(clip, which: str) -> None:
    """From now on a prompt with words the model has never read says so on the node that encodes it."""
    tokenize = clip.tokenizer.tokenize_with_weights

    def telling(text, *args, **kwargs):
        unknown = unknown_words(which, text)
        if unknown:
            nouns = ", ".join(vocabulary(which))
            note = f"The demo model has never read: {', '.join(unknown)}. It can draw: {nouns}."
            log.warning(note)
            node = get_executing_context()
            if node is not None:
                PromptServer.instance.send_progress_text(note, node.node_id)
        return tokenize(text, *args, **kwargs)

    clip.tokenizer.tokenize_with_weights = telling


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
        model, clip, vae = load_demo(which)
        _tell_unknown_words(clip, which)
        return io.NodeOutput(model, clip, vae)


NODES = [GSNDemoModel]

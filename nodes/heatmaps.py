"""GSNHeatmaps: where the model looked for each subject."""

from __future__ import annotations

from comfy_api.latest import io, ui
from typing_extensions import override

from ..gsn.host.errors import named
from ..gsn.pictures.heatmaps import WHEN, heatmaps
from .inputs import decoded_picture_input, trace_input
from .sockets import CATEGORY


class GSNHeatmaps(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="GSNHeatmaps",
            display_name="GSN Heatmaps",
            category=CATEGORY,
            description="Draws where the model looked for each subject, over the picture: before and after"
            " the refinement, or at every moment that was kept.",
            search_aliases=["attention maps", "heatmap", "daam", "overlay"],
            is_output_node=True,
            inputs=[
                trace_input(),
                decoded_picture_input(
                    "image",
                    "; the maps are drawn over it. Also makes this node run after the sampler: a trace from a model"
                    " patch needs it.",
                ),
                io.String.Input(
                    "words", default="", tooltip="Subjects to draw, separated by commas. Empty: all of them."
                ),
                io.Combo.Input(
                    "when",
                    options=list(WHEN),
                    default=WHEN[0],
                    advanced=True,
                    tooltip="before | after: the refinement, or without one the first and last moment."
                    " every kept moment: a filmstrip per subject, at most 24 moments.",
                ),
                io.Float.Input(
                    "opacity",
                    default=0.7,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip="Of the map over the picture, which is shown in grey. 1 = map only.",
                ),
            ],
            outputs=[io.Image.Output(display_name="heatmaps")],
        )

    @classmethod
    @override
    def execute(cls, trace, words, when, opacity, image=None) -> io.NodeOutput:
        run = named("GSNHeatmaps", trace.of_the_run, "image")
        drawn = named("GSNHeatmaps", heatmaps, run, image, words, when, opacity)
        return io.NodeOutput(drawn, ui=ui.PreviewImage(drawn, cls=cls))


NODES = [GSNHeatmaps]

"""GSNLossCurve: the loss over iterations and steps, as a picture and as numbers."""

from __future__ import annotations

from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from typing_extensions import override

from ..gsn.host.errors import named
from ..gsn.pictures.loss_curve import loss_curve
from .inputs import decoded_picture_input, trace_input
from .sockets import CATEGORY


class GSNLossCurve(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="GSNLossCurve",
            display_name="GSN Loss Curve",
            category=CATEGORY,
            description="Draws the loss and the largest value of each subject's map over the iterations of a"
            " refinement and the steps of a guidance, and says why each image stopped.",
            search_aliases=["loss graph", "plot loss", "trace", "convergence"],
            is_output_node=True,
            inputs=[
                trace_input(),
                decoded_picture_input(
                    "after",
                    ". It is not drawn: it makes this node run after the sampler. Not needed for a trace from"
                    " GSNKSampler.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="curves"),
                io.Custom("LOSS_MAP").Output(
                    display_name="loss map",
                    tooltip="For ComfyUI's own Plot Loss Graph; nothing without a loss.",
                ),
                io.String.Output(display_name="json", tooltip="The whole trace: all numbers, without the maps."),
            ],
        )

    @classmethod
    @override
    def execute(cls, trace, after=None) -> io.NodeOutput:
        run = named("GSNLossCurve", trace.of_the_run, "after")
        drawn = loss_curve(run)
        losses = run.to_loss_map() if run.records else ExecutionBlocker(None)
        return io.NodeOutput(drawn, losses, run.to_json(), ui=ui.PreviewImage(drawn, cls=cls))


NODES = [GSNLossCurve]

"""GSNHeatmaps and GSNLossCurve: a Trace as pictures."""

from __future__ import annotations

from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from typing_extensions import override

from ..gsn.host.errors import GsnError
from ..gsn.pictures import heatmaps as draw
from ..gsn.trace import Trace as Account
from ..gsn.trace import TraceHandle
from .io import CATEGORY, Trace


def _sampled(handle: TraceHandle, node: str, socket: str) -> Account:
    if handle.trace is None:
        raise GsnError(
            f"{node}: the model of this trace has not been sampled yet. Connect the decoded picture"
            f" (VAE Decode, after the sampler) to '{socket}', so that this node runs after the sampler"
        )
    return handle.trace


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
                Trace.Input("trace", tooltip="From any GSN node with a trace output."),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The decoded picture of the same run; the maps are drawn over it. Also makes"
                    " this node run after the sampler: a trace from a model patch needs it.",
                ),
                io.String.Input(
                    "words", default="", tooltip="Subjects to draw, separated by commas. Empty: all of them."
                ),
                io.Combo.Input(
                    "when",
                    options=list(draw.WHEN),
                    default=draw.WHEN[0],
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
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    @override
    def execute(cls, trace, words, when, opacity, image=None) -> io.NodeOutput:
        account = _sampled(trace, "GSNHeatmaps", "image")
        try:
            sheet = draw.heatmaps(account, image, words, when, opacity)
        except ValueError as error:
            raise GsnError(f"GSNHeatmaps: {error}") from None
        return io.NodeOutput(sheet, ui=ui.PreviewImage(sheet, cls=cls))


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
                Trace.Input("trace", tooltip="From any GSN node with a trace output."),
                io.Image.Input(
                    "after",
                    optional=True,
                    tooltip="The decoded picture of the same run. It is not drawn: it makes this node run"
                    " after the sampler. Not needed for a trace from GSNKSampler.",
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
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    @override
    def execute(cls, trace, after=None) -> io.NodeOutput:
        account = _sampled(trace, "GSNLossCurve", "after")
        sheet = draw.curves(account)
        losses = account.to_loss_map() if account.records else ExecutionBlocker(None)
        return io.NodeOutput(sheet, losses, account.to_json(), ui=ui.PreviewImage(sheet, cls=cls))


NODES = [GSNHeatmaps, GSNLossCurve]

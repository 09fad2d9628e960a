"""GSNBlockProbe: which blocks' attention tells the subjects of a prompt apart, on this very model."""

from __future__ import annotations

from comfy_api.latest import io, ui
from typing_extensions import override

from ..gsn.attention.block_scores import block_text, ranking, table
from ..gsn.host.errors import named
from ..gsn.host.sampling.block_probe import probe_blocks
from ..gsn.methods.steps import Step, parse_steps
from ..gsn.pictures.block_ranking import block_ranking
from .inputs import denoise_input, ksampler_inputs, step_list_input
from .sockets import CATEGORY


class GSNBlockProbe(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="GSNBlockProbe",
            display_name="GSN Block Probe",
            category=CATEGORY,
            description="Samples once without changing anything, looks at every block's attention by itself, and ranks"
            " the blocks by how well they tell the subjects of GSNSubjects apart. Its blocks output goes into"
            " AttentionCapture.",
            search_aliases=["attention blocks", "layer ranking", "best block", "which layers"],
            is_output_node=True,
            inputs=[
                *ksampler_inputs(
                    20,
                    "euler",
                    "normal",
                    model="The model to look at. What our nodes do to it is left out.",
                    seed="The random seed of the noise. Ranks vary with it: look at a batch, or at several.",
                    positive="From GSNSubjects, with two subjects or more.",
                    latent_image="The latent to start from. A batch gives a steadier ranking.",
                ),
                denoise_input(),
                step_list_input("at_steps", "Steps at which to look", empty="where the refinement acts"),
                io.Int.Input(
                    "keep", default=3, min=1, max=1000, tooltip="How many of the best blocks to name in the output."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="ranking"),
                io.String.Output(display_name="blocks", tooltip="The best blocks, for AttentionCapture's blocks."),
                io.String.Output(display_name="table", tooltip="Every block's numbers. Connect Preview as Text."),
            ],
        )  # fmt: skip

    @classmethod
    @override
    def execute(cls, at_steps, keep, **ksampler) -> io.NodeOutput:
        at = named("GSNBlockProbe", parse_steps, at_steps) or (Step(),)
        trace = probe_blocks(**ksampler, at=at)
        scores = ranking(trace.blocks)
        chart = block_ranking(scores, keep, f"{', '.join(trace.labels)} in: {trace.prompt}")
        return io.NodeOutput(chart, block_text(scores[:keep]), table(scores), ui=ui.PreviewImage(chart, cls=cls))


NODES = [GSNBlockProbe]

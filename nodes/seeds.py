"""GSNSeeds: a seed of its own for every image of a batch, so that every picture is comparable with the next."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.host.errors import named
from ..gsn.host.sampling.image_seeds import with_seeds
from ..gsn.methods.sweep import read_seeds
from .inputs import model_input
from .sockets import CATEGORY


class GSNSeeds(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="GSNSeeds",
            display_name="GSN Seeds",
            category=CATEGORY,
            description="A seed of its own for every image of a batch, so that each is the picture of that seed"
            " alone: comparable across methods, and independent of the batch's size. The sampler's own seed no longer"
            " makes the noise. Put it between the model and any sampler.",
            search_aliases=["batch seeds", "seed list", "per image seed", "same seed"],
            inputs=[
                model_input(),
                io.String.Input("seeds", default="0-3", tooltip="Whole numbers and ranges: 0-15, 40. One per image."),
            ],
            outputs=[
                io.Model.Output(),
                io.Int.Output(display_name="count", tooltip="How many: for batch_size of Empty Latent Image."),
            ],
        )

    @classmethod
    @override
    def execute(cls, model, seeds) -> io.NodeOutput:
        numbers = named("GSNSeeds", read_seeds, seeds)
        return io.NodeOutput(with_seeds(model, "GSNSeeds", numbers), len(numbers))


NODES = [GSNSeeds]

"""GSNDistribution: a distribution of latents to draw the images from, as a MODEL patch."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.host.sampling.attach import with_action
from ..gsn.interventions.distribution import MEANS, Distribution
from ..gsn.losses.objective import PAPER
from ..gsn.methods.plan import Action
from ..gsn.methods.steps import Step
from .inputs import FOLDED, iterations_input, loss_input, model_input, step_inputs, step_size_input
from .sockets import CATEGORY, patch_outputs


class GSNDistribution(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="GSNDistribution",
            display_name="GSN Distribution",
            category=CATEGORY,
            description="Stops the sampler at one step and learns a distribution of latents that have every subject of"
            " GSNSubjects, then draws the images of the batch from it, each with the noise it began with. Put it"
            " between the model and any sampler.",
            search_aliases=["saga", "signal distribution", "missing subject", "prompt alignment"],
            inputs=[
                model_input(),
                *step_inputs(default=10.0),
                iterations_input("Updates of the distribution. 0 = off, exactly."),
                io.Int.Input(
                    "samples",
                    default=10,
                    min=1,
                    max=100,
                    tooltip="Latents drawn for each update; each costs about one to two model calls. SAGA: 10, and 4 on"
                    " SD 3.",
                ),
                io.Boolean.Input(
                    "shared",
                    default=True,
                    tooltip="One distribution for all images of the batch, which share its samples: the cost does not"
                    " grow with the batch up to that many images. Off: one for each image.",
                ),
                step_size_input("How far one update goes. More repairs more and harms more.", name="lr"),
                io.Float.Input(
                    "momentum",
                    default=0.4,
                    min=0.0,
                    max=0.99,
                    step=0.05,
                    tooltip="How much of the update before goes on. SAGA: 0.4; 0.7 on SD 3; 0.1 with guidance after.",
                ),
                loss_input(),
                io.Int.Input(
                    "block",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Side of the tiles, in latent cells, whose variance is learned too. 0: it is not. SAGA: 4,"
                    " and 2 on SD 3.",
                    **FOLDED,
                ),
                io.Boolean.Input(
                    "per_channel",
                    default=True,
                    tooltip="Each channel has a variance of its own, where variance is learned.",
                    **FOLDED,
                ),
                io.Combo.Input(
                    "start",
                    options=list(MEANS),
                    default="x0_mean",
                    tooltip="Where the mean begins. x0_mean: the colour of the clean estimate. x0: the estimate itself,"
                    " which keeps its layout.",
                    **FOLDED,
                ),
                io.Boolean.Input(
                    "rescale",
                    default=True,
                    tooltip="Keep the mean's contrast at or below that of the clean estimate.",
                    **FOLDED,
                ),
            ],
            outputs=patch_outputs(),
        )

    @classmethod
    @override
    def execute(
        cls,
        model,
        step,
        step_unit,
        iterations,
        samples,
        shared,
        lr,
        momentum,
        loss=None,
        block=0,
        per_channel=True,
        start="x0_mean",
        rescale=True,
    ) -> io.NodeOutput:
        wanted = Distribution(iterations, samples, lr, momentum, block, per_channel, shared, start, rescale)
        action = Action("GSNDistribution", wanted, Step(step, step_unit), objective=loss or PAPER)
        return io.NodeOutput(*with_action(model, action))


NODES = [GSNDistribution]

"""GSNInitNoise and GSNDistribution: better noise to begin with, and a distribution to draw images from."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.host.errors import GsnError
from ..gsn.host.sampling.run import with_action
from ..gsn.interventions.distribution import MEANS, Distribution
from ..gsn.interventions.init_noise import InitNoise
from ..gsn.interventions.levels import parse_levels
from ..gsn.losses.objective import PAPER
from ..gsn.methods.plan import Action
from ..gsn.methods.presets import INITNO
from ..gsn.methods.steps import Step
from .io import CATEGORY, loss_input, model_input, step_inputs, trace_output


class GSNInitNoise(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="GSNInitNoise",
            display_name="GSN Initial Noise",
            category=CATEGORY,
            description="Optimises the noise that a run starts from until every subject of GSNSubjects has its place,"
            " and tries other noise where that fails. The noise stays as a sampler expects it. Put it between the model"
            " and any sampler.",
            search_aliases=["initno", "initial noise optimization", "noise optimisation", "missing subject"],
            inputs=[
                model_input(),
                io.Int.Input(
                    "rounds",
                    default=5,
                    min=0,
                    max=100,
                    tooltip="Attempts, each with other noise; an image that succeeds needs no more. 0 = off, exactly.",
                ),
                io.Int.Input(
                    "iterations",
                    default=10,
                    min=0,
                    max=1000,
                    tooltip="Gradient steps in each round; each costs about one to two model calls. 0 = off, exactly.",
                ),
                io.Int.Input(
                    "last_iterations",
                    default=50,
                    min=0,
                    max=1000,
                    tooltip="Where no round succeeds, the best one is run again with so many gradient steps. 0 = its"
                    " own result is taken.",
                ),
                io.String.Input(
                    "success",
                    default="auto",
                    tooltip="When an image is good enough: losses and their levels, such as: attend_excite 0.2, total"
                    " 0.5. auto: the paper's levels of the losses in use. Empty: never.",
                ),
                loss_input(),
                io.Float.Input(
                    "lr",
                    default=0.01,
                    min=0.0,
                    max=10.0,
                    step=0.001,
                    round=False,
                    advanced=True,
                    optional=True,
                    tooltip="How far one gradient step may move the noise.",
                ),
            ],
            outputs=[io.Model.Output(), trace_output()],
        )

    @classmethod
    @override
    def execute(cls, model, rounds, iterations, last_iterations, success, loss=None, lr=0.01) -> io.NodeOutput:
        goal = loss or INITNO
        try:
            levels = parse_levels(success, goal)
        except ValueError as error:
            raise GsnError(f"GSNInitNoise: {error}") from None
        better = InitNoise(rounds, iterations, last_iterations, lr, levels)
        action = Action("GSNInitNoise", better, Step(0, "index"), objective=goal)
        return io.NodeOutput(*with_action(model, action))


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
                io.Int.Input(
                    "iterations", default=50, min=0, max=1000, tooltip="Updates of the distribution. 0 = off, exactly."
                ),
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
                io.Float.Input(
                    "lr",
                    default=20.0,
                    min=0.0,
                    max=10000.0,
                    step=0.5,
                    tooltip="How far one update goes. More repairs more and harms more.",
                ),
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
                    advanced=True,
                    optional=True,
                    tooltip="Side of the tiles, in latent cells, whose variance is learned too. 0: it is not. SAGA: 4,"
                    " and 2 on SD 3.",
                ),
                io.Boolean.Input(
                    "per_channel",
                    default=True,
                    advanced=True,
                    optional=True,
                    tooltip="Each channel has a variance of its own, where variance is learned.",
                ),
                io.Combo.Input(
                    "start",
                    options=list(MEANS),
                    default="x0_mean",
                    advanced=True,
                    optional=True,
                    tooltip="Where the mean begins. x0_mean: the colour of the clean estimate. x0: the estimate itself,"
                    " which keeps its layout.",
                ),
                io.Boolean.Input(
                    "rescale",
                    default=True,
                    advanced=True,
                    optional=True,
                    tooltip="Keep the mean's contrast at or below that of the clean estimate.",
                ),
            ],
            outputs=[io.Model.Output(), trace_output()],
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


NODES = [GSNInitNoise, GSNDistribution]

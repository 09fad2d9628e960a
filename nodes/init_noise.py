"""GSNInitNoise: better noise to begin with, as a MODEL patch."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.host.errors import named
from ..gsn.host.sampling.attach import with_action
from ..gsn.interventions.init_noise import InitNoise
from ..gsn.interventions.levels import parse_levels
from ..gsn.methods.plan import Action
from ..gsn.methods.presets import INITNO
from ..gsn.methods.steps import Step
from .inputs import FOLDED, iterations_input, loss_input, lr_input, model_input
from .sockets import CATEGORY, patch_outputs


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
                iterations_input(
                    "Gradient steps in each round; each costs about one to two model calls. 0 = off, exactly.",
                    default=10,
                ),
                iterations_input(
                    "Where no round succeeds, the best one is run again with so many gradient steps. 0 = its own result"
                    " is taken.",
                    name="last_iterations",
                ),
                io.String.Input(
                    "success",
                    default="auto",
                    tooltip="When an image is good enough: losses and their levels, such as: attend_excite 0.2, total"
                    " 0.5. auto: the paper's levels of the losses in use. Empty: never.",
                ),
                loss_input(),
                lr_input("How far one gradient step may move the noise.", **FOLDED),
            ],
            outputs=patch_outputs(),
        )

    @classmethod
    @override
    def execute(cls, model, rounds, iterations, last_iterations, success, loss=None, lr=0.01) -> io.NodeOutput:
        goal = loss or INITNO
        levels = named("GSNInitNoise", parse_levels, success, goal)
        better = InitNoise(rounds, iterations, last_iterations, lr, levels)
        action = Action("GSNInitNoise", better, Step(0, "index"), objective=goal)
        return io.NodeOutput(*with_action(model, action))


NODES = [GSNInitNoise]

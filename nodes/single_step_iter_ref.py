"""SingleStepIterRef: the paper's single refinement, as a MODEL patch."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.host.errors import named
from ..gsn.host.sampling.attach import with_action
from ..gsn.interventions.levels import parse_levels
from ..gsn.interventions.refine import Refine
from ..gsn.losses.objective import PAPER
from ..gsn.methods.plan import Action
from ..gsn.methods.steps import Step
from .inputs import FOLDED, iterations_input, loss_input, lr_input, model_input, step_inputs
from .sockets import CATEGORY, patch_outputs


class SingleStepIterRef(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="SingleStepIterRef",
            display_name="Single-Step Iterative Refinement",
            category=CATEGORY,
            description="Stops the sampler at one step, optimises the latent until every subject of"
            " GSNSubjects has a strong"
            " and separate place in the attention maps, and lets the sampler go on. Put it between the model"
            " and any sampler.",
            search_aliases=["attend and excite", "missing subject", "prompt alignment", "step selection", "GSN"],
            inputs=[
                model_input(),
                *step_inputs(),
                iterations_input("Gradient steps; each costs about one to two ordinary model calls. 0 = off, exactly."),
                lr_input(
                    "How far one gradient step may move the latent. More repairs more and harms more.", most=10000.0
                ),
                loss_input(),
                io.Combo.Input(
                    "optimiser",
                    options=["adam", "sgd"],
                    default="adam",
                    tooltip="adam as in the paper; sgd is the plain gradient and wants lr around 20.",
                    **FOLDED,
                ),
                io.Boolean.Input(
                    "stop_early",
                    default=False,
                    tooltip="Stop an image once its loss is at or below the threshold. The paper does not.",
                    **FOLDED,
                ),
                io.Float.Input(
                    "threshold",
                    default=0.2,
                    min=-1000.0,
                    max=1000.0,
                    step=0.01,
                    tooltip="Loss at which stop_early ends the refinement.",
                    **FOLDED,
                ),
                io.Int.Input(
                    "patience",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Stop an image once so many updates in a row have not lowered its loss. 0 = never.",
                    **FOLDED,
                ),
                io.String.Input(
                    "levels",
                    default="",
                    tooltip="Stop an image once each of these losses of the sum is at or below its level, such as:"
                    " attend_excite 0.5, tv -0.2. With stop_early its threshold must be reached as well. Empty: none.",
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
        lr,
        loss=None,
        optimiser="adam",
        stop_early=False,
        threshold=0.2,
        patience=0,
        levels="",
    ) -> io.NodeOutput:
        goal = loss or PAPER
        stop = named("SingleStepIterRef", parse_levels, levels, goal)
        stop += (("total", threshold),) if stop_early else ()
        refine = Refine(iterations, lr, optimiser, stop=stop, patience=patience)
        action = Action("SingleStepIterRef", refine, Step(step, step_unit), objective=goal)
        return io.NodeOutput(*with_action(model, action))


NODES = [SingleStepIterRef]

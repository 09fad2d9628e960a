"""GSNGuidance: one gradient shift at every step of a range, as a MODEL patch."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.host.sampling.attach import with_action
from ..gsn.interventions.guide import Guide
from ..gsn.interventions.schedule import SCHEDULES
from ..gsn.losses.objective import objective
from ..gsn.methods.plan import Action
from ..gsn.methods.steps import Step
from .inputs import loss_input, model_input, range_inputs, step_size_input
from .sockets import CATEGORY, patch_outputs


class GSNGuidance(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="GSNGuidance",
            display_name="GSN Guidance",
            category=CATEGORY,
            description="Nudges the latent once per step towards a picture in which every subject of"
            " GSNSubjects has its"
            " place. Alone, or after SingleStepIterRef. Put it between the model and any sampler.",
            search_aliases=["attend and excite", "generative semantic nursing", "missing subject"],
            inputs=[
                model_input(),
                step_size_input("How far each nudge goes; 20 as in the papers. 0 = off, exactly."),
                io.Combo.Input(
                    "schedule",
                    options=list(SCHEDULES),
                    default="sqrt",
                    tooltip="sqrt: falls to 0.71 of the step size over the run. constant: does not.",
                ),
                *range_inputs("", "Last guided step, included. "),
                loss_input(),
            ],
            outputs=patch_outputs(),
        )

    @classmethod
    @override
    def execute(cls, model, step_size, schedule, first_step, last_step, step_unit, loss=None) -> io.NodeOutput:
        action = Action(
            "GSNGuidance",
            Guide(step_size, schedule),
            Step(first_step, step_unit),
            Step(last_step, step_unit),
            loss or objective("attend_excite"),
        )
        return io.NodeOutput(*with_action(model, action))


NODES = [GSNGuidance]

"""GSNAttentionReweight: each subject's place listens to its own words, without gradients, as a MODEL patch."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.host.sampling.attach import with_action
from ..gsn.interventions.reweight import Reweight
from ..gsn.methods.plan import Action
from ..gsn.methods.steps import Step
from .inputs import FOLDED, model_input, range_inputs
from .sockets import CATEGORY, WITHOUT_GRADIENTS, patch_outputs


class GSNAttentionReweight(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="GSNAttentionReweight",
            display_name="GSN Attention Reweight",
            category=CATEGORY,
            description="Finds each subject's place in its attention map, and lets that place attend more to the"
            " subject's own words and less to the other subjects'. Needs no gradients, so it works on every quantised"
            " model.",
            search_aliases=["deleaker", "semantic leakage", "subjects mixed up", *WITHOUT_GRADIENTS],
            inputs=[
                model_input(),
                io.Float.Input(
                    "own",
                    default=2.0,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="Factor on a place's attention to its own subject's words, before attention is shared out."
                    " 1 = unchanged.",
                ),
                io.Float.Input(
                    "others",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="Factor on a place's attention to the other subjects' words. 0 = none of it, 1 ="
                    " unchanged. With own = 1 and others = 1 the node is off, exactly.",
                ),
                io.Float.Input(
                    "threshold",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="A cell belongs to a subject whose map lies this many standard deviations above its mean"
                    " there. Higher: smaller places.",
                    **FOLDED,
                ),
                *range_inputs("First edited step. ", "Last edited step, included. ", **FOLDED),
            ],
            outputs=patch_outputs(),
        )

    @classmethod
    @override
    def execute(
        cls, model, own, others, threshold=1.0, first_step=0.0, last_step=24.0, step_unit="auto"
    ) -> io.NodeOutput:
        first, last = Step(first_step, step_unit), Step(last_step, step_unit)
        action = Action("GSNAttentionReweight", Reweight(own, others, threshold), first, last)
        return io.NodeOutput(*with_action(model, action))


NODES = [GSNAttentionReweight]

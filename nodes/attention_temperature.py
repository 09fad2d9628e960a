"""GSNAttentionTemperature: early steps listen more to the prompt, without gradients, as a MODEL patch."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.host.sampling.attach import with_action
from ..gsn.interventions.temperature import SCOPES, Temperature
from ..gsn.methods.plan import Action
from ..gsn.methods.steps import Step
from .inputs import FOLDED, model_input, range_inputs
from .sockets import CATEGORY, WITHOUT_GRADIENTS, patch_outputs


class GSNAttentionTemperature(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="GSNAttentionTemperature",
            display_name="GSN Attention Temperature",
            category=CATEGORY,
            description="Makes the picture listen more to the prompt at early steps, by a factor on the attention from"
            " image to text. Costs next to nothing and needs no gradients, so it works on every quantised model.",
            search_aliases=["taca", *WITHOUT_GRADIENTS],
            inputs=[
                model_input(),
                io.Float.Input(
                    "factor",
                    default=1.2,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="On the attention's logits from image to text. Above 1: the text counts more. 1 = off,"
                    " exactly.",
                ),
                io.Combo.Input(
                    "words",
                    options=list(SCOPES),
                    default=SCOPES[0],
                    tooltip="Which text it counts for. whole text: all of the positive prompt, whoever encoded it."
                    " words: without start, end and padding. subjects: the subjects and their attributes. The last two"
                    " need GSNSubjects.",
                ),
                *range_inputs("First edited step. ", "Last edited step, included. ", **FOLDED),
            ],
            outputs=patch_outputs(),
        )

    @classmethod
    @override
    def execute(cls, model, factor, words, first_step=0.0, last_step=24.0, step_unit="auto") -> io.NodeOutput:
        first, last = Step(first_step, step_unit), Step(last_step, step_unit)
        action = Action("GSNAttentionTemperature", Temperature(factor, words), first, last)
        return io.NodeOutput(*with_action(model, action))


NODES = [GSNAttentionTemperature]

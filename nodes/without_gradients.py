"""GSNAttentionTemperature and GSNAttentionReweight: help for subjects by editing attention, without gradients."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.host.sampling.run import with_action
from ..gsn.interventions.reweight import Reweight
from ..gsn.interventions.temperature import SCOPES, Temperature
from ..gsn.methods.plan import Action
from ..gsn.methods.steps import Step
from .io import CATEGORY, STEP_TOOLTIP, model_input, trace_output, unit_input

_ALIASES = ["attention control", "without gradients", "gguf", "quantised", "missing subject"]


def _range_inputs() -> list:
    limits = {"min": -1e6, "max": 1e6, "step": 0.01, "round": False, "advanced": True, "optional": True}
    unit = unit_input("step_unit")
    unit.advanced = unit.optional = True
    return [
        io.Float.Input("first_step", default=0.0, tooltip="First edited step. " + STEP_TOOLTIP, **limits),
        io.Float.Input("last_step", default=24.0, tooltip="Last edited step, included. " + STEP_TOOLTIP, **limits),
        unit,
    ]


def _patched(model, origin: str, intervention, first: float, last: float, unit: str) -> io.NodeOutput:
    action = Action(origin, intervention, Step(first, unit), Step(last, unit))
    return io.NodeOutput(*with_action(model, action))


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
            search_aliases=["taca", *_ALIASES],
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
                *_range_inputs(),
            ],
            outputs=[io.Model.Output(), trace_output()],
        )

    @classmethod
    @override
    def execute(cls, model, factor, words, first_step=0.0, last_step=24.0, step_unit="auto") -> io.NodeOutput:
        temperature = Temperature(factor, words)
        return _patched(model, "GSNAttentionTemperature", temperature, first_step, last_step, step_unit)


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
            search_aliases=["deleaker", "semantic leakage", "subjects mixed up", *_ALIASES],
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
                    advanced=True,
                    optional=True,
                    tooltip="A cell belongs to a subject whose map lies this many standard deviations above its mean"
                    " there. Higher: smaller places.",
                ),
                *_range_inputs(),
            ],
            outputs=[io.Model.Output(), trace_output()],
        )

    @classmethod
    @override
    def execute(
        cls, model, own, others, threshold=1.0, first_step=0.0, last_step=24.0, step_unit="auto"
    ) -> io.NodeOutput:
        reweight = Reweight(own, others, threshold)
        return _patched(model, "GSNAttentionReweight", reweight, first_step, last_step, step_unit)


NODES = [GSNAttentionTemperature, GSNAttentionReweight]

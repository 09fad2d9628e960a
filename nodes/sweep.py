"""GSNSweep: many methods in one queued workflow."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.host.files import input_state
from ..gsn.host.preset_files import swept
from ..gsn.host.sampling.attach import with_plan
from ..gsn.methods.presets import plan_of
from .inputs import case_input, model_input
from .sockets import CATEGORY, Case, Trace


class GSNSweep(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id="GSNSweep",
            display_name="GSN Sweep",
            category=CATEGORY,
            description="One MODEL for every method of a list, each at its own step or at one you name. Everything"
            " connected after it runs once per method. Put it between the model and any sampler.",
            search_aliases=["xy plot", "grid", "compare methods", "step curve", "batch methods"],
            inputs=[
                model_input(),
                io.String.Input(
                    "methods",
                    multiline=True,
                    default="plain\npaper\npaper @ 25%",
                    tooltip="A method on each line, by the names of GSNPreset or a JSON preset file in ComfyUI's input"
                    " folder; after an @ the step that takes the place of its own: paper @ 8, Ours+ @ sigma 5.6,"
                    " paper @ 20%.",
                ),
                io.String.Input(
                    "prompt",
                    optional=True,
                    force_input=True,
                    tooltip="Prompts, such as those of GSNPromptSet: every method then runs with every prompt. Connect"
                    " the output of the same name to what encodes them.",
                ),
                case_input("The cases of GSNPromptSet, which go with the prompts: for GSNTIAMScore."),
            ],
            outputs=[
                io.Model.Output(is_output_list=True),
                Trace.Output(display_name="trace", is_output_list=True, tooltip="What happened, for each method."),
                io.String.Output(
                    display_name="label",
                    is_output_list=True,
                    tooltip="The line, for file names, captions and GSNTIAMScore.",
                ),
                io.String.Output(
                    display_name="prompt", is_output_list=True, tooltip="The prompt that goes with each model."
                ),
                Case.Output(display_name="case", is_output_list=True, tooltip="The case that goes with each model."),
            ],
        )

    @classmethod
    @override
    def fingerprint_inputs(cls, methods, **inputs):
        names = (line.partition("@")[0].strip() for line in methods.splitlines())
        return methods, [input_state(name) for name in names if name.endswith(".json")]

    @classmethod
    @override
    def execute(cls, model, methods, prompt=None, case=None) -> io.NodeOutput:
        variants = swept("GSNSweep", model, methods)
        made = [plan_of("GSNSweep", one.label, one.preset) for one in variants]
        models = [with_plan(model, plan) for plan, _ in made]
        labels, count = [one.label for one in variants], len(variants)
        # run once for each prompt of a list, whose outputs ComfyUI joins: every method with every prompt
        return io.NodeOutput(models, [handle for _, handle in made], labels, [prompt] * count, [case] * count)


NODES = [GSNSweep]

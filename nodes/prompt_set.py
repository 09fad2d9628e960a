"""GSNPromptSet: what to ask of a model."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..gsn.host.errors import GsnError
from ..gsn.host.files import input_state
from ..gsn.host.scores.prompt_sets import DEMO, OWN, chosen_prompts
from ..gsn.text.prompt_sets import NAMES, SPLITS
from .sockets import CATEGORY, Case


def _split_inputs() -> list:
    return [
        io.Combo.Input(
            "split",
            options=list(SPLITS),
            tooltip="Choose settings on validation, report test. The two never share a set of nouns.",
        ),
        io.Int.Input("count", default=10, min=1, max=100000, tooltip="How many prompts."),
    ]


def _draw_input():
    return io.Int.Input(
        "draw", default=0, min=0, max=0xFFFFFFFF, tooltip="Which prompts are drawn: the same number, the same prompts."
    )


class GSNPromptSet(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        file = io.String.Input(
            "file",
            default="",
            tooltip="A .txt, .csv or .jsonl in ComfyUI's input folder, one prompt a line, its subjects in [brackets].",
        )
        options = [
            *(io.DynamicCombo.Option(name, [*_split_inputs(), _draw_input()]) for name in NAMES),
            *(io.DynamicCombo.Option(f"{DEMO}, {name}", _split_inputs()) for name in NAMES[:2]),
            io.DynamicCombo.Option(OWN, [file]),
        ]
        return io.Schema(
            node_id="GSNPromptSet",
            display_name="GSN Prompt Set",
            category=CATEGORY,
            description="Gives out prompts whose subjects and colours are known: the four kinds of the paper, those of"
            " the demo models, or your own list. All at once, so that the nodes behind it run for each, or one.",
            search_aliases=["benchmark prompts", "tiam", "prompt list", "test set", "sweep", "prompts from file"],
            inputs=[
                io.DynamicCombo.Input(
                    "set",
                    options=options,
                    tooltip="The paper's kinds have 24 nouns and 6 colours; those of the demo models have their nouns,"
                    " in pairs that their training never named together.",
                ),
                io.Int.Input(
                    "index",
                    default=-1,
                    min=-1,
                    max=100000,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="-1: all prompts, one after the other. From 0 on: this one; set the control to increment to"
                    " go through them with the queue.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="prompt",
                    is_output_list=True,
                    tooltip="The prompt with its subjects in [brackets], for GSNSubjects and GSNTIAMScore.",
                ),
                Case.Output(
                    display_name="case",
                    is_output_list=True,
                    tooltip="The prompt with the classes and colours to look for, for GSNTIAMScore.",
                ),
                io.String.Output(
                    display_name="text", is_output_list=True, tooltip="The plain prompt, for CLIP Text Encode."
                ),
                io.Int.Output(display_name="count", tooltip="How many prompts the set has."),
                io.String.Output(display_name="source", tooltip="How to get the same prompts again."),
            ],
        )

    @classmethod
    @override
    def fingerprint_inputs(cls, set, **kwargs):
        return input_state(set.get("file"))  # runs again when the file has changed

    @classmethod
    @override
    def execute(cls, set, index) -> io.NodeOutput:
        try:
            found = chosen_prompts(**set)
        except (ValueError, OSError) as error:
            raise GsnError(f"GSNPromptSet: {error}") from None
        if index >= len(found.cases):
            raise GsnError(f"GSNPromptSet: index is {index}, but the set has {len(found.cases)} prompts, from 0 on")
        cases = found.cases if index < 0 else found.cases[index : index + 1]
        marked, texts = [one.marked for one in cases], [one.text for one in cases]
        return io.NodeOutput(marked, list(cases), texts, len(found.cases), found.source)


NODES = [GSNPromptSet]

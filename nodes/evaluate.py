"""GSNPromptSet and GSNTIAMScore: what to ask of a model, and whether its pictures show it."""

from __future__ import annotations

from comfy_api.latest import io, ui
from typing_extensions import override

from ..gsn.host.errors import GsnError
from ..gsn.host.scores.detectors import NO_FILE, in_input_folder, state_of, tflite_files, unusable
from ..gsn.host.scores.tiam import score_pictures
from ..gsn.metrics.tiam_report import as_json, as_text
from ..gsn.pictures.tiam import bars, verdicts
from ..gsn.text.prompt_sets import NAMES, SPLITS, PromptSet, demo_set, marked_case, paper_set, read_prompts
from .io import CATEGORY, Case

DEMO, OWN = "demo models", "my own list"


def _prompts(set: str, split: str = "", count: int = 0, draw: int = 0, file: str = "") -> PromptSet:
    """The prompts that a choice in the menu names. Raises ValueError, OSError."""
    if set == OWN:
        return read_prompts(in_input_folder(file, "a list of prompts"))
    if set.startswith(DEMO):
        return demo_set(set.removeprefix(f"{DEMO}, "), split, count)
    return paper_set(set, split, count, draw)


def _split_inputs() -> list:
    return [
        io.Combo.Input(
            "split",
            options=list(SPLITS),
            tooltip="Choose settings on validation, report test. The two never share a set of nouns.",
        ),
        io.Int.Input("count", default=10, min=1, max=100000, tooltip="How many prompts."),
    ]


def _seed_input():
    return io.Int.Input(
        "draw", default=0, min=0, max=0xFFFFFFFF, tooltip="Which prompts are drawn: the same number, the same prompts."
    )


def _threshold_input(usual: float, more: str = ""):
    return io.Float.Input(
        "threshold",
        default=usual,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="A detection counts from this score on. Scores of different detectors are not comparable." + more,
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
            *(io.DynamicCombo.Option(name, [*_split_inputs(), _seed_input()]) for name in NAMES),
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
        return state_of(set.get("file"))  # runs again when the file has changed

    @classmethod
    @override
    def execute(cls, set, index) -> io.NodeOutput:
        try:
            found = _prompts(**set)
        except (ValueError, OSError) as error:
            raise GsnError(f"GSNPromptSet: {error}") from None
        if index >= len(found.cases):
            raise GsnError(f"GSNPromptSet: index is {index}, but the set has {len(found.cases)} prompts, from 0 on")
        cases = found.cases if index < 0 else found.cases[index : index + 1]
        marked, texts = [one.marked for one in cases], [one.text for one in cases]
        return io.NodeOutput(marked, list(cases), texts, len(found.cases), found.source)


class GSNTIAMScore(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        boxes = io.BoundingBox.Input(
            "boxes", force_input=True, tooltip="From Run Real-Time Detection (RT-DETR), fed with the same pictures."
        )
        text = io.String.Input(
            "detections",
            multiline=True,
            default="",
            tooltip="The JSON described on the help page, or the name of such a file in ComfyUI's input folder; one"
            " entry per picture, in the same order.",
        )
        file = io.Combo.Input(
            "file",
            options=tflite_files() or [NO_FILE],
            tooltip="A .tflite detector in models/detection, such as efficientdet_lite0. Needs MediaPipe installed.",
        )
        below = " What the RT-DETR node left out below its own threshold cannot come back: set that one lower."
        return io.Schema(
            node_id="GSNTIAMScore",
            display_name="GSN TIAM Score",
            category=CATEGORY,
            description="Scores pictures by TIAM: is everything that the prompt names found by a detector, and has it"
            " its colour? Rates per prompt, image, place in the prompt and threshold, with 95 % intervals.",
            search_aliases=["tiam", "success rate", "alignment metric", "object detection score", "evaluate"],
            is_output_node=True,
            is_input_list=True,
            inputs=[
                io.Image.Input("image", tooltip="The pictures: a batch of one prompt, or a list of batches."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="",
                    tooltip="Their prompt, with subjects in [brackets]: a photo of a [red cat] and a [dog]. From"
                    " GSNPromptSet: one for each batch of pictures. Not read where a case is connected.",
                ),
                io.DynamicCombo.Input(
                    "detector",
                    options=[
                        io.DynamicCombo.Option("COCO detector", [_threshold_input(0.5)]),
                        io.DynamicCombo.Option("RT-DETR boxes", [boxes, _threshold_input(0.5, below)]),
                        io.DynamicCombo.Option("demo detector", [_threshold_input(0.5)]),
                        io.DynamicCombo.Option("JSON", [text, _threshold_input(0.25)]),
                        io.DynamicCombo.Option("TensorFlow Lite file", [file, _threshold_input(0.5)]),
                    ],
                    tooltip="Where the detections come from. The COCO detector comes with the pack and needs ONNX"
                    " Runtime installed; the demo detector only knows pictures of the demo models.",
                ),
                Case.Input(
                    "case",
                    optional=True,
                    tooltip="From GSNPromptSet, instead of the prompt: with the classes and colours of your own list.",
                ),
                io.String.Input(
                    "label",
                    optional=True,
                    force_input=True,
                    tooltip="From GSNSweep: which method made each batch of pictures. Then the report tells each by"
                    " itself, and GSNStepSelection can read the json.",
                ),
            ],
            outputs=[
                io.Float.Output(display_name="score", tooltip="TIAM, 0 to 1: the mean over prompts of success."),
                io.String.Output(display_name="report", tooltip="All rates as text. Connect Preview as Text."),
                io.String.Output(display_name="json", tooltip="All rates and every picture's verdict, for programs."),
                io.Image.Output(display_name="pictures", tooltip="The pictures with boxes and verdicts on one sheet."),
                io.Image.Output(display_name="bars", tooltip="How often the subject in each place was found."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    @override
    def fingerprint_inputs(cls, detector, **kwargs):
        return state_of(detector.get("detections"))

    @classmethod
    @override
    def validate_inputs(cls, detector=None):
        why_not = unusable(detector["detector"][0] if detector else "")
        if why_not:  # raised, since ComfyUI leaves an unknown choice out, and takes no answer about nothing
            raise GsnError(f"GSNTIAMScore: {why_not}")
        return True

    @classmethod
    @override
    def execute(cls, image, prompt, detector, case=None, label=None) -> io.NodeOutput:
        chosen = {key: value if key == "boxes" else value and value[0] for key, value in detector.items()}
        try:
            asked = case or [marked_case(one) for one in prompt]
            scored = score_pictures(image, asked, **chosen, labels=label or ())
        except (ValueError, OSError, ImportError) as error:
            raise GsnError(f"GSNTIAMScore: {error}") from None
        main, about = scored.summaries[0], (scored.name, scored.note)
        sheet = verdicts(scored.seen, main.threshold)
        report, data = as_text(scored.summaries, *about), as_json(scored.summaries, scored.rows, *about)
        chart = bars(main, f"{len(scored.seen)} pictures, detector: {scored.name}, threshold {main.threshold:g}")
        return io.NodeOutput(main.tiam, report, data, sheet, chart, ui=ui.PreviewImage(sheet, cls=cls))


NODES = [GSNPromptSet, GSNTIAMScore]

"""GSNTIAMScore: whether pictures show everything that their prompt names."""

from __future__ import annotations

from comfy_api.latest import io, ui
from typing_extensions import override

from ..gsn.host.errors import GsnError
from ..gsn.host.files import input_state
from ..gsn.host.scores.detectors import NO_FILE, tflite_files, unusable
from ..gsn.host.scores.tiam import score_pictures
from ..gsn.metrics.tiam_report import as_json, as_text
from ..gsn.pictures.tiam import bars, verdicts
from ..gsn.text.prompt_sets import marked_case
from .inputs import case_input, prompt_input
from .sockets import CATEGORY


def _threshold_input(usual: float, more: str = ""):
    return io.Float.Input(
        "threshold",
        default=usual,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="A detection counts from this score on. Scores of different detectors are not comparable." + more,
    )


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
                prompt_input(
                    "Their prompt, with subjects in [brackets]: a photo of a [red cat] and a [dog]. From GSNPromptSet:"
                    " one for each batch of pictures. Not read where a case is connected."
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
                case_input("From GSNPromptSet, instead of the prompt: with the classes and colours of your own list."),
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
        )

    @classmethod
    @override
    def fingerprint_inputs(cls, detector, **kwargs):
        return input_state(detector.get("detections"))

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
        pictures = verdicts(scored.seen, main.threshold)
        report, data = as_text(scored.summaries, *about), as_json(scored.summaries, scored.rows, *about)
        chart = bars(main, f"{len(scored.seen)} pictures, detector: {scored.name}, threshold {main.threshold:g}")
        return io.NodeOutput(main.tiam, report, data, pictures, chart, ui=ui.PreviewImage(pictures, cls=cls))


NODES = [GSNTIAMScore]

"""GSNSubjects: a prompt, encoded, with the words that must be seen."""

from __future__ import annotations

from comfy_api.latest import io

from ..gsn.host.tokens import encode_with_subjects
from ..gsn.text.regions import read_boxes
from ..gsn.text.subjects import SubjectError
from .inputs import FOLDED
from .sockets import CATEGORY, Subjects


class GSNSubjects(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GSNSubjects",
            display_name="GSN Subjects",
            category=CATEGORY,
            description=(
                "Encodes a prompt like CLIP Text Encode and remembers which words are subjects, so that "
                "the GSN nodes on the model can make each of them appear. Connect the conditioning as the "
                "positive prompt."
            ),
            search_aliases=[
                "prompt",
                "clip text encode",
                "subjects",
                "tokens",
                "attend and excite",
                "token indices",
                "layout",
                "boxdiff",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder, from the checkpoint loader."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip=r"The prompt. Put [ ] around a subject to choose it: a photo of a [red cat]. "
                    r"Emphasis (cat:1.3) and embedding:name work as usual; write \[ for a plain bracket.",
                ),
                io.String.Input(
                    "subjects",
                    default="",
                    tooltip="The words that must be seen, separated by commas: cat, the red dog. cat#2 is "
                    "the second cat. Empty: the [marks] in the text, or else what the text itself names.",
                ),
                io.BoundingBox.Input(
                    "boxes",
                    optional=True,
                    force_input=True,
                    tooltip="Where each subject should be, for the losses boxdiff, box_inner and box_retention: one"
                    " box per subject, in the order of the token table. From Create Bounding Boxes; its width and"
                    " height go below.",
                ),
                io.Int.Input(
                    "canvas_width",
                    default=0,
                    min=0,
                    max=16384,
                    tooltip="Width in pixels of what the boxes were drawn on, which may differ from the picture's. 0:"
                    " the boxes are fractions, 0 to 1.",
                    **FOLDED,
                ),
                io.Int.Input(
                    "canvas_height",
                    default=0,
                    min=0,
                    max=16384,
                    tooltip="Height in pixels of what the boxes were drawn on; 0 if they are fractions.",
                    **FOLDED,
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="Where each subject should be, for the loss box_retention: a batch with one mask per"
                    " subject, in the order of the token table, over the whole picture. A mask counts before a box.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="The encoded prompt; carries the subjects with it."
                ),
                Subjects.Output(display_name="subjects", tooltip="The subjects alone, for nodes that ask for them."),
                io.String.Output(
                    display_name="token table",
                    tooltip="Every token with the chosen ones marked. Connect Preview as Text to read it.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, clip, text: str, subjects: str = "", boxes=None, canvas_width: int = 0, canvas_height: int = 0, masks=None
    ) -> io.NodeOutput:
        if clip is None:
            raise RuntimeError(
                "GSNSubjects: the 'clip' input is None. If it comes from a checkpoint loader, the "
                "checkpoint has no "
                "text encoder; load one with Load CLIP."
            )
        try:
            placed = None if boxes is None else read_boxes(boxes, canvas_width, canvas_height)
            encoded = encode_with_subjects(clip, text, subjects, placed, masks)
        except SubjectError as error:
            raise SubjectError(f"GSNSubjects: {error}") from None
        return io.NodeOutput(encoded.conditioning, encoded.subjects, encoded.table)


NODES = [GSNSubjects]

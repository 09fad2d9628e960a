"""GSNSubjects: a prompt, encoded, with the words that must be seen."""

from __future__ import annotations

from comfy_api.latest import io

from ..gsn.host.tokens import encode_with_subjects
from ..gsn.subjects import SubjectError
from .io import CATEGORY


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
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="The encoded prompt; carries the subjects with it."
                ),
                io.Custom("GSN_SUBJECTS").Output(
                    display_name="subjects", tooltip="The subjects alone, for nodes that ask for them."
                ),
                io.String.Output(
                    display_name="token table",
                    tooltip="Every token with the chosen ones marked. Connect Preview as Text to read it.",
                ),
            ],
        )

    @classmethod
    def execute(cls, clip, text: str, subjects: str = "") -> io.NodeOutput:
        if clip is None:
            raise RuntimeError(
                "GSNSubjects: the 'clip' input is None. If it comes from a checkpoint loader, the "
                "checkpoint has no "
                "text encoder; load one with Load CLIP."
            )
        try:
            encoded = encode_with_subjects(clip, text, subjects)
        except SubjectError as error:
            raise SubjectError(f"GSNSubjects: {error}") from None
        return io.NodeOutput(encoded.conditioning, encoded.subjects, encoded.table)


NODES = [GSNSubjects]

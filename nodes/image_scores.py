"""GSNImageScores: the paper's other scores of pictures, by models that the user has."""

from __future__ import annotations

from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from typing_extensions import override

from ..gsn.host.errors import GsnError
from ..gsn.host.scores.image_scores import scores_of
from ..gsn.metrics.image_scores import COLUMNS
from .inputs import FOLDED, prompt_input
from .sockets import CATEGORY

_NODE = "GSNImageScores"


def _folder_input(name: str, source: str):
    return io.String.Input(
        name,
        default="",
        tooltip=f"Another folder in models/gsn_metrics than that of {source}. Empty: that one.",
        **FOLDED,
    )


class GSNImageScores(io.ComfyNode):
    @classmethod
    @override
    def define_schema(cls):
        return io.Schema(
            node_id=_NODE,
            display_name="GSN Image Scores",
            category=CATEGORY,
            description="How well pictures fit their prompt by CLIP and BLIP, and how much people like such pictures:"
            " the scores that the paper reports beside TIAM. Their models lie in models/gsn_metrics; nothing is"
            " downloaded.",
            search_aliases=["clip score", "aesthetic score", "prompt similarity", "blip caption", "evaluation"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="Pictures of one prompt."),
                prompt_input("The prompt they were made from."),
                io.String.Input(
                    "objects",
                    default="",
                    tooltip="What they should show, as bare words: cat, dog. For the minimum over objects; empty: it is"
                    " left out.",
                ),
                io.Boolean.Input(
                    "clip_score", default=True, tooltip="100 x cosine of picture and prompt. Needs CLIP ViT-B/16."
                ),
                io.Boolean.Input(
                    "similarities",
                    default=True,
                    tooltip="Attend-and-Excite's full prompt and minimum object similarity. Needs CLIP ViT-B/16.",
                ),
                io.Boolean.Input(
                    "text_text",
                    default=False,
                    tooltip="Attend-and-Excite's similarity of a caption and the prompt. Needs CLIP and BLIP.",
                ),
                io.Boolean.Input(
                    "aesthetic", default=False, tooltip="LAION's aesthetic score. Needs its predictor."
                ),
                _folder_input("clip_folder", "openai/clip-vit-base-patch16"),
                _folder_input("blip_folder", "Salesforce/blip-image-captioning-base"),
                _folder_input("aesthetic_folder", "shunk031/aesthetics-predictor-v2-sac-logos-ava1-l14-linearMSE"),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="Every score of every picture, in words."),
                io.String.Output(display_name="json", tooltip="The same as data: a row per picture, and the means."),
                *(
                    io.Float.Output(display_name=name.replace("_", " "), tooltip=f"The mean: {told}.")
                    for name, told in COLUMNS.items()
                ),
            ],
        )  # fmt: skip

    @classmethod
    @override
    def execute(
        cls, images, prompt, objects, clip_score, similarities, text_text, aesthetic, clip_folder="", blip_folder="",
        aesthetic_folder="",
    ) -> io.NodeOutput:  # fmt: skip
        asked = {"clip_score": clip_score, "full_prompt": similarities, "minimum_object": similarities,
                 "text_text": text_text, "aesthetic": aesthetic}  # fmt: skip
        columns = [name for name, on in asked.items() if on]
        if not columns:
            raise GsnError(f"{_NODE}: no score is switched on; switch on one of clip_score to aesthetic")
        if not prompt.strip() and columns != ["aesthetic"]:
            raise GsnError(f"{_NODE}: the prompt is empty; give the one that the pictures were made from")
        names = [name.strip() for name in objects.split(",") if name.strip()]
        scores = scores_of(_NODE, images, prompt, names, columns, clip_folder, blip_folder, aesthetic_folder)
        means = [scores.mean(name) for name in COLUMNS]
        blocked = [ExecutionBlocker(None) if mean is None else mean for mean in means]
        said = scores.text()
        return io.NodeOutput(said, scores.to_json(), *blocked, ui=ui.PreviewText(said))


NODES = [GSNImageScores]

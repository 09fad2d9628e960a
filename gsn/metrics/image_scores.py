"""Scores of a batch of pictures of one prompt, by the models that are given; a study's columns and a node's text."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from torch import Tensor

from .aesthetic import AESTHETIC, AestheticPredictor
from .caption import BLIP, Captioner
from .clip_encoder import CLIP, ClipEncoder
from .clip_score import clip_scores
from .local_models import LocalModel
from .similarity import full_prompt, minimum_object, text_text

#: The columns and what they are.
COLUMNS = {
    "clip_score": "CLIP score, 100 x cosine of picture and prompt",
    "full_prompt": "full prompt similarity, -1 to 1",
    "minimum_object": "similarity to the object shown least, -1 to 1",
    "text_text": "similarity of the picture's caption and the prompt, -1 to 1",
    "aesthetic": "LAION's aesthetic score, about 1 to 10",
}


def models_for(columns: Collection[str]) -> dict[LocalModel, type]:
    """The models that these columns need, and what loads each from its folder."""
    needed: dict[LocalModel, type] = {CLIP: ClipEncoder} if set(columns) - {"aesthetic"} else {}
    needed |= {BLIP: Captioner} if "text_text" in columns else {}
    return needed | ({AESTHETIC: AestheticPredictor} if "aesthetic" in columns else {})


@dataclass(frozen=True)
class ImageScores:
    """values: one per picture for each column that was asked for, in `COLUMNS`' order."""

    prompt: str
    values: dict[str, tuple[float, ...]]
    captions: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def mean(self, column: str) -> float | None:
        """None for a column that was not asked for. The mean CLIP score is not below 0, by its definition."""
        values = self.values.get(column)
        mean = None if values is None else fmean(values)
        return max(mean, 0.0) if column == "clip_score" and mean is not None else mean

    def rows(self) -> list[dict]:
        """One per picture."""
        columns = dict(self.values) | ({"caption": self.captions} if self.captions else {})
        count = len(next(iter(columns.values()), ()))
        return [{"image": n, **{name: values[n] for name, values in columns.items()}} for n in range(count)]

    def to_json(self) -> str:
        means = {name: self.mean(name) for name in self.values}
        content = {"prompt": self.prompt, "mean": means, "images": self.rows(), "notes": list(self.notes)}
        return json.dumps(content, indent=2, ensure_ascii=False)

    def text(self) -> str:
        lines = [self.prompt, ""]
        for name, values in self.values.items():
            each = ", ".join(f"{value:.4g}" for value in values)
            lines += [f"{COLUMNS[name]}: mean {self.mean(name):.4g}", f"  {each}"]
        lines += [f"image {n + 1} in words: {caption}" for n, caption in enumerate(self.captions)]
        return "\n".join(lines + [f"! {note}" for note in self.notes])


def score_images(
    pictures: Tensor,
    prompt: str,
    objects: Sequence[str] = (),
    encoder: ClipEncoder | None = None,
    captioner: Captioner | None = None,
    aesthetic: AestheticPredictor | None = None,
    columns: Sequence[str] = tuple(COLUMNS),
) -> ImageScores:
    """The columns that are both asked for and possible with these models. pictures: [B, H, W, 3] in 0..1.

    Without objects there is no minimum over them; the notes say so, as they say that CLIP did not see a prompt's end.
    """
    wanted = [name for name in COLUMNS if name in columns]
    found: dict[str, Tensor] = {}
    captions: list[str] = []
    notes: list[str] = []
    if encoder is not None and set(wanted) - {"aesthetic"}:
        if encoder.too_long(prompt):
            notes.append("the prompt is longer than CLIP reads; its end was left out of every score")
        images = encoder.images(pictures)
        if "clip_score" in wanted:
            found["clip_score"] = clip_scores(encoder, images, [prompt])
        if "full_prompt" in wanted:
            found["full_prompt"] = full_prompt(encoder, images, prompt)
        if "minimum_object" in wanted and objects:
            found["minimum_object"] = minimum_object(encoder, images, objects)
        elif "minimum_object" in wanted:
            notes.append("no objects were named, so there is no similarity to the object shown least")
        if "text_text" in wanted and captioner is not None:
            captions = captioner.captions(pictures)
            found["text_text"] = text_text(encoder, captions, prompt)
    if "aesthetic" in wanted and aesthetic is not None:
        found["aesthetic"] = aesthetic.scores(pictures)
    values = {name: tuple(found[name].tolist()) for name in wanted if name in found}
    return ImageScores(prompt, values, tuple(captions), tuple(notes))

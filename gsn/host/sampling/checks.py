"""What is checked of a run's conditioning and latent before its first model call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...text.subjects import SUBJECTS_KEY, Subjects
from ..errors import GsnError
from ..families import Family


def entries_of(conds: dict, family: Family, origin: str) -> list[tuple[dict, Subjects]]:
    """The positive entries with at least one subject. Raises GsnError where no subjects travel with them."""
    positive = [(entry, entry.get(SUBJECTS_KEY)) for entry in conds.get("positive") or []]
    if not any(isinstance(subjects, Subjects) for _, subjects in positive):
        others = [name for name, entries in conds.items() if name != "positive"
                  and any(isinstance(e.get(SUBJECTS_KEY), Subjects) for e in entries or [])]  # fmt: skip
        if others:
            raise GsnError(
                f"{origin}: the subjects are in the {others[0]} conditioning only; connect GSNSubjects to the positive"
                " input (a plain CLIPTextEncode is right for the negative)"
            )
        raise GsnError(
            f"{origin}: the positive conditioning carries no subjects; it was made by another encode node. Replace the"
            " positive CLIPTextEncode by GSNSubjects (same CLIP, same text) and connect its CONDITIONING"
        )
    widths = sorted({text.cond.shape[-1] for entry, _ in positive if (text := entry["model_conds"].get("c_crossattn"))})
    if len(widths) > 1:
        raise GsnError(
            f"{origin}: the positive conditioning mixes texts of {' and '.join(map(str, widths))} channels, which come"
            " from different kinds of text encoder; make all of it with this model's CLIP"
        )
    found = [(entry, subjects) for entry, subjects in positive if isinstance(subjects, Subjects) and subjects.items]
    for entry, subjects in found:
        length = family.brought(entry)
        if length != subjects.text_length:
            raise GsnError(
                f"{origin}: the positive conditioning has {length} text tokens, but GSNSubjects located the subjects in"
                f" {subjects.text_length}; a node between them (ConditioningConcat, another encoder) changed the text."
                " Put GSNSubjects last, or write the whole prompt in it"
            )
    return found


def with_their_subjects(conds: dict, family: Family) -> list[tuple[dict, Subjects | None]]:
    """The positive entries that have a text, each with the subjects it carries; None where another node made the
    text longer or shorter than they were located in."""
    positive = [(entry, entry.get(SUBJECTS_KEY)) for entry in conds.get("positive") or []]
    return [
        (entry, subjects if isinstance(subjects, Subjects) and family.brought(entry) == subjects.text_length else None)
        for entry, subjects in positive
        if entry["model_conds"].get("c_crossattn") is not None
    ]


def check_lengths(origin: str, family: Family, model: Any, entries: Sequence[dict]) -> None:
    """Refuse texts longer than what the network reads: what lies where in its sequence would not be known."""
    most = family.most_text(model)
    longest = max((entry["model_conds"]["c_crossattn"].cond.shape[1] for entry in entries), default=0)
    if most is not None and longest > most:
        raise GsnError(
            f"{origin}: the positive conditioning has {longest} text tokens, but {family.title} reads the first {most}"
            " alone and its attention is not read for longer texts; shorten the prompt"
        )


def check_merge(origin: str, family: Family, model: Any) -> None:
    """Refuse a merge with a model whose blocks are of other sizes.

    ComfyUI keeps this model's network, leaves out what does not fit and mixes the rest. What is not in the blocks may
    differ, as in a merge of an inpainting model. Where no name fits, nothing is merged, and there is nothing to refuse.
    """
    patches = model.current_patcher.patches
    names = {id(weight): name for name, weight in model.named_parameters() if name in patches}
    for block in family.blocks(model):
        for weight in block.module.parameters():
            for _, value, *_ in patches.get(names.get(id(weight)), ()):
                # a merge brings a list, the other model's weight first; a LoRA does not
                if isinstance(value, list) and value[0][0].shape != weight.shape:
                    raise GsnError(
                        f"{origin}: a model of another kind was merged into this one: '{names[id(weight)]}' is"
                        f" {_sizes(value[0][0])} there and {_sizes(weight)} here. This model is one of {family.title};"
                        " merge it with another of its own kind, or leave the merge out"
                    )


def _sizes(weight: Tensor) -> str:
    return " x ".join(map(str, weight.shape))


def part_seen(entry: dict, shape: Sequence[int]) -> tuple[int, int]:
    """(h, w) of what an entry with an area is given of a latent of this shape, [..., h, w]; else all of it."""
    h, w = shape[-2:]
    if (area := entry.get("area")) is None:
        return h, w
    half = len(area) // 2  # sizes, then where it begins, in the latent's order
    return min(area[half - 2], h - area[-2]), min(area[half - 1], w - area[-1])


def check_stream(stream: str, texts: list[Subjects]) -> None:
    """Refuse a text encoder that a prompt was not encoded with, or that cannot spell one of its subjects."""
    for subjects in texts if stream != "average" else ():
        offered = ", ".join(one.name for one in subjects.streams)
        if stream not in [one.name for one in subjects.streams]:
            raise GsnError(
                f"AttentionCapture: 'encoder' is {stream!r}, but the positive prompt was encoded with {offered} alone."
                f" Choose average or {offered}, or load that text encoder with the others"
            )
        missing = [subject.label for subject in subjects.items if stream not in subject.tokens]
        if missing:
            raise GsnError(
                f"AttentionCapture: 'encoder' is {stream!r}, in which {missing[0]!r} has no token; the prompt was"
                f" encoded with {offered}. Choose average, or another word"
            )


def check_latent(origin: str, model: Any, noise: Tensor) -> None:
    channels = model.latent_format.latent_channels
    if noise.shape[1] != channels:
        raise GsnError(
            f"{origin}: the latent has {noise.shape[1]} channels, the model works on {channels}; it comes from another"
            " model's VAE. Use an empty latent of this model, or encode the picture with this model's VAE"
        )

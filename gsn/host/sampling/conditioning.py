"""The positive conditioning of a run: its entries, with the subjects that travel in them."""

from __future__ import annotations

from collections.abc import Sequence

from ...text.subjects import SUBJECTS_KEY, Subjects
from ..errors import GsnError
from ..families import Family


def with_some_subjects(conds: dict, family: Family, origin: str) -> list[tuple[dict, Subjects]]:
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


def part_seen(entry: dict, shape: Sequence[int]) -> tuple[int, int]:
    """(h, w) of what an entry with an area is given of a latent of this shape, [..., h, w]; else all of it."""
    h, w = shape[-2:]
    if (area := entry.get("area")) is None:
        return h, w
    half = len(area) // 2  # sizes, then where it begins, in the latent's order
    return min(area[half - 2], h - area[-2]), min(area[half - 1], w - area[-1])

"""A study's pictures in the folders that two benchmarks' own programs read. Facts of the layouts: GenEval's README and
evaluation/evaluate_images.py; T2I-CompBench's BLIPvqa_eval/BLIP_vqa.py, which takes the prompt from the file's name up
to the first underscore and sorts by the number after the last."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .store import Store
from .study import StudyError, label_of

LAYOUTS = ("geneval", "t2i-compbench")


def export(store: Store, rows: Sequence[dict], layout: str, method: str, step: str, model: str, to: Path) -> int:
    """Copies one method's pictures of one model; how many. The folder must be empty or absent."""
    if layout not in LAYOUTS:
        raise StudyError(f"there is no layout '{layout}'; there are: {', '.join(LAYOUTS)}")
    chosen = [row for row in rows if (row["model"], row["method"], row["step"]) == (model, method, step)]
    if not chosen:
        there = sorted({label_of(row["method"], row["step"]) for row in rows})
        raise StudyError(f"there are no pictures of '{method}' by {model}; there are of: {', '.join(there)}")
    if to.exists() and any(to.iterdir()):
        raise StudyError(f"{to} is not empty; give a new folder, since both programs score whatever lies there")
    (_geneval if layout == "geneval" else _compbench)(store, chosen, to)
    return len(chosen)


def _geneval(store: Store, rows: Sequence[dict], to: Path) -> None:
    by_prompt: dict[str, list[dict]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt"], []).append(row)
    for number, part in enumerate(by_prompt.values()):
        folder = to / f"{number:05}"
        (folder / "samples").mkdir(parents=True)
        (folder / "metadata.jsonl").write_text(json.dumps(geneval_metadata(part[0])), encoding="utf-8")
        for place, row in enumerate(part):
            (folder / "samples" / f"{place:04}.png").write_bytes(store.picture(row))


def geneval_metadata(row: dict) -> dict:
    """What GenEval asks of the picture. Its own kinds where it has one; other numbers of subjects get a kind of their
    own, which its summary lists beside them."""
    counts = Counter(zip(row["subjects"], row["colours"], strict=True))
    include = [
        {"class": subject, "count": count, **({"color": colour} if colour else {})}
        for (subject, colour), count in counts.items()
    ]
    coloured = any(row["colours"])
    known = {(1, False): "single_object", (2, False): "two_object", (1, True): "colors", (2, True): "color_attr"}
    other = f"{len(include)}_{'coloured' if coloured else 'objects'}"
    tag = known.get((len(include), coloured), other)
    return {"tag": tag, "include": include, "prompt": row["prompt"]}


def _compbench(store: Store, rows: Sequence[dict], to: Path) -> None:
    bad = [row["prompt"] for row in rows if set(row["prompt"]) & set('_/\\:*?"<>|')]
    if bad:
        raise StudyError(f"T2I-CompBench takes the prompt from the file's name, which cannot hold {bad[0]!r}")
    (to / "samples").mkdir(parents=True)
    for number, row in enumerate(rows):
        (to / "samples" / f"{row['prompt']}_{number:06}.png").write_bytes(store.picture(row))

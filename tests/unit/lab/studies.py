"""A small study with made-up scores, for tests that make no picture."""

import io
import itertools

from PIL import Image

from gsn.text.prompt_sets import PromptSet, marked_case
from lab.study.models import Model
from lab.study.study import Method, Study

CASES = tuple(marked_case(text) for text in ("a photo of a [car] and a [bird]", "a photo of a [cat] and a [dog]"))


def study(seeds=(0, 1, 2), methods=("plain", "Ours", "Ours @ 4"), cases=CASES, batch=2, **more):
    """2 prompts x 3 methods x 3 seeds in batches of 2 and 1."""
    parted = [one.partition(" @ ") for one in methods]
    given = {"models": (Model("unet"),), "detector": "demo", "threshold": 0.5, "made_with": {"comfyui": "0"}}
    made = tuple(Method(name, step) for name, _, step in parted)
    return Study(methods=made, sets=(PromptSet("two", "test", "made up", cases),), seeds=seeds, batch=batch,
                 **given | more)  # fmt: skip


def picture(colour=(1, 2, 3), size=32):
    out = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(out, "PNG")
    return out.getvalue()


def row(*found, seconds=1.0, **more):
    confidence = [0.9 if one else 0.1 for one in found]
    score = {"found": list(found), "bound": [None] * len(found), "success": all(found), "confidence": confidence}
    return {**score, "gradients": 50, "seconds": seconds, **more}


def fill(store, batches, seconds=1.0):
    """Finished batches: the second subject is missing from every third picture, and plain lacks it in every second."""
    count = itertools.count()
    for batch in batches:
        rows = []
        for seed in batch.seeds:
            n = next(count)
            lost = (seed + len(batch.case.text)) % 2 if batch.method.name == "plain" else n % 3 == 0
            rows.append(row(True, not lost, seconds=seconds))
        store.add(batch, rows, [picture((i, seed, 9)) for i, seed in enumerate(batch.seeds)])

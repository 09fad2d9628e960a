"""A blind comparison by people: a page that shows two methods' pictures of the same prompt and seed, and the count of
what was chosen.

As in the paper's user study (Grimal et al. 2025, A.5): pictures of the test set drawn at random, the same prompt and
seed for both; a person chooses the one that matches the prompt, both, or neither. The order of the trials and the
side of each method are drawn from a seed, and the page holds nothing that tells which is which: a choice is stored by
the trial and the side, and only the key beside the page, which stays with whoever runs the study, names the methods.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .store import Store
from .study import StudyError, label_of

CHOICES = ("left", "right", "both", "neither")
FORMAT = "gsn-user-study"
PAGE, KEY = "user_study.html", "user_study_key.json"


@dataclass(frozen=True)
class Trial:
    prompt: str
    seed: int
    left: dict  # rows
    right: dict
    swapped: bool  # whether the second method is on the left


def trials(rows: Sequence[dict], model: str, labels: tuple[str, str], count: int, seed: int) -> list[Trial]:
    """`count` pairs of the same prompt and seed, as many prompts as there are before one is shown twice."""
    by_label: list[dict[tuple, dict]] = [{}, {}]
    for row in rows:
        label = label_of(row["method"], row["step"])
        if row["model"] == model and label in labels:
            by_label[labels.index(label)][row["set"], row["split"], row["prompt"], row["seed"]] = row
    both = sorted(by_label[0].keys() & by_label[1].keys())
    if labels[0] == labels[1] or not both:
        raise StudyError(f"there is no seed with pictures of both '{labels[0]}' and '{labels[1]}' by {model}")
    if count > len(both):
        raise StudyError(f"{count} trials asked, but there are {len(both)} pairs of pictures; ask for fewer")
    draw = random.Random(f"{FORMAT} {seed}")
    draw.shuffle(both)
    seen: dict[tuple, int] = {}
    rounds = []  # how often the prompt came before: all first ones go before all second ones
    for key in both:
        rounds.append(seen.setdefault(key[:3], 0))
        seen[key[:3]] += 1
    chosen = [key for _, key in sorted(zip(rounds, both, strict=True), key=lambda one: one[0])][:count]
    draw.shuffle(chosen)
    sides = [i % 2 == 1 for i in range(count)]  # each method is on each side equally often
    draw.shuffle(sides)
    pairs = [(by_label[0][key], by_label[1][key]) for key in chosen]
    return [
        Trial(key[2], key[3], *(pair[::-1] if swapped else pair), swapped)
        for key, pair, swapped in zip(chosen, pairs, sides, strict=True)
    ]


def write_page(store: Store, model: str, labels: tuple[str, str], chosen: Sequence[Trial], seed: int) -> Path:
    """The page and its key, in the study's folder. The page's pictures are inside it, without their workflows."""
    asked = {"format": FORMAT, "model": model, "methods": list(labels), "seed": seed}
    key = [{"prompt": one.prompt, "seed": one.seed, "swapped": one.swapped} for one in chosen]
    digest = hashlib.sha256(json.dumps([asked, key, [one.left["sha256"] for one in chosen]]).encode()).hexdigest()[:16]
    shown = [{"prompt": one.prompt, "left": _picture(store, one.left), "right": _picture(store, one.right)}
             for one in chosen]  # fmt: skip
    content = json.dumps({"study": digest, "trials": shown}).replace("</", "<\\/")
    page = Path(__file__).with_name("user_study.html").read_text(encoding="utf-8").replace("{{content}}", content)
    store.write(KEY, json.dumps({**asked, "study": digest, "trials": key}, indent=1) + "\n")
    return store.write(PAGE, page)


def _picture(store: Store, row: dict) -> str:
    """A PNG data address without the workflow, which would name the method."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(store.picture(row))) as image:
        image.convert("RGB").save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


# --- counting


@dataclass(frozen=True)
class Preference:
    """Of `answers` answers of `people`: how often each method was chosen, alone or with the other, with Wilson's
    interval; `first`, `second`: alone; p: sign test of these; kappa: Fleiss', or None where nothing was seen twice.

    Answers of one person are not independent; the intervals take them as if they were.
    """

    methods: tuple[str, str]
    people: int
    answers: int
    chosen: tuple[int, int]
    intervals: tuple[tuple[float, float], tuple[float, float]]
    first: int
    second: int
    both: int
    neither: int
    preference: float | None
    preference_interval: tuple[float, float]
    p: float
    kappa: float | None


def read_choices(path: Path, key: dict) -> dict[int, str]:
    """trial -> choice, of one person's file. Raises StudyError naming the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        study, choices = content["study"], content["choices"]
        if content["format"] != FORMAT or not isinstance(choices, dict):
            raise ValueError(f"it is not of the form {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path} is no file of choices: {error}") from None
    if study != key["study"]:
        raise StudyError(f"{path} is of another page ({study}, the key is of {key['study']})")
    bad = [name for name, choice in choices.items() if choice not in CHOICES or not name.isdigit()
           or int(name) >= len(key["trials"])]  # fmt: skip
    if bad:
        raise StudyError(f"{path}: the choice of trial {bad[0]} is {choices[bad[0]]!r}; known are {', '.join(CHOICES)}")
    return {int(name): choice for name, choice in choices.items()}


def preference(key: dict, people: Sequence[dict[int, str]]) -> Preference:
    """Raises StudyError where nobody chose anything."""
    from gsn.metrics.stats import sign_test, wilson

    # as "first", "second", "both", "neither" of the key's methods
    named = [{trial: _method(choice, key["trials"][trial]["swapped"]) for trial, choice in one.items()}
             for one in people]  # fmt: skip
    said = [choice for one in named for choice in one.values()]
    if not said:
        raise StudyError("the files hold no choice")
    first, second, both, neither = (said.count(name) for name in ("first", "second", "both", "neither"))
    chosen = (first + both, second + both)
    decided = first + second
    return Preference(
        tuple(key["methods"]), len(people), len(said), chosen,
        tuple(wilson(k, len(said)) for k in chosen), first, second, both, neither,
        first / decided if decided else None, wilson(first, decided), sign_test(first, second), fleiss(named),
    )  # fmt: skip


def _method(choice: str, swapped: bool) -> str:
    if choice not in ("left", "right"):
        return choice
    return "first" if (choice == "left") != swapped else "second"


def fleiss(people: Sequence[dict[int, str]]) -> float | None:
    """Fleiss' kappa (1971) over the trials that all these people answered; None with fewer than two of either."""
    shared = set.intersection(*(set(one) for one in people)) if people else set()
    n = len(people)
    if n < 2 or len(shared) < 2:
        return None
    counts = [[sum(one[trial] == name for one in people) for name in ("first", "second", "both", "neither")]
              for trial in sorted(shared)]  # fmt: skip
    agreed = sum((sum(c * c for c in row) - n) / (n * (n - 1)) for row in counts) / len(counts)
    shares = [sum(row[i] for row in counts) / (n * len(counts)) for i in range(4)]
    by_chance = sum(share * share for share in shares)
    return None if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def said(found: Preference) -> str:
    lines = [f"{found.people} people, {found.answers} answers"]
    for name, k, (low, high) in zip(found.methods, found.chosen, found.intervals, strict=True):
        lines.append(f"{name}: chosen in {100 * k / found.answers:.1f} % [{100 * low:.1f}, {100 * high:.1f}]")
    lines.append(f"alone: {found.first} and {found.second}; both {found.both}, neither {found.neither}")
    if found.preference is not None:
        low, high = found.preference_interval
        lines.append(f"where one was preferred, {found.methods[0]} in {100 * found.preference:.1f} %"
                     f" [{100 * low:.1f}, {100 * high:.1f}], sign test p {found.p:.3g}")  # fmt: skip
    lines.append("agreement (Fleiss' kappa): " + ("not known" if found.kappa is None else f"{found.kappa:.2f}"))
    return "\n".join(lines)

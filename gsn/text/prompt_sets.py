"""Sets of prompts whose subjects and colours are known: the paper's, the demo models', and a user's own.

The paper's prompts (arXiv 2504.17525, section 5; the TIAM benchmark) are templates filled with nouns of COCO and
colours. Which 300 it tested is unpublished, so a set of the same name here has the same kind of prompts, not the
same prompts. Standard library only.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

NAMES = ("2 entities", "3 entities", "2 coloured", "3 coloured")
SPLITS = ("validation", "test")
NOUNS = (
    "bicycle", "car", "motorcycle", "truck", "donut", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "banana", "apple", "broccoli", "carrot", "chair", "couch", "oven",
    "refrigerator",
)  # fmt: skip
COLOURS = ("red", "yellow", "green", "blue", "purple", "pink")
TOLD_COLOURS = (*COLOURS, "black", "white")  # what gsn/metrics/colour.py can tell apart
_TEMPLATES = {
    "2 entities": "a photo of {} and {}",
    "3 entities": "a photo of {} next to {} and {}",
    "2 coloured": "a photo of {} and {}",
    "3 coloured": "a photo of {}, {} and {}",
}
_DEMO_TEMPLATES = {2: "a photo of {} and {}", 3: "a photo of {} and {} and {}"}  # its texts have no other joining word
_IN_VALIDATION = 6  # one in so many sets of nouns
_DEMO = Path(__file__).resolve().parents[2] / "demo" / "validation.json"
_BRACKETS = re.compile(r"\\[\[\]]|[\[\]]")
_ARTICLES = ("a", "an", "the")


@dataclass(frozen=True)
class PromptCase:
    """One prompt and what its picture must show.

    `text` is the plain prompt, `marked` the same with each subject in [brackets], as GSNSubjects reads it.
    `subjects` are the detector's classes in the order of the words; `colours[i]` is what subject i must have, or None.
    """

    text: str
    subjects: tuple[str, ...]
    colours: tuple[str | None, ...]
    marked: str

    def __post_init__(self):
        if not self.subjects or len(self.subjects) != len(self.colours):
            raise ValueError(
                f"{self.text!r} has {len(self.subjects)} subjects and {len(self.colours)} colours; it needs one subject"
                " or more, and for each a colour or None"
            )


@dataclass(frozen=True)
class PromptSet:
    """`split` is validation or test, or empty for a user's list; `source` says how to get the same prompts again."""

    name: str
    split: str
    source: str
    cases: tuple[PromptCase, ...]


def paper_set(name: str, split: str, count: int, seed: int = 0) -> PromptSet:
    """`count` different prompts of one of the paper's four kinds, drawn from the full product of its words.

    What is drawn depends on the four arguments alone, and fewer prompts are the first of more. Prompts of the
    validation split and of the test split never share their set of nouns, whatever their counts and seeds.
    """
    _check(name, split, count)
    size = int(name[0])
    coloured = "coloured" in name
    there = size_of(name, split)
    if count > there:
        raise ValueError(f"{count} prompts asked, but the {split} split of {name!r} has {there}; ask for fewer")
    nouns = math.perm(len(NOUNS), size)
    total = nouns * (math.perm(len(COLOURS), size) if coloured else 1)
    cases: dict[int, PromptCase] = {}
    for turn in itertools.count():
        if len(cases) == count:
            break
        drawn = _number(f"{name}|{split}|{seed}|{turn}") % total
        chosen = _permutation(NOUNS, size, drawn % nouns)
        if drawn not in cases and _split_of(chosen) == split:
            colours = _permutation(COLOURS, size, drawn // nouns) if coloured else (None,) * size
            cases[drawn] = _case(_TEMPLATES[name], chosen, colours)
    source = (
        f"paper_set({name!r}, {split!r}, {count}, seed={seed}): {count} of the {there} prompts of this split;"
        " templates, nouns and colours of arXiv 2504.17525"
    )
    return PromptSet(name, split, source, tuple(cases.values()))


def size_of(name: str, split: str) -> int:
    """How many different prompts a split of one of the paper's kinds has."""
    _check(name, split, 1)
    size = int(name[0])
    sets = sum(_split_of(nouns) == split for nouns in itertools.combinations(NOUNS, size))
    return sets * math.factorial(size) * (math.perm(len(COLOURS), size) if "coloured" in name else 1)


def demo_set(name: str, split: str, count: int | None = None) -> PromptSet:
    """Prompts of the demo models' twelve nouns whose pairs no caption of their training ever named together.

    `"2 entities"`: the held-out pairs of demo/validation.json, each in both orders. `"3 entities"`: no three nouns
    are all held out from each other, so here two of the three pairs are held out and the third was captioned; no
    caption of the training named three nouns at all. The models know no colours. `count`: the first so many, spread
    over the pairs before an order is repeated; None = all.
    """
    _check(name, split, 1 if count is None else count)
    if "coloured" in name:
        raise ValueError(f"the demo models know no colours, so there is no set {name!r} of theirs; choose {NAMES[:2]}")
    pairs = [tuple(pair) for pair in json.loads(_DEMO.read_text(encoding="utf-8"))[split]["pairs"]]
    size = int(name[0])
    groups = pairs if size == 2 else _joined(pairs)
    # Round k takes from every group another of its orders; neighbours start differently, so that no place is favoured.
    orders = [list(itertools.permutations(group)) for group in groups]
    chosen = [one[(k + i) % len(one)] for k in range(math.factorial(size)) for i, one in enumerate(orders)]
    if count is not None and count > len(chosen):
        raise ValueError(f"{count} prompts asked, but the {split} split of {name!r} has {len(chosen)}; ask for fewer")
    cases = tuple(_case(_DEMO_TEMPLATES[size], nouns, (None,) * size) for nouns in chosen[:count])
    about = "pairs never captioned together" if size == 2 else "two of the three pairs never captioned together"
    source = f"demo_set({name!r}, {split!r}, {len(cases)}): demo models' nouns, {about} (demo/validation.json)"
    return PromptSet(name, split, source, cases)


def read_prompts(path: str | Path) -> PromptSet:
    """A user's own list, with the subjects of every prompt in [brackets]: `a photo of a [red cat] and a [dog]`.

    * .txt: a prompt on each line; empty lines and lines that start with # are left out.
    * .csv: a column `prompt`; optional columns `classes` and `colours`, values separated by `;`.
    * .jsonl: an object on each line with `prompt`, optional `classes` and `colours` (lists; a colour may be null).

    `classes` is what the detector calls the subjects, one for each mark; without it, that is the marked words without
    article and colour. `colours` overrules the colour found in the marks.

    Raises:
        ValueError: naming the file and every bad row by its line number; or no prompt at all.
        OSError: the file cannot be read.
    """
    path = Path(path)
    readers = {".txt": _text_rows, ".csv": _csv_rows, ".jsonl": _json_rows}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path.name}: a list of prompts is a .txt, .csv or .jsonl file")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{path.name}, line {line}: not UTF-8 text; save the file as UTF-8") from None
    cases, bad = [], []
    for line, row in readers[path.suffix.lower()](text):
        try:
            cases.append(_user_case(row()))
        except ValueError as error:
            bad.append(f"line {line}: {error}")
    if bad:
        more = [f"and {len(bad) - 20} more"] if len(bad) > 20 else []
        raise ValueError(f"{path.name} has {len(bad)} bad rows. " + "; ".join(bad[:20] + more))
    if not cases:
        raise ValueError(f"{path.name} has no prompt; write one on each line, as: a photo of a [cat] and a [dog]")
    digest = hashlib.sha256(data).hexdigest()[:16]
    return PromptSet(path.stem, "", f"{path.name}, {len(cases)} prompts, sha256 {digest}", tuple(cases))


def marked_case(marked: str, classes: Sequence[str] = (), colours: Sequence[str | None] = ()) -> PromptCase:
    """A prompt with its subjects in [brackets] as a case. `classes` and `colours` as in `read_prompts`.

    Raises:
        ValueError: no mark, brackets that do not match, or another number of classes or colours than marks.
    """
    text, marks = _unmark(marked)
    if not marks:
        raise ValueError(f"no subject is marked in {marked!r}; put each in [brackets], as: a photo of a [cat]")
    said = [_colour_and_class(mark) for mark in marks]
    for what, given in (("classes", classes), ("colours", colours)):
        if given and len(given) != len(marks):
            raise ValueError(f"{len(given)} {what} for {len(marks)} marked subjects in {marked!r}; give one for each")
    named = tuple(classes) or tuple(one for _, one in said)
    return PromptCase(text, named, tuple(colours) or tuple(colour for colour, _ in said), marked)


def _check(name: str, split: str, count: int) -> None:
    if name not in NAMES:
        raise ValueError(f"there is no prompt set {name!r}; there are: {', '.join(NAMES)}")
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}; there are: {' and '.join(SPLITS)}")
    if count < 1:
        raise ValueError(f"{count} prompts asked; a set has at least 1")


def _number(key: str) -> int:
    """The same on every machine and in every version of Python, which `random` does not promise."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "big")


def _split_of(nouns: Sequence[str]) -> str:
    return SPLITS[0] if _number("|".join(sorted(nouns))) % _IN_VALIDATION == 0 else SPLITS[1]


def _permutation(words: Sequence[str], size: int, index: int) -> tuple[str, ...]:
    """The permutation of `size` of the words that has this index."""
    left, out = list(words), []
    for _ in range(size):
        index, place = divmod(index, len(left))
        out.append(left.pop(place))
    return tuple(out)


def _case(template: str, nouns: Sequence[str], colours: Sequence[str | None]) -> PromptCase:
    spoken = [noun if colour is None else f"{colour} {noun}" for noun, colour in zip(nouns, colours, strict=True)]
    text = template.format(*(f"{_article(words)} {words}" for words in spoken))
    marked = template.format(*(f"{_article(words)} [{words}]" for words in spoken))
    return PromptCase(text, tuple(nouns), tuple(colours), marked)


def _article(words: str) -> str:
    """By the sound of the word that follows; for the words of these sets, their first letter tells it."""
    return "an" if words[0] in "aeiou" else "a"


def _joined(pairs: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Three nouns wherever two pairs share one: first, shared, last."""
    out = []
    for one, other in itertools.combinations(pairs, 2):
        shared = [noun for noun in one if noun in other]
        if shared:
            (first,), (last,) = ([noun for noun in pair if noun not in shared] for pair in (one, other))
            out.append((first, shared[0], last))
    return out


Rows = Iterator[tuple[int, Callable[[], dict]]]  # line number, and what reads the row or says what is wrong with it


def _text_rows(text: str) -> Rows:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, lambda line=line: {"prompt": line.strip()}


def _csv_rows(text: str) -> Rows:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if "prompt" not in (reader.fieldnames or ()):
        yield 1, lambda: _fail(f"no column 'prompt'; the columns are: {', '.join(reader.fieldnames or ()) or 'none'}")
        return
    for row in reader:
        yield reader.line_num, lambda row=row: _csv_row(row)


def _csv_row(row: dict) -> dict:
    if None in row:
        _fail("more values than columns; put a prompt with a comma in double quotes")
    lists = {key: [one.strip() for one in (row.get(key) or "").split(";")] for key in ("classes", "colours")}
    given = {key: values for key, values in lists.items() if any(values)}
    return {"prompt": (row["prompt"] or "").strip(), **given}


def _json_rows(text: str) -> Rows:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, lambda line=line: _json_row(line)


def _json_row(line: str) -> dict:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        _fail(f"not JSON ({error.msg} at column {error.colno})")
    except RecursionError:
        _fail("nested deeper than any prompt")
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        _fail('not an object with a text "prompt"')
    for key in ("classes", "colours"):
        values = row.get(key) or []
        if not isinstance(values, list) or not all(isinstance(one, str) or one is None for one in values):
            _fail(f'"{key}" is not a list of texts')
    return row


def _fail(message: str) -> NoReturn:
    raise ValueError(message)


def _user_case(row: dict) -> PromptCase:
    classes = [one or "" for one in row.get("classes") or ()]
    colours = [one or None for one in row.get("colours") or ()]
    if not all(classes):
        raise ValueError("an empty class; name the detector's class of every marked subject, or leave out 'classes'")
    unknown = [colour for colour in colours if colour and colour not in TOLD_COLOURS]
    if unknown:
        raise ValueError(f"colour {unknown[0]!r} is not among those that can be told: {', '.join(TOLD_COLOURS)}")
    return marked_case(row["prompt"], classes, colours)


def _unmark(marked: str) -> tuple[str, list[str]]:
    """The prompt without its marks, and the marked words. The same marks as in text/prompt.py, which needs torch."""
    out, marks, end, opened = "", [], 0, None
    for match in _BRACKETS.finditer(marked):
        out += marked[end : match.start()]
        end = match.end()
        if len(match[0]) == 2:
            out += match[0][1]
        elif (match[0] == "[") != (opened is None):
            _fail(f"the brackets of {marked!r} do not match; each subject stands in one pair, as [red cat]")
        elif opened is None:
            opened = len(out)
        else:
            marks.append(out[opened:])
            opened = None
    if opened is not None:
        _fail(f"a bracket is never closed in {marked!r}; each subject stands in one pair, as [red cat]")
    return out + marked[end:], marks


def _colour_and_class(mark: str) -> tuple[str | None, str]:
    words = [word for word in mark.lower().split() if word not in _ARTICLES]
    colour = next((word for word in words if word in TOLD_COLOURS), None)
    named = " ".join(word for word in words if word != colour)
    if not named:
        _fail(f"the mark [{mark}] names no thing")
    return colour, named

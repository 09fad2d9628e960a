"""Prompt sets: what is drawn, what never meets, and what is said of a user's bad rows."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gsn.metrics.colour import REFERENCES
from gsn.metrics.detections import COCO
from gsn.text.parse import choose_subjects
from gsn.text.prompt import read_prompt
from gsn.text.prompt_sets import (
    COLOURS,
    NAMES,
    NOUNS,
    SPLITS,
    PromptCase,
    demo_set,
    marked_case,
    paper_set,
    read_prompts,
    size_of,
)

ROOT = Path(__file__).resolve().parents[3]
FORMS = {
    "2 entities": r"a photo of (a|an) \w+ and (a|an) \w+",
    "3 entities": r"a photo of (a|an) \w+ next to (a|an) \w+ and (a|an) \w+",
    "2 coloured": r"a photo of a \w+ \w+ and a \w+ \w+",
    "3 coloured": r"a photo of a \w+ \w+, a \w+ \w+ and a \w+ \w+",
}


def everything():
    yield from (paper_set(name, split, 60, seed) for name in NAMES for split in SPLITS for seed in (0, 1))
    yield from (demo_set(name, split) for name in NAMES[:2] for split in SPLITS)


def test_the_words_are_the_papers():
    assert len(NOUNS) == len(set(NOUNS)) == 24 and "donut" in NOUNS and "fire hydrant" not in NOUNS
    assert COLOURS == ("red", "yellow", "green", "blue", "purple", "pink")
    assert set(NOUNS) <= set(COCO) and set(COLOURS) <= set(REFERENCES) and len(COCO) == 80


@pytest.mark.parametrize(("name", "total"), [("2 entities", 552), ("3 entities", 12144), ("2 coloured", 16560),
                                             ("3 coloured", 1457280)])  # fmt: skip
def test_the_splits_share_the_papers_full_product(name, total):
    assert size_of(name, "validation") + size_of(name, "test") == total
    assert size_of(name, "test") >= 300 and size_of(name, "validation") >= 10  # what the paper drew


@pytest.mark.parametrize("name", NAMES)
def test_prompts_have_the_papers_form_and_say_what_they_ask(name):
    for case in paper_set(name, "test", 200).cases:
        assert re.fullmatch(FORMS[name], case.text)
        said = [f"{colour or ''} {one}".strip() for one, colour in zip(case.subjects, case.colours, strict=True)]
        assert re.findall(r"\[(.+?)\]", case.marked) == said
        assert len(set(case.subjects)) == len(case.subjects) == int(name[0])
        assert (None in case.colours) == ("entities" in name)
        if "coloured" in name:
            assert len(set(case.colours)) == len(case.colours)


def test_articles_go_by_the_word_that_follows():
    texts = [case.text for name in NAMES for case in paper_set(name, "test", 400).cases]
    words = {pair for text in texts for pair in re.findall(r"\b(an?) (\w+)", text)}
    assert {word for article, word in words if article == "an"} == {"apple", "elephant", "oven"}
    assert not {word for article, word in words if article == "a"} & {"apple", "elephant", "oven"}
    assert any("a red elephant" in text or "a pink apple" in text or "a blue oven" in text for text in texts)


def test_the_subjects_node_reads_the_same_subjects_and_colours():
    for drawn in everything():
        for case in drawn.cases:
            prompt = read_prompt(case.marked)
            assert prompt.text == case.text
            choices, notes = choose_subjects(prompt)
            assert tuple(one.label for one in choices) == case.subjects and not notes
            described = tuple(one.attributes[0].label if one.attributes else None for one in choices)
            assert described == case.colours


def test_validation_and_test_never_share_nouns_whatever_is_drawn():
    for name in NAMES:
        size = size_of(name, "validation")
        drawn = {
            split: {frozenset(case.subjects) for seed in range(5) for case in paper_set(name, split, count, seed).cases}
            for split, count in (("validation", min(size, 400)), ("test", 400))
        }
        assert not drawn["validation"] & drawn["test"]
    kinds = ["2 entities", "2 coloured"]  # nor across kinds of the same number of nouns
    sets = {(n, s): {frozenset(c.subjects) for c in paper_set(n, s, 90).cases} for n in kinds for s in SPLITS}
    for one, other in itertools.permutations(kinds, 2):
        assert not sets[one, "validation"] & sets[other, "test"]


def test_a_draw_depends_on_its_arguments_alone():
    ten, thirty = paper_set("3 coloured", "test", 10, 4), paper_set("3 coloured", "test", 30, 4)
    assert thirty.cases[:10] == ten.cases and len(set(thirty.cases)) == 30
    assert paper_set("3 coloured", "test", 10, 5).cases != ten.cases
    assert paper_set("2 entities", "test", 2).cases[0].text == "a photo of a cat and a bench"  # in every version


def test_a_whole_split_can_be_drawn_and_no_more():
    whole = paper_set("2 entities", "validation", size_of("2 entities", "validation"), 7)
    assert len(set(whole.cases)) == len(whole.cases)
    with pytest.raises(ValueError, match=f"{len(whole.cases) + 1} prompts asked"):
        paper_set("2 entities", "validation", len(whole.cases) + 1)


def test_the_source_makes_the_same_set_again():
    drawn = paper_set("2 coloured", "validation", 10, 3)
    assert eval(drawn.source.split(":")[0], {"paper_set": paper_set}) == drawn  # noqa: S307 - our own text


def test_unknown_sets_splits_and_counts_are_refused():
    for arguments, message in [
        (("4 entities", "test", 1), "no prompt set '4 entities'"),
        (("2 entities", "train", 1), "no split 'train'"),
        (("2 entities", "test", 0), "at least 1"),
    ]:
        for call in (paper_set, demo_set):
            with pytest.raises(ValueError, match=message):
                call(*arguments)


# ---- the demo models' set --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report():
    return json.loads((ROOT / "demo" / "validation.json").read_text())


@pytest.mark.parametrize("split", SPLITS)
def test_the_demo_sets_are_the_held_out_pairs_in_both_orders(report, split):
    pairs = {tuple(pair) for pair in report[split]["pairs"]}
    cases = demo_set("2 entities", split).cases
    assert {case.subjects for case in cases} == pairs | {pair[::-1] for pair in pairs}
    assert len({frozenset(case.subjects) for case in demo_set("2 entities", split, len(pairs)).cases}) == len(pairs)
    if split == "test":
        assert {case.text for case in cases} == set(report["test"]["prompts"])


def test_three_demo_nouns_have_two_held_out_pairs_of_their_split(report):
    held = {split: {frozenset(pair) for pair in report[split]["pairs"]} for split in SPLITS}
    for split in SPLITS:
        cases = demo_set("3 entities", split).cases
        assert len({case.text for case in cases}) == len(cases) > 0
        for case in cases:
            pairs = [frozenset(pair) for pair in itertools.combinations(case.subjects, 2)]
            assert sum(pair in held[split] for pair in pairs) == 2
            assert not any(pair in held[other] for other in SPLITS if other != split for pair in pairs)
    every = held["validation"] | held["test"]
    nouns = {noun for pair in every for noun in pair}
    triples = [set(map(frozenset, itertools.combinations(three, 2))) for three in itertools.combinations(nouns, 3)]
    assert not any(pairs <= every for pairs in triples)  # which is why no more than two are promised


def test_a_demo_set_has_no_colours():
    with pytest.raises(ValueError, match="know no colours"):
        demo_set("2 coloured", "test")


# ---- a user's own ----------------------------------------------------------------------------------------


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_text_of_marked_prompts(tmp_path):
    path = written(tmp_path, "mine.txt", "\ufeff# mine\n\na [red cat] on a [fire hydrant]\r\n  an [Oven], \\[sic\\]\n")
    found = read_prompts(path)
    assert found.cases == (
        PromptCase("a red cat on a fire hydrant", ("cat", "fire hydrant"), ("red", None),
                   "a [red cat] on a [fire hydrant]"),
        PromptCase("an Oven, [sic]", ("oven",), (None,), "an [Oven], \\[sic\\]"),
    )  # fmt: skip
    assert found.name == "mine" and found.split == "" and "mine.txt, 2 prompts, sha256 " in found.source


def test_a_table_with_classes_and_colours(tmp_path):
    rows = ['"a [tabby], a [black puppy]",cat; dog,;', "a [red sofa] and a [cow],couch;cow,white;"]
    text = "\n".join(["prompt,classes,colours", *rows])
    first, second = read_prompts(written(tmp_path, "mine.csv", text)).cases
    assert first.text == "a tabby, a black puppy"
    assert first.subjects == ("cat", "dog") and first.colours == (None, "black")
    assert second.subjects == ("couch", "cow") and second.colours == ("white", None)


def test_json_lines(tmp_path):
    rows = [{"prompt": "a [tabby]", "classes": ["cat"], "colours": ["blue"], "more": 1}, {"prompt": "a [pink dog]"}]
    first, second = read_prompts(written(tmp_path, "mine.jsonl", "\n".join(map(json.dumps, rows)) + "\n")).cases
    assert (first.subjects, first.colours) == (("cat",), ("blue",))
    assert (second.subjects, second.colours) == (("dog",), ("pink",))


@pytest.mark.parametrize(
    ("name", "text", "messages"),
    [
        ("a.txt", "a [cat]\na dog\na [cat\n", ["a.txt has 2 bad rows", "line 2: no subject is", "line 3: a bracket"]),
        ("a.txt", "a [[cat]]\n", ["line 1: the brackets"]),
        ("a.txt", "a [red]\n", ["line 1: the mark [red] names no thing"]),
        ("a.txt", "# nothing\n", ["a.txt has no prompt"]),
        ("a.csv", "text\na [cat]\n", ["line 1: no column 'prompt'; the columns are: text"]),
        ("a.csv", "prompt\na [cat], a [dog]\n", ["line 2: more values than columns"]),
        ("a.csv", "prompt,classes\na [cat] a [dog],cat\n", ["line 2: 1 classes for 2 marked subjects"]),
        ("a.csv", "prompt,colours\na [cat],mauve\n", ["line 2: colour 'mauve'"]),
        ("a.csv", "prompt,classes\na [cat] a [dog],cat;\n", ["line 2: an empty class"]),
        ("a.csv", "", ["line 1: no column 'prompt'; the columns are: none"]),
        ("a.jsonl", '{"prompt": "a [cat]"}\n{"prompt": 3}\n{"x"\n', ["line 2: not an object", "line 3: not JSON"]),
        ("a.jsonl", '{"prompt": "a [cat]", "classes": "cat"}\n', ['line 1: "classes" is not a list']),
        ("a.md", "a [cat]\n", ["a .txt, .csv or .jsonl file"]),
    ],
)
def test_bad_rows_are_named_by_their_line(tmp_path, name, text, messages):
    with pytest.raises(ValueError) as refused:
        read_prompts(written(tmp_path, name, text))
    assert all(message in str(refused.value) for message in messages)


def test_a_file_of_other_bytes_is_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a [cat]\na \xff\n")
    with pytest.raises(ValueError, match=r"a.txt, line 2: not UTF-8"):
        read_prompts(path)
    with pytest.raises(FileNotFoundError):
        read_prompts(tmp_path / "none.txt")


MARKED = ["a [cat] and a [red dog]", r"\[ [x] \] [y]", "[x] [y]", "\\[", "[x", "x]", "[[x]]", "[x] ]", "[x \\]]"]


@pytest.mark.parametrize("text", MARKED)
def test_marks_are_those_of_the_subjects_node(text):
    def by_node():
        prompt = read_prompt(text)
        return prompt.text, [prompt.text[a:b] for a, b in prompt.marks]

    try:
        expected = by_node()
    except ValueError:
        expected = None
    if expected and expected[1]:
        case = marked_case(text, classes=expected[1])
        assert (case.text, list(case.subjects)) == expected
    else:
        with pytest.raises(ValueError):
            marked_case(text)


def test_a_case_needs_a_colour_or_none_for_each_subject():
    with pytest.raises(ValueError, match="2 subjects and 1 colours"):
        PromptCase("x", ("cat", "dog"), (None,), "x")
    with pytest.raises(ValueError, match="0 subjects"):
        PromptCase("x", (), (), "x")


def test_the_sets_need_nothing_but_python():
    script = "import sys; sys.modules['torch'] = sys.modules['numpy'] = None; import gsn.text.prompt_sets"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True)

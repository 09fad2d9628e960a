"""What a study writes, read back: three kinds of rows in three formats, and what is said of bad ones."""

import json

import pytest

from gsn.methods.steps import Step
from gsn.metrics.tiam import ImageScore, Row, summary
from gsn.metrics.tiam_report import as_json
from gsn.selection.score_table import ScoresError, read_scores
from gsn.selection.step import Cell

ROW = {"model": "demo", "method": "Ours", "step": "sigma 5.6", "set": "2", "prompt": "cat", "seed": 0, "success": True}
CELL = Cell(Step(5.6, "sigma"), "2", 1, 1)


def rows(*changes):
    return [ROW | change for change in changes]


def as_csv(found, mark=","):
    return "\n".join([mark.join(found[0]), *(mark.join(str(value) for value in row.values()) for row in found)])


WRITERS = [json.dumps, lambda found: "\n".join(map(json.dumps, found)), as_csv, lambda found: as_csv(found, ";")]


@pytest.mark.parametrize("write", WRITERS, ids=["json", "jsonl", "csv", "csv ;"])
def test_the_same_rows_in_every_format(write):
    found = rows({}, {"seed": 1, "success": False}, {"step": 8, "success": False}, {"step": "50%", "seed": 3})
    table = read_scores(write(found))
    assert table.cells[:2] == (CELL, Cell(Step(5.6, "sigma"), "2", 0, 1))
    assert [str(cell.step) for cell in table.cells] == ["sigma 5.6", "sigma 5.6", "8", "50%"]
    assert table.run == "demo / Ours"


def test_a_table_of_counts_and_a_studys_summary():
    (cell,) = read_scores("step,set,successes,n\n8,a,3,160").cells
    assert cell == Cell(Step(8, "index"), "a", 3, 160)
    summary = {"model": "m", "method": "Ours", "step": "8", "set": "a", "prompts": 10, "seeds": 16, "success": 0.01875}
    (cell,) = read_scores(json.dumps([summary])).cells
    assert cell == Cell(Step(8, "index"), "a", 3, 160)
    whole = summary | {"n": 159, "success": round(3 / 159, 6), "split": "validation"}  # an image without a score
    assert read_scores(json.dumps([whole])).cells == (Cell(Step(8, "index"), "a", 3, 159),)
    (cell,) = read_scores("step,unit,successes,n\n5.6,sigma,3,160").cells
    assert cell == Cell(Step(5.6, "sigma"), "all", 3, 160)


def test_bad_rows_are_named_counted_and_left_out():
    bad = rows({"success": None, "seed": 1}, {"step": "soon"}, {"step": "x"}, {"seed": ""})
    lines = [json.dumps(ROW), '{"model": "demo", "me', *map(json.dumps, bad)]
    table = read_scores("\n".join(lines))
    assert table.cells == (CELL,)
    assert table.notes[0] == "left out: line 2: not JSON, perhaps cut short"
    assert "line 3: success is None" in table.notes[1] and "line 4: cannot read the step 'soon'" in table.notes[2]
    assert table.notes[3] == "left out: 2 more unreadable rows"


def test_rows_without_a_step_are_other_runs():
    plain = {"method": "plain", "step": None}
    assert read_scores(json.dumps(rows(plain, {}))).cells == (CELL,)
    with pytest.raises(ScoresError, match="1 rows are without a step"):
        read_scores(json.dumps(rows(plain)))


def test_one_of_several_runs():
    text = json.dumps(rows({}, {"method": "Ours+", "success": False}))
    assert read_scores(text, "ours").cells == (CELL,)
    assert read_scores(text, "demo / Ours+").run == "demo / Ours+"
    with pytest.raises(ScoresError, match=r"of several: demo / Ours, demo / Ours\+"):
        read_scores(text)
    with pytest.raises(ScoresError, match="'SAGA'; there are: demo / Ours"):
        read_scores(text, "SAGA")


def test_an_image_counts_once():
    table = read_scores(json.dumps(rows({}, {})))
    assert table.cells == (CELL,) and table.notes == ("1 rows stand there twice and were counted once",)
    with pytest.raises(ScoresError, match="row 1 and row 2 are the same image.*seed 0.*different results"):
        read_scores(json.dumps(rows({}, {"success": False})))


def test_candidates_scored_on_different_images_are_said():
    (note,) = read_scores(json.dumps(rows({}, {"step": 8, "seed": 1}))).notes
    assert "set '2': the candidates were not scored on the same prompts and seeds" in note
    assert not read_scores(json.dumps(rows({}, {"step": 8}))).notes


def test_only_validation_rows_are_chosen_on():
    both = rows({"split": "validation"}, {"split": "test", "success": False})
    table = read_scores(json.dumps(both))
    assert table.cells == (CELL,) and "1 rows of another split" in table.notes[0]
    assert "flatters the choice" in read_scores(json.dumps(both[1:])).notes[0]
    assert not read_scores(json.dumps(both[:1])).notes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no scores"),
        ("[{", "begin like JSON but are not"),
        ("[1]", "row 1: 1 is not a row"),
        ("a,b\n1,2", "among 'a,b' there is no step"),
        ("step,successes,n\n8,3,2", "3 successes of 2 images"),
        ("step,successes,n\n8,1.5,2", "successes is '1.5'; write a whole number"),
        ("step,successes,n\n8,1,", "n is ''; write a number"),
        ("step,success\n8,true", "prompt is missing"),
        ("step,set,prompts,seeds,success\n8,a,10,16,0.505", "no share of 160 images"),
    ],
)
def test_what_holds_no_scores_is_refused(text, said):
    with pytest.raises(ScoresError, match=said):
        read_scores(text)


def tiam(labels):
    """A TIAM score's JSON, as GSNTIAMScore gives it: one prompt, two images for each label, the first one right."""
    rows = [Row("a cat", f"image {n + 1}", ImageScore((n == 0,), (None,), n == 0), label=label)
            for label in labels for n in range(2)]  # fmt: skip
    return as_json(summary(rows), rows, "by hand")


def test_a_tiam_score_with_steps_in_its_labels():
    table = read_scores(tiam(["plain", "paper @ 8", "paper @ sigma 5.6"]))
    assert table.run == "paper" and table.notes == ()  # plain has no step: another run
    at = [(Step(8, "index"), 1), (Step(8, "index"), 0), (Step(5.6, "sigma"), 1), (Step(5.6, "sigma"), 0)]
    assert table.cells == tuple(Cell(step, "all", right, 1) for step, right in at)
    assert read_scores(tiam(["fast @ 8", "paper @ 8"]), only="fast").cells == table.cells[:2]
    broken = json.loads(tiam(["paper @ 8"]))
    broken["images"].insert(1, "a cat")
    table = read_scores(json.dumps(broken, indent=1))
    assert len(table.cells) == 2 and "left out: image 2: 'a cat' is not a row" in table.notes[0]


@pytest.mark.parametrize("labels", [[""], ["plain", "paper"]])
def test_a_tiam_score_without_steps_says_what_to_connect(labels):
    with pytest.raises(ScoresError, match=r"names no steps; connect the label of GSNSweep .* paper @ 8"):
        read_scores(tiam(labels))

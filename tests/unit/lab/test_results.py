"""lab/study/RESULTS.md and the pages beside it say what the kept rows and reports say."""

import json

import pytest

from lab.study import results


def test_results_and_figures_are_as_they_would_be_written_now():
    for page in results.PAGES:
        text = page.read_text(encoding="utf-8")
        assert text == results.written(text), "run `.venv/bin/python -m lab.study.results`"
    for path, drawn in results.figures().items():
        assert path.read_text(encoding="utf-8") == drawn, "run `.venv/bin/python -m lab.study.results`"


def test_every_part_stands_in_the_text():
    assert {part for part, _ in results.marked()} == set(results.PARTS)


def report(validation, test, chosen):
    """successes of 4 (validation), and per step the pictures of two test prompts of two seeds that succeed."""
    cells = {f"step {s}, lr 0.06, CFG 3.0, words": {"n": 4, "success": k / 4} for s, k in validation.items()}
    cells |= {"plain, CFG 3.0": {"n": 4, "success": 0.5}, "step 8, lr 0.01, CFG 3.0, words": {"n": 4, "success": 1.0}}
    curve = [{"step": s, "found": [[True, one] for one in found]} for s, found in test.items()]
    return {
        "chosen": {"cfg": 3.0, "lr": 0.06, "slice": "words", "step": chosen},
        "validation": {"cells": cells},
        "test": {"plain": {"n": 4}, "seeds": [0, 1], "curve": curve},
    }


@pytest.fixture
def one_model(tmp_path, monkeypatch):
    def put(*args):
        path = tmp_path / "validation.json"
        path.write_text(json.dumps(report(*args)))
        monkeypatch.setattr(results, "VALIDATION", {"toy": path})

    return put


def test_candidates_of_the_choice_differ_in_the_step_alone(one_model):
    assert results.validated(report({8: 2, 4: 1}, {}, 8)) == [(4, 1, 4), (8, 2, 4)]


def test_regret_is_what_the_best_test_step_has_more(one_model):
    one_model({4: 1, 8: 3}, {4: [True, True, True, False], 8: [True, False, False, False]}, 8)
    row = results.regret("")[-1]
    assert "| 25.0 % [" in row and "| 4: 75.0 % [" in row and "50.0 points [50.0, 50.0], p 0.5 |" in row


def test_there_is_none_where_the_choice_is_the_best(one_model):
    one_model({4: 1, 8: 3}, {4: [True, False] * 2, 8: [True, True] * 2}, 8)
    assert "0.0 points [0.0, 0.0], p 1 |" in results.regret("")[-1]


def test_the_detector_is_counted_against_the_eye(tmp_path, monkeypatch):
    path = tmp_path / "labels.jsonl"
    seen_found = [([True, True], [True, False]), ([True, False], [True, True]), ([True, True], [True, True])]
    path.write_text("\n".join(
        json.dumps({"model": "toy", "method": "plain", "seen": seen, "found": found}) for seen, found in seen_found
    ))  # fmt: skip
    monkeypatch.setattr(results, "LABELS", path)
    row = results.labels("")[-1]
    assert row.startswith("| **all** | 3 | 4 of 5: 80.0 % [") and "| 1 of 1: 100.0 % [" in row
    assert "| 66.7 % [20.8, 93.9] | 66.7 % [20.8, 93.9] |" in row


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Puts a study of one prompt: for each method (and its preset's first move, or None) the seeds that succeed."""
    like = results.KEPT / "mmdit_guided"
    study = json.loads((like / "study.json").read_text(encoding="utf-8"))
    row = results.study_of("mmdit_guided")[1][0]
    monkeypatch.setattr(results, "KEPT", tmp_path)

    def put(name, methods, seeds):
        study["sets"][0]["cases"], study["seeds"], study["methods"] = study["sets"][0]["cases"][:1], list(seeds), []
        rows = []
        for method, (move, successes) in methods.items():
            method, _, step = method.partition(" @ ")
            file = json.dumps({"moves": [move]}) if move else ""
            kind = "preset file" if move else "preset"
            study["methods"].append({"name": method, "step": step, "kind": kind, "file": file})
            rows += [{**row, "method": method, "step": step, "seed": s, "success": s in successes} for s in seeds]
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").write_text(json.dumps(study))
        (tmp_path / name / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))

    return put


def test_a_grid_of_presets_is_read_by_what_they_say(kept):
    ten, five = ({"do": "refine", "iterations": i, "lr": lr} for i, lr in ((10, 0.3), (5, 0.06)))
    kept("toy_updates", {"plain": (None, ()), "a": (ten, (0, 1)), "b": (five, (0,))}, (0, 1))
    head, _, first, second = results.updates("toy")
    assert head.startswith("| updates (plain: 0.0 % [") and head.endswith("| rate 0.06 | rate 0.3 |")
    assert first.startswith("| 10 |  | 100.0 % [") and second.startswith("| 5 | 50.0 % [")


def test_methods_are_compared_on_equal_seeds(kept):
    kept("toy", {"plain": (None, (4,)), "Ours": (None, (0, 1, 2)), "SynGen": (None, (0, 3, 4))}, range(5))
    head, _, *body = results.pairs("toy")
    assert head == "| against | Ours: won / lost | p |"
    assert body == ["| plain | 3 / 1 | 0.62 |", "| Ours |  |  |", "| SynGen | 2 / 2 | 1 |"]


def test_things_are_counted_where_all_are_seldom_there(kept):
    kept("toy", {"plain": (None, ()), "Ours+": (None, ()), "SynGen": (None, ())}, range(4))
    path = results.KEPT / "toy" / "rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row, found in zip(rows, [0, 1, 1, 1, 2, 2, 1, 3, 2, 0, 0, 3], strict=True):
        row["found"] = [i < found for i in range(3)]
    path.write_text("\n".join(map(json.dumps, rows)))
    head, _, *body = results.counts("toy")
    assert head == (
        "| method | pictures with 0 to 3 of 3 | on average [95 % of prompts] | against plain: more / fewer | p |"
        " against Ours+: more / fewer | p |"
    )
    assert body == [
        "| plain | 1 / 3 / 0 / 0 | 0.75 [0.75, 0.75] |  |  | 0 / 3 | 0.25 |",
        "| Ours+ | 0 / 1 / 2 / 1 | 2.00 [2.00, 2.00] | 3 / 0 | 0.25 |  |  |",
        "| SynGen | 2 / 0 / 1 / 1 | 1.25 [1.25, 1.25] | 2 / 2 | 1 | 0 / 2 | 0.5 |",
    ]


def test_guided_cells_are_compared_with_either_alone(kept, monkeypatch):
    monkeypatch.setattr(results, "GUIDANCE", {"toy": "SynGen"})
    kept("toy", {"SynGen": (None, (0, 1)), "Ours tuned": (None, (0, 3))}, range(4))
    kept("toy_guided", {"plain": (None, ()), "both @ 8": (None, (0, 1, 2))}, range(3))
    head, _, *body = results.guided("toy")
    assert head == "| step | against SynGen (2 of 3): won / lost | p | against Ours tuned (1 of 3): won / lost | p |"
    assert body == ["| 8 | 1 / 0 | 1 | 2 / 0 | 0.5 |"]

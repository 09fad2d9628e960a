"""What is made of a study's rows: cells, the report, exports, and the comparison by people."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from gsn.metrics.stats import sign_test, wilson
from gsn.pictures.colours import PAPER
from gsn.text.prompt_sets import marked_case
from lab.study import after, user_study
from lab.study import contact_sheet as sheet_module
from lab.study.charts import Line, Point, curve, ranking
from lab.study.contact_sheet import contact_sheet
from lab.study.export import export, geneval_metadata
from lab.study.report import curves, html, markdown
from lab.study.run import lacking
from lab.study.store import Store
from lab.study.study import Method, StudyError
from lab.study.tables import cells, contract, ordered, table_csv, table_json

from .studies import CASES, fill, study
from .studies import row as scores_of


@pytest.fixture
def folder(tmp_path):
    with Store(tmp_path / "study") as store:
        one = study(methods=("plain", "Ours", "Ours @ 4", "Ours @ 8"))
        store.begin(one)
        fill(store, one.batches())
    return tmp_path / "study"


@pytest.fixture
def store(folder):
    with Store(folder) as store:
        yield store


def test_cells_are_counted_by_hand(store):
    rows = store.rows.values()
    found = {one.label: one for one in cells(store.study, rows)}
    assert list(found) == ["plain", "Ours", "Ours @ 4", "Ours @ 8"]
    for label, one in found.items():
        name, _, step = label.partition(" @ ")
        part = {(r["prompt"], r["seed"]): r for r in rows if (r["method"], r["step"]) == (name, step)}
        plain = {(r["prompt"], r["seed"]): r for r in rows if r["method"] == "plain"}
        k = sum(r["success"] for r in part.values())
        assert (one.n, one.prompts, one.seeds, one.successes) == (6, 2, 3, k)
        assert (one.low, one.high) == wilson(k, 6)
        assert one.by_position == ((6, 6), (k, 6)) and one.recall == (6 + k) / 12
        if label == "plain":
            assert one.won is None and one.p is None
        else:
            won = sum(r["success"] and not plain[key]["success"] for key, r in part.items())
            lost = sum(plain[key]["success"] and not r["success"] for key, r in part.items())
            assert (one.won, one.lost, one.p) == (won, lost, sign_test(won, lost))


def test_the_tables_do_not_depend_on_time_or_order(store):
    rows = list(store.rows.values())
    other = [{**one, "seconds": 99.0} for one in reversed(rows)]
    assert table_json(store.study, rows) == table_json(store.study, other)
    assert table_csv(store.study, rows) == table_csv(store.study, other)
    whole = json.loads(table_json(store.study, rows))
    assert len(whole["images"]) == len(rows) and "seconds" not in whole["images"][0]
    assert table_csv(store.study, rows).count("\n") == 5


def test_the_contract_has_its_keys(store):
    first = contract(cells(store.study, store.rows.values()))[0]
    keys = {"model", "method", "step", "set", "prompts", "seeds", "success", "ci_low", "ci_high", "seconds_per_image"}
    assert keys <= set(first) and 0 <= first["ci_low"] <= first["success"] <= first["ci_high"] <= 1


def test_images_without_a_score_are_not_counted(store):
    rows = [{**one, "success": None, "found": None} for one in store.rows.values()]
    assert cells(store.study, rows) == []
    assert "| plain |" not in markdown(store.study, [], rows)


def test_further_columns_are_averaged_where_every_row_has_them(store):
    """The mean over images, and a bootstrap over prompts: of two prompts it reaches from one's mean to the other's."""
    rows = [{**one, "clip_score": (30.0 if one["prompt"] == CASES[0].text else 40.0) + one["seed"], "caption": "a car"}
            for one in store.rows.values()]  # fmt: skip
    first = cells(store.study, rows)[0]
    assert first.more == {"clip_score": (36.0, 31.0, 41.0)}
    said = contract([first])[0]
    assert [said[name] for name in ("clip_score", "clip_score_low", "clip_score_high")] == [36.0, 31.0, 41.0]
    assert "| clip_score |" in markdown(store.study, [first], rows)
    assert "| 36 (31 to 41) |" in markdown(store.study, [first], rows)
    part = [*rows[1:], store.rows[next(iter(store.rows))]]  # one image of the first cell is without it
    first, second, *_ = cells(store.study, part)
    assert first.more == {} and second.more
    head, *body = table_csv(store.study, part).splitlines()
    assert head.endswith("clip_score,clip_score_low,clip_score_high") and body[0].endswith(",,,")
    table = [line for line in markdown(store.study, [first, second], part).splitlines() if " 6 (2 x 3) " in line]
    assert len(table) == 2 and table[0].count("|") == table[1].count("|") and table[0].endswith("|  |")


def test_the_report_is_one_file_with_everything_in_it(store):
    rows = ordered(store.study, store.rows.values())
    page = html(store, store.study, cells(store.study, rows), rows)
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "//" not in re.sub(r"base64,[^\"]+", "", page)
    assert page.count("<img ") == len(rows) and "<svg" in page
    assert "Only the same setting is comparable" in page and "65.81" in page
    data = re.search(r"base64,([^\"]+)", page)[1]
    assert Image.open(io.BytesIO(base64.b64decode(data))).format == "JPEG"


def test_what_people_wrote_cannot_break_the_report(tmp_path):
    case = marked_case('a <script>alert("x")</script> [cat] & a [dog]')
    one = study(cases=(case,), methods=("plain", "Ours"))
    with Store(tmp_path) as store:
        store.begin(one)
        fill(store, one.batches())
        rows = ordered(one, store.rows.values())
        page = html(store, one, cells(one, rows), rows)
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_step_curves_take_methods_with_two_steps_or_more(store):
    found = cells(store.study, store.rows.values())
    ((title, ticks, lines, plain),) = curves(found)
    assert ticks == ["4", "8"] and [line.name for line in lines] == ["Ours"] and plain.method == "plain"
    by_step = {one.step: one for one in found if one.method == "Ours"}
    assert [(p.x, p.value) for p in lines[0].points] == [(s, by_step[s].rate) for s in ("4", "8")]
    assert curves([one for one in found if one.step != "8"]) == []


def test_a_chart_is_scaled_and_says_its_values():
    line = Line("a & b", [Point("0", 0.25, 0.2, 0.3), Point("8", 0.35, 0.3, 0.4)])
    drawn = curve("t", ["0", "8"], [line], Point("plain", 0.1, 0.05, 0.2), "step")
    assert "a &amp; b at 8: 35.0 % [30.0, 40.0]" in drawn and ">40 %<" in drawn
    low, high = (float(y) for y in re.findall(r'cy="([\d.]+)"', drawn))
    assert low > high  # a larger value is drawn higher


def test_a_ranking_has_a_row_for_each_method_and_a_line_may_lack_some():
    both = Line("found", [Point("plain", 0.25, 0.2, 0.3), Point("a & b", 0.75, 0.7, 0.8)])
    drawn = ranking("t", [both, Line("explained", [Point("a & b", 0.5, 0.4, 0.6)])], "share")
    assert "explained at a &amp; b: 50.0 % [40.0, 60.0]" in drawn and drawn.count("<circle") == 3
    centres = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    assert centres[0][0] < centres[2][0] < centres[1][0]  # a larger value is drawn further right
    assert centres[0][1] < centres[1][1] < centres[2][1]  # rows in their order, in each the lines in theirs


# --- exports


def test_geneval_layout(store, tmp_path):
    rows = ordered(store.study, store.rows.values())
    assert export(store, rows, "geneval", "Ours", "4", "unet", tmp_path / "g") == 6
    about = json.loads((tmp_path / "g" / "00000" / "metadata.jsonl").read_text())
    assert about == {"tag": "two_object", "prompt": "a photo of a car and a bird",
                     "include": [{"class": "car", "count": 1}, {"class": "bird", "count": 1}]}  # fmt: skip
    names = sorted(path.name for path in (tmp_path / "g" / "00001" / "samples").iterdir())
    assert names == ["0000.png", "0001.png", "0002.png"]


@pytest.mark.parametrize(
    ("marked", "tag", "include"),
    [
        ("a [cat]", "single_object", [{"class": "cat", "count": 1}]),
        ("a [red cat]", "colors", [{"class": "cat", "count": 1, "color": "red"}]),
        ("a [red cat], a [dog]", "color_attr",
         [{"class": "cat", "count": 1, "color": "red"}, {"class": "dog", "count": 1}]),
        ("a [cat] and a [cat]", "single_object", [{"class": "cat", "count": 2}]),
        ("a [cat], a [dog], a [cow]", "3_objects", [{"class": c, "count": 1} for c in ("cat", "dog", "cow")]),
    ],
)  # fmt: skip
def test_geneval_kinds(marked, tag, include):
    case = marked_case(marked)
    found = geneval_metadata({"prompt": case.text, "subjects": case.subjects, "colours": case.colours})
    assert (found["tag"], found["include"]) == (tag, include)


def test_compbench_layout(store, tmp_path):
    """Its program takes the prompt up to the first underscore and sorts by the number after the last."""
    rows = ordered(store.study, store.rows.values())
    export(store, rows, "t2i-compbench", "plain", "", "unet", tmp_path / "t")
    names = [path.name for path in (tmp_path / "t" / "samples").iterdir()]
    names.sort(key=lambda name: int(name.split("_")[-1].split(".")[0]))
    assert [name.split("_")[0] for name in names] == [one["prompt"] for one in rows if one["method"] == "plain"]


def test_exports_that_cannot_be(store, tmp_path):
    rows = ordered(store.study, store.rows.values())
    with pytest.raises(StudyError, match="no pictures of 'Theirs'"):
        export(store, rows, "geneval", "Theirs", "", "unet", tmp_path / "g")
    (tmp_path / "old.png").write_bytes(b"")
    with pytest.raises(StudyError, match="not empty"):
        export(store, rows, "geneval", "Ours", "", "unet", tmp_path)
    with pytest.raises(StudyError, match="cannot hold"):
        export(store, [{**one, "prompt": "a/b"} for one in rows], "t2i-compbench", "Ours", "", "unet", tmp_path / "x")


def test_the_commands_after_a_study(folder, tmp_path, capsys):
    assert after.run(["report", str(folder), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 4
    to = str(tmp_path / "g")
    assert after.run(["export", str(folder), "--layout", "geneval", "--method", "Ours @ 4", "--to", to, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 6
    with pytest.raises(StudyError, match="holds no study"):
        after.run(["report", str(tmp_path / "nothing")])
    assert not (tmp_path / "nothing").exists()


def test_pictures_are_scored_again_from_a_file(folder, tmp_path, capsys):
    """A detector that sees the first subject alone: no success, half the recall."""
    with Store(folder) as store:
        images = [{"image": r["image"], "detections": [{"label": r["subjects"][0], "score": 0.3, "box": [0, 0, 1, 1]}]}
                  for r in store.rows.values()]  # fmt: skip
    classes = ["car", "bird", "cat", "dog"]
    content = {"format": "gsn-detections", "version": 1, "detector": "eye", "classes": classes, "images": images}
    file = tmp_path / "found.json"
    file.write_text(json.dumps(content))
    assert after.run(["score", str(folder), "--detections", str(file), "--json"]) == 0
    assert {one["success"] for one in json.loads(capsys.readouterr().out)} == {0.0}
    with Store(folder) as store:
        assert store.study.detector == "file eye" and store.study.threshold == 0.25
        assert all(one["found"] == [True, False] for one in store.rows.values())
    assert after.run(["score", str(folder), "--detections", str(file), "--threshold", "0.5"]) == 0
    with Store(folder) as store:
        assert all(one["found"] == [False, False] for one in store.rows.values())
        before = (folder / "rows.jsonl").read_bytes()
    for broken, said in (({"images": images[1:]}, "no entry for"), ({"classes": ["cat", "car"]}, "no class 'bird'")):
        file.write_text(json.dumps({**content, **broken}))
        with pytest.raises(StudyError, match=said):
            after.run(["score", str(folder), "--detections", str(file)])
        assert (folder / "rows.jsonl").read_bytes() == before


def test_pictures_are_scored_again_by_the_detector_that_ships(tmp_path):
    pytest.importorskip("onnxruntime")
    with Image.open(Path(__file__).parents[1] / "metrics" / "photos" / "cat.jpg") as photo:
        out = io.BytesIO()
        photo.save(out, "PNG")
    with Store(tmp_path / "study") as store:
        one = study(seeds=(0,), methods=("plain",), cases=CASES[1:], detector="none", batch=1)
        store.begin(one)
        for batch in one.batches():
            store.add(batch, [scores_of(False, False)], [out.getvalue()])
    assert after.run(["score", str(tmp_path / "study"), "--detector", "coco"]) == 0
    with Store(tmp_path / "study") as store:
        (scored,) = store.rows.values()
        assert (store.study.detector, store.study.threshold) == ("coco", 0.5)
    assert scored["found"] == [True, False] and scored["confidence"][0] == pytest.approx(0.91, abs=0.02)


# --- the contact sheet


def test_the_sheet_has_prompts_down_and_methods_across(store):
    rows = ordered(store.study, store.rows.values())
    labels = ["Ours @ 4", "plain"]
    made = contact_sheet(store, rows, labels, 1, 12)
    tile, step = 112, 112 + sheet_module.GAP
    left, top = sheet_module.LEFT, made.height - 2 * step
    assert made.width == left + 2 * step
    by_key = {(row["prompt"], row["method"], row["step"]): row for row in rows if row["seed"] == 1}
    for line, case in enumerate(CASES):
        for column, (name, at) in enumerate((("Ours", "4"), ("plain", ""))):
            row = by_key[case.text, name, at]
            x, y = left + column * step, top + line * step
            inside = Image.open(io.BytesIO(store.picture(row))).convert("RGB").getpixel((5, 5))
            assert made.getpixel((x + tile // 2, y + tile // 2)) == inside
            assert made.getpixel((x + 1, y + 1)) == sheet_module.COLOURS[row["success"]]
    assert {row["success"] for row in by_key.values()} == {True, False}


def test_the_sheet_leaves_out_what_has_no_picture(store):
    rows = ordered(store.study, store.rows.values())
    for row in rows:
        if row["prompt"] == CASES[0].text or row["method"] == "plain":
            (store.folder / row["image"]).unlink()
    one = contact_sheet(store, rows, ["plain", "Ours"], 0, 12)
    assert one.height < contact_sheet(store, rows, ["plain", "Ours"], 0, 12).width  # one line, two columns
    blank = one.getpixel((sheet_module.LEFT + 56, one.height - 60))
    assert blank == PAPER
    with pytest.raises(StudyError, match="no pictures of plain with seed 0"):
        contact_sheet(store, rows, ["plain"], 0, 12)


def test_the_sheet_command(folder, tmp_path, capsys):
    assert after.run(["sheet", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["methods"] == ["plain", "Ours", "Ours @ 4", "Ours @ 8"]
    assert Image.open(folder / "sheet.png").size[0] == sheet_module.LEFT + 4 * (112 + sheet_module.GAP)
    for more, said in ((["--methods", "nobody"], "no method 'nobody'"), (["--seed", "9"], "with seed 9"),
                       (["--to", str(tmp_path / "x.y")], "unknown file extension")):  # fmt: skip
        with pytest.raises(StudyError, match=said):
            after.run(["sheet", str(folder), *more])


# --- put together


def part(tmp_path, name, asked, batches=None):
    with Store(tmp_path / name) as store:
        store.begin(asked)
        fill(store, list(asked.batches())[:batches])
    return str(tmp_path / name)


def test_parts_of_two_machines_are_one_study(tmp_path, capsys):
    """Each has methods that the other lacks; one has a prompt and the last seeds more."""
    a = part(tmp_path, "a", study(methods=("plain", "Ours"), cases=CASES[:1], seeds=(0, 1)))
    b = part(tmp_path, "b", study(methods=("plain", "SynGen"), seeds=(0, 1, 2, 3)))
    to = tmp_path / "both"
    assert after.run(["join", str(to), a, b, "--json"]) == 0
    out = capsys.readouterr()
    counted = {one["method"]: one["n"] for one in json.loads(out.out)}
    assert counted == {"plain": 8, "Ours": 2, "SynGen": 8}
    assert "4 images taken" in out.err and "14 images taken; 2 were there" in out.err
    with Store(to) as store, Store(b) as one:
        assert len(store.rows) == 18 and not store.check_images() and not store.said
        assert {key: store.rows[key] for key in one.rows if key[1] == "SynGen"} == {
            key: row for key, row in one.rows.items() if key[1] == "SynGen"
        }
        assert [len(batch.seeds) for batch in lacking(store, store.study)] == [2, 2, 2]  # what Ours lacks


def test_joined_again_nothing_is_taken_twice(folder, tmp_path, capsys):
    for _ in range(2):
        assert after.run(["join", str(tmp_path / "to"), str(folder)]) == 0
    assert "0 images taken; 24 were there\n" in capsys.readouterr().err
    with Store(tmp_path / "to") as store, Store(folder) as one:
        assert store.rows == one.rows and store.study == one.study
    assert (tmp_path / "to" / "table.json").read_bytes() == after_report(folder)


def after_report(folder):
    assert after.run(["report", str(folder)]) == 0
    return (folder / "table.json").read_bytes()


def test_a_batch_is_taken_whole_or_not_at_all(tmp_path, capsys):
    """The other has the seeds of half a batch; then this one has, and the other the whole."""
    half, whole = study(cases=CASES[:1], seeds=(0,)), study(cases=CASES[:1], seeds=(0, 1))
    a, b = part(tmp_path, "a", half), part(tmp_path, "b", whole, batches=1)
    assert after.run(["join", str(tmp_path / "b"), a]) == 0
    assert "0 images taken; 3 left, of batches that are not whole" in capsys.readouterr().err
    assert after.run(["join", a, b]) == 0
    with Store(a) as store:
        assert [len(batch.seeds) for batch in lacking(store, store.study)] == [2, 2] and not store.check_images()
        assert [key[1] for key in store.rows].count("plain") == 2


def test_what_is_without_pictures_or_of_another_verdict_is_said(folder, tmp_path, capsys):
    to = tmp_path / "to"
    assert after.run(["join", str(to), str(folder)]) == 0
    with Store(folder) as store:
        first, *rest = store.rows.values()
        store.replace_rows([{**first, "found": [not one for one in first["found"]]}, *rest])
        for r in store.rows.values():
            (folder / r["image"]).unlink()
    assert after.run(["join", str(to), str(folder)]) == 0
    assert "24 were there; 1 of these with another verdict, which stays" in capsys.readouterr().err
    assert after.run(["join", str(tmp_path / "rows"), str(folder)]) == 0
    assert "24 images taken; 24 of them without their pictures" in capsys.readouterr().err


def test_a_picture_cannot_be_put_outside_the_folder(folder, tmp_path):
    with Store(folder) as store:
        rows = [{**r, "image": f"../../{i}.png"} for i, r in enumerate(store.rows.values())]
        store.replace_rows(rows)
    assert after.run(["join", str(tmp_path / "to"), str(folder)]) == 0
    with Store(tmp_path / "to") as store:
        assert all(r["image"].startswith("images/") for r in store.rows.values())


def test_what_cannot_be_joined(folder, tmp_path):
    other = part(tmp_path, "other", study(batch=3))
    with pytest.raises(StudyError, match="batch 2, but 3 is asked"):
        after.run(["join", str(folder), other])
    with pytest.raises(StudyError, match="holds no study"):
        after.run(["join", str(tmp_path / "new"), str(tmp_path / "typo")])
    assert not (tmp_path / "typo").exists() and not (tmp_path / "new").exists()
    with pytest.raises(StudyError, match="another process is working on"):
        after.run(["join", str(folder), str(folder)])


# --- people


def page_of(store, count=4, seed=0):
    rows = ordered(store.study, store.rows.values())
    chosen = user_study.trials(rows, "unet", ("plain", "Ours"), count, seed)
    path = user_study.write_page(store, "unet", ("plain", "Ours"), chosen, seed)
    return chosen, path, json.loads((store.folder / user_study.KEY).read_text())


def test_trials_are_pairs_of_equal_prompt_and_seed_on_random_sides(store):
    chosen, _, key = page_of(store, 6)
    assert sorted((t.left["seed"], t.left["prompt"]) for t in chosen) == sorted(
        (t.right["seed"], t.right["prompt"]) for t in chosen
    )
    for trial in chosen:
        assert {trial.left["method"], trial.right["method"]} == {"plain", "Ours"}
        assert (trial.left["method"] == "Ours") == trial.swapped
    assert sum(trial.swapped for trial in chosen) == 3
    assert [one["swapped"] for one in key["trials"]] == [trial.swapped for trial in chosen]
    assert page_of(store, 6)[0] == chosen and page_of(store, 6, seed=1)[0] != chosen


def test_no_prompt_is_shown_twice_before_every_prompt_was(store):
    assert len({trial.prompt for trial in page_of(store, 2)[0]}) == 2


def test_the_page_tells_nobody_which_is_which(store):
    _, path, _ = page_of(store)
    page = path.read_text()
    assert "plain" not in page and "Ours" not in page and "swapped" not in page
    assert not re.search(r'(src|href)="', page) and "http" not in page


def test_trials_that_cannot_be(store):
    rows = ordered(store.study, store.rows.values())
    with pytest.raises(StudyError, match="pictures of both"):
        user_study.trials(rows, "unet", ("plain", "Theirs"), 2, 0)
    with pytest.raises(StudyError, match="7 trials asked, but there are 6"):
        user_study.trials(rows, "unet", ("plain", "Ours"), 7, 0)


def choices(key, names):
    """What somebody clicks who wants these of ("first", "second", "both", "neither")."""
    said = {}
    for trial, name in enumerate(names):
        swapped = key["trials"][trial]["swapped"]
        said[str(trial)] = {"first": ("left", "right")[swapped], "second": ("right", "left")[swapped]}.get(name, name)
    return {"format": user_study.FORMAT, "study": key["study"], "choices": said}


def test_choices_are_counted_by_method_whatever_the_side(store, tmp_path):
    _, _, key = page_of(store)
    people = (["second", "second", "both", "neither"], ["second", "first", "both", "second"])
    files = [tmp_path / f"{i}.json" for i in range(2)]
    for file, names in zip(files, people, strict=True):
        file.write_text(json.dumps(choices(key, names)))
    found = user_study.preference(key, [user_study.read_choices(file, key) for file in files])
    assert (found.first, found.second, found.both, found.neither, found.answers) == (1, 4, 2, 1, 8)
    assert found.chosen == (3, 6) and found.intervals == (wilson(3, 8), wilson(6, 8))
    assert found.preference == 0.2 and found.preference_interval == wilson(1, 5) and found.p == sign_test(1, 4)
    assert after.run(["votes", str(store.folder), *map(str, files)]) == 0


def test_fleiss_kappa_by_hand():
    """Two people, four trials, two of them agreed: P = 1/2; shares 1/8, 4/8, 2/8, 1/8: Pe = 22/64."""
    one = dict(enumerate(["second", "second", "both", "neither"]))
    other = dict(enumerate(["second", "first", "both", "second"]))
    assert user_study.fleiss([one, other]) == pytest.approx((1 / 2 - 22 / 64) / (1 - 22 / 64), abs=1e-12)
    assert user_study.fleiss([one, one]) == pytest.approx(1.0)
    assert user_study.fleiss([one]) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"study": "other"}, "is of another page"),
        ({"choices": {"0": "middle"}}, "the choice of trial 0"),
        ({"choices": {"99": "left"}}, "the choice of trial 99"),
        ({"format": "x"}, "no file of choices"),
        ({"choices": []}, "no file of choices"),
    ],
)
def test_files_of_choices_that_are_none(store, tmp_path, change, said):
    _, _, key = page_of(store)
    file = tmp_path / "0.json"
    file.write_text(json.dumps({**choices(key, ["first"]), **change}))
    with pytest.raises(StudyError, match=said):
        user_study.read_choices(file, key)


def test_a_study_of_several_models_asks_which(folder, tmp_path):
    with Store(folder) as store:
        two = replace(store.study, models=(*store.study.models, replace(store.study.models[0], name="mmdit")),
                      methods=(*store.study.methods, Method("SynGen")))  # fmt: skip
        store.begin(two)
    with pytest.raises(StudyError, match="choose one with --model"):
        after.run(["page", str(folder), "--trials", "2"])
    assert after.run(["page", str(folder), "--trials", "2", "--model", "unet"]) == 0

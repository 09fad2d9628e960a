"""The folder of a study: what is finished stays, what is damaged is named and made again."""

import errno
import json
import os

import pytest

from lab.study import cli
from lab.study import store as store_module
from lab.study.export import export
from lab.study.report import write_results
from lab.study.run import lacking
from lab.study.store import Store, image_path
from lab.study.study import StudyError
from lab.study.tables import table_csv, table_json

from .studies import fill, picture, row, study


@pytest.fixture
def folder(tmp_path):
    """A finished study."""
    with Store(tmp_path) as store:
        store.begin(study())
        fill(store, study().batches())
    return tmp_path


def reopened(folder):
    """(missing batches, what was said, rows) after all checks of a restart."""
    with Store(folder) as store:
        store.check_images()
        store.drop_partial(store.study.batches())
        return lacking(store, store.study), list(store.said), dict(store.rows)


def test_a_finished_study_has_nothing_to_do(folder):
    missing, said, rows = reopened(folder)
    assert not missing and not said and len(rows) == study().images


def test_work_goes_on_after_any_line(folder):
    """The file cut at every byte of its last two lines, as a lost machine leaves it."""
    data = (folder / "rows.jsonl").read_bytes()
    lines = data.splitlines(keepends=True)
    for size in range(len(data) - len(lines[-1]) - len(lines[-2]), len(data), 40):
        (folder / "rows.jsonl").write_bytes(data[:size])
        missing, said, rows = reopened(folder)
        torn = not data[:size].endswith(b"\n")
        assert bool(said) == torn and (not torn or "torn line" in said[0])
        assert len(rows) + sum(len(batch.seeds) for batch in missing) == study().images
        assert (folder / "rows.jsonl").read_bytes().endswith(b"\n")
        assert reopened(folder)[1] == []  # mended once
        (folder / "rejected.jsonl").unlink(missing_ok=True)


def test_what_was_cut_is_made_again_to_the_same_table(folder):
    with Store(folder) as store:
        before = [make(store.study, store.rows.values()) for make in (table_json, table_csv)]
    data = (folder / "rows.jsonl").read_bytes()
    (folder / "rows.jsonl").write_bytes(data[: len(data) // 3])
    with Store(folder) as store:
        store.drop_partial(store.study.batches())
        batches = list(store.study.batches())
        for batch in lacking(store, store.study):
            # the same scores as then, found by making all batches in order into another place
            fill_like(store, batches, batch)
        assert [make(store.study, store.rows.values()) for make in (table_json, table_csv)] == before


def fill_like(store, batches, batch):
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as other, Store(other) as copy:
        fill(copy, batches, seconds=7.0)
        made = [copy.rows[key] for key in batch.keys]
        keys = ("found", "bound", "success", "confidence", "gradients", "seconds")
        pictures = [(copy.folder / one["image"]).read_bytes() for one in made]
        store.add(batch, [{key: one[key] for key in keys} for one in made], pictures)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda line: b"nonsense", "line 3: not JSON"),
        (lambda line: b"[1]", "line 3: not an object"),
        (lambda line: b"", "line 3: not JSON"),
        (lambda line: line.replace(b'"seed"', b'"sead"'), "line 3: without seed"),
        (lambda line: line.replace(b'"seed": 0', b'"seed": {}'), "line 3: its key"),
        (lambda line: b"\xff" + line, "line 3: not JSON"),
    ],
)
def test_a_damaged_line_is_named_and_its_batch_made_again(folder, damage, said):
    lines = (folder / "rows.jsonl").read_bytes().split(b"\n")
    lines[2] = damage(lines[2])
    (folder / "rows.jsonl").write_bytes(b"\n".join(lines))
    missing, told, rows = reopened(folder)
    assert said in told[0] and "others of its batch" in told[1] and len(told) == 2
    assert [batch.seeds for batch in missing] == [(0, 1)]
    kept = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert len(kept) == 2 and said in kept[0]["why"]


def test_an_image_that_appears_twice_is_counted_once(folder):
    lines = (folder / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "rows.jsonl").write_bytes(b"".join([*lines, lines[0]]))
    missing, said, rows = reopened(folder)
    assert "the same image as an earlier line" in said[0] and not missing and len(rows) == study().images


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "not the one that was written"),
        (lambda path: path.write_bytes(picture((200, 0, 0))), "not the one that was written"),
    ],
)
def test_a_damaged_picture_is_named_and_its_batch_made_again(folder, damage, said):
    victim = json.loads((folder / "rows.jsonl").read_text().splitlines()[0])
    damage(folder / victim["image"])
    missing, told, _ = reopened(folder)
    assert victim["image"] in told[0] and said in told[0]
    assert [batch.keys[0][-1] for batch in missing] == [0]


def tables(store):
    return [make(store.study, store.rows.values()) for make in (table_json, table_csv)]


def test_a_study_goes_on_without_its_pictures(folder, tmp_path_factory):
    """Rows and study.json alone, as git keeps them: nothing is made again, and more seeds give the same tables."""
    more = study(seeds=(0, 1, 2, 3, 4))
    copy = tmp_path_factory.mktemp("clone")
    for name in ("study.json", "rows.jsonl"):
        (copy / name).write_bytes((folder / name).read_bytes())
    assert cli.main(["--out", str(copy), "--without-pictures"]) == 0
    assert (copy / "rows.jsonl").read_bytes() == (folder / "rows.jsonl").read_bytes()
    made = []
    for place, without in ((folder, False), (copy, True)):
        with Store(place) as store:
            assert store.check_images(without_pictures=without) == (study().images if without else 0)
            store.drop_partial(store.study.batches())
            assert not store.said and not lacking(store, store.study)
            store.begin(more)
            store.drop_partial(more.batches())  # the last batch was of one seed and is now of two
            todo = lacking(store, more)
            assert len(todo) == 2 * 2 * 3
            fill(store, todo)
            write_results(store, more)
            made.append([*tables(store), (place / "table.json").read_bytes(), (place / "table.csv").read_bytes()])
    assert made[0] == made[1]
    page = (copy / "report.html").read_text()
    assert "12 of 30 pictures are not in the folder" in page and page.count("<img ") == 18
    assert "not in the folder" not in (folder / "report.html").read_text()


def test_without_pictures_those_that_are_there_are_still_checked(folder):
    first, second, *_ = (json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines())
    (folder / first["image"]).unlink()
    (folder / second["image"]).write_bytes(picture((200, 0, 0)))
    with Store(folder) as store:
        assert store.check_images(without_pictures=True) == 1
        store.drop_partial(store.study.batches())
        assert "not the one that was written" in store.said[0] and "others of its batch" in store.said[1]
        assert [batch.seeds for batch in lacking(store, store.study)] == [(0, 1)]


def test_what_needs_the_pictures_says_so(folder):
    with Store(folder) as store:
        rows = list(store.rows.values())
        (folder / rows[0]["image"]).unlink()
        with pytest.raises(StudyError, match=r"picture images/.*cannot be read.*--without-pictures"):
            store.picture(rows[0])
        with pytest.raises(StudyError, match="cannot be read"):
            export(store, rows, "geneval", "plain", "", "unet", folder / "g")
        write_results(store, store.study)
        assert "1 of 18 pictures are not in the folder" in (folder / "report.html").read_text()
        for row in rows:
            (folder / row["image"]).unlink(missing_ok=True)
        write_results(store, store.study)
        page = (folder / "report.html").read_text()
        assert "18 of 18 pictures are not in the folder" in page and "<img" not in page


def test_two_processes_do_not_share_a_folder(folder):
    with Store(folder), pytest.raises(StudyError, match="another process"):
        Store(folder).__enter__()


def test_a_folder_in_which_nothing_began_is_not_left_behind(tmp_path):
    with Store(tmp_path / "mistyped"):
        assert (tmp_path / "mistyped").is_dir()
    (tmp_path / "mine").mkdir()
    with Store(tmp_path / "mine"):
        pass
    with Store(tmp_path / "used"):
        (tmp_path / "used" / "notes.txt").write_text("mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "used"]


def test_rows_without_a_study_are_not_taken_over(folder):
    (folder / "study.json").unlink()
    with pytest.raises(StudyError, match="rows but no"):
        Store(folder).__enter__()


def test_a_full_disk_keeps_what_is_finished(folder, monkeypatch):
    batch = next(study(seeds=(7, 8)).batches())
    with Store(folder) as store:
        before = (folder / "rows.jsonl").read_bytes()

        def half(handle, data):
            real(handle, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        real = os.write
        monkeypatch.setattr(store_module.os, "write", half)
        with pytest.raises(StudyError, match=f"no space left.*{study().images} finished images are kept"):
            store.add(batch, [row(True, True)] * 2, [picture()] * 2)
        monkeypatch.undo()
        assert (folder / "rows.jsonl").read_bytes() == before and batch.keys[0] not in store.rows
        store.add(batch, [row(True, True)] * 2, [picture()] * 2)
    assert len(reopened(folder)[2]) == study().images + 2


def test_a_short_write_is_a_full_disk(folder, monkeypatch):
    real = os.write
    monkeypatch.setattr(store_module.os, "write", lambda handle, data: real(handle, data[:10]))
    with Store(folder) as store, pytest.raises(StudyError, match="no space left"):
        store.add(next(study(seeds=(7,)).batches()), [row(True, True)], [picture()])
    assert reopened(folder)[1] == []


def test_pictures_lie_where_their_names_say(folder):
    _, _, rows = reopened(folder)
    paths = [one["image"] for one in rows.values()]
    assert len(set(paths)) == len(paths) and all((folder / path).is_file() for path in paths)
    assert image_path(("m", "a/b", "", "s", "", "x?", 1)) != image_path(("m", "a b", "", "s", "", "x:", 1))
    long = image_path(("m", "n" * 500, "", "s", "", "p" * 500, 1))
    assert max(map(len, long.split("/"))) < 120

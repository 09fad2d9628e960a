"""A study's rows compressed, as the repository keeps them: read as before, and nothing is lost when more are made."""

import gzip

import pytest

from lab.study import after
from lab.study import store as store_module
from lab.study.report import write_results
from lab.study.rows import PACKED, ROWS, packed, rows_data
from lab.study.run import lacking
from lab.study.store import Store
from lab.study.study import StudyError
from lab.study.tables import table_csv, table_json

from .studies import fill, study

MORE = study(seeds=(0, 1, 2, 3))


def begun(folder):
    with Store(folder) as store:
        store.begin(study())
        fill(store, study().batches())
    return folder


@pytest.fixture
def folder(tmp_path):
    """A packed study, without its pictures."""
    begun(tmp_path)
    assert after.run(["pack", str(tmp_path)]) == 0
    return tmp_path


def names(folder):
    return [name for name in (ROWS, PACKED) if (folder / name).exists()]


def go_on(store):
    store.begin(MORE)
    store.drop_partial(MORE.batches())
    fill(store, lacking(store, MORE))


def test_the_same_rows_are_the_same_bytes():
    data = packed(b"rows")
    assert gzip.decompress(data) == b"rows" and data[3:8] == bytes(5)  # neither a name nor a time


def test_packing_changes_the_file_alone(folder, tmp_path_factory):
    plain = begun(tmp_path_factory.mktemp("plain"))
    assert names(folder) == [PACKED] and names(plain) == [ROWS]
    assert rows_data(folder) == rows_data(plain) == (plain / ROWS).read_bytes()
    with Store(folder) as one, Store(plain) as other:
        assert list(one.rows.items()) == list(other.rows.items()) and not one.said
        for table in (table_json, table_csv):
            assert table(one.study, one.rows.values()) == table(other.study, other.rows.values())


def test_looking_does_not_write(folder):
    before = (folder / PACKED).read_bytes()
    with Store(folder) as store:
        write_results(store, store.study)
        assert names(folder) == [PACKED]
    assert names(folder) == [PACKED] and (folder / PACKED).read_bytes() == before
    assert after.run(["pack", str(folder)]) == 0 and (folder / PACKED).read_bytes() == before


def test_a_packed_study_goes_on_and_is_packed_again(folder, tmp_path_factory):
    plain = begun(tmp_path_factory.mktemp("plain"))
    for place in (folder, plain):
        with Store(place) as store:
            go_on(store)
            assert len(rows_data(place).splitlines()) == MORE.images  # on the disk already
    assert names(folder) == [PACKED] and rows_data(folder) == rows_data(plain)


def test_what_a_killed_process_had_finished_counts(folder):
    """It dies with the packed file as it was and all rows beside it."""
    old = (folder / PACKED).read_bytes()
    with Store(folder) as store:
        go_on(store)
        torn = rows_data(folder) + b'{"model": "un'
    (folder / PACKED).write_bytes(old)
    (folder / ROWS).write_bytes(torn)
    with Store(folder) as store:
        assert len(store.rows) == MORE.images and "torn line" in store.said[0]
    assert names(folder) == [PACKED] and rows_data(folder) == torn[:-13]


def test_other_scores_are_packed_too(folder):
    with Store(folder) as store:
        store.replace_rows([{**row, "success": False} for row in store.rows.values()])
    assert names(folder) == [PACKED]
    with Store(folder) as store:
        assert not any(row["success"] for row in store.rows.values())


def test_a_packed_folder_is_joined(folder, tmp_path):
    new = tmp_path / "new"
    assert after.run(["join", str(new), str(folder)]) == 0
    assert names(new) == [ROWS] and rows_data(new) == rows_data(folder) and names(folder) == [PACKED]


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"rows", lambda data: data[:40] + b"\xff"])
def test_a_damaged_file_is_refused_and_left_as_it_is(folder, damage):
    bad = damage((folder / PACKED).read_bytes())
    (folder / PACKED).write_bytes(bad)
    with pytest.raises(StudyError, match="rows.jsonl.gz cannot be read.*restore it"):
        Store(folder).__enter__()
    assert (folder / PACKED).read_bytes() == bad and names(folder) == [PACKED]


def test_a_full_disk_leaves_the_rows_unpacked(folder, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    old = (folder / PACKED).read_bytes()
    with Store(folder) as store:
        go_on(store)
        monkeypatch.setattr(store_module, "_replace", full)
    monkeypatch.undo()
    assert names(folder) == [ROWS, PACKED] and (folder / PACKED).read_bytes() == old
    with Store(folder) as store:
        assert len(store.rows) == MORE.images
    assert names(folder) == [PACKED]


def test_packed_rows_without_a_study_are_not_taken_over(folder):
    (folder / "study.json").unlink()
    with pytest.raises(StudyError, match="rows but no"):
        Store(folder).__enter__()

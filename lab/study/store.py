"""A study's folder: study.json, rows.jsonl (a line per image, or packed, see rows.py), images/, and what is found
wrong when it is opened.

A batch is finished in one moment: its pictures are put in place first, each by a rename, then all its rows are
appended by one write that is on the disk before the call returns. A process killed at any point leaves either all
rows of a batch or none; the torn line that a lost machine may leave is found, told and cut.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .rows import PACKED, ROWS, has_rows, packed, rows_data
from .study import Batch, Study, StudyError, from_json, to_json

IMAGES, REJECTED, ABOUT = "images", "rejected.jsonl", "study.json"
KEY = ("model", "method", "step", "set", "split", "prompt", "seed")
NEEDED = (*KEY, "image", "sha256", "found", "bound", "success", "gradients", "seconds")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def key_of(row: dict) -> tuple:
    return tuple(row[name] for name in KEY)


class Store:
    """The folder, held for this process alone: `with Store(folder) as store:`.

    `study`: what is on disk, or None. `rows`: by key, in the order of the file. `said`: what was wrong with an earlier
    run's files, a line each.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.rows: dict[tuple, dict] = {}
        self.said: list[str] = []
        self.study: Study | None = None
        self._lock = None
        self._made = False

    def __enter__(self) -> Store:
        self._made = not self.folder.exists()
        with self._room():
            (self.folder / IMAGES).mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder / "lock")
        try:
            about = self.folder / ABOUT
            if about.exists():
                self.study = from_json(about.read_text(encoding="utf-8"), str(about))
            elif has_rows(self.folder):
                raise StudyError(f"{self.folder} has rows but no {ABOUT}; restore it, or begin in another folder")
            self._read()
        except BaseException:
            self.__exit__()
            raise
        return self

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Turns a full disk into a message that says what to do."""
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise StudyError(
                f"no space left at {self.folder}. The {len(self.rows)} finished images are kept; make room and run the"
                " same command again"
            ) from None

    def __exit__(self, *exc) -> None:
        if self._lock is not None:
            if (self.folder / PACKED).exists():
                with suppress(OSError):  # a full disk: the rows are there, and packed next time
                    self.pack()
            self._lock.release()
            self._lock = None
        if self._made and self.study is None:  # refused before anything began
            self._made = False
            with suppress(OSError):  # somebody else's file is in it
                (self.folder / "lock").unlink(missing_ok=True)
                (self.folder / IMAGES).rmdir()
                self.folder.rmdir()

    # --- reading

    def _read(self) -> None:
        data = rows_data(self.folder)
        if not data:
            return
        whole, _, torn = data.rpartition(b"\n")
        bad: list[tuple[str, bytes]] = []
        if torn:
            bad.append((f"{ROWS} ends in a torn line ({len(torn)} bytes)", torn))
        for number, line in enumerate(whole.split(b"\n"), 1) if whole else ():
            row, wrong = _row(line)
            if row is None:
                bad.append((f"{ROWS}, line {number}: {wrong}", line))
            elif key_of(row) in self.rows:
                bad.append((f"{ROWS}, line {number}: the same image as an earlier line", line))
            else:
                self.rows[key_of(row)] = row
        if bad:
            self._reject(bad)

    def check_images(self, progress: Iterable | None = None, without_pictures: bool = False) -> int:
        """Rows whose picture is gone or is not the one that was written are taken out, named and counted.

        without_pictures: where no picture is, its row stays; returns how many such rows there are.
        """
        rows = list(self.rows.items())
        bad, absent = [], 0
        for key, row in rows if progress is None else _with(progress, rows):
            if without_pictures and not self.has_picture(row):
                absent += 1
                continue
            wrong = self._wrong_image(row)
            if wrong:
                bad.append((f"{row['image']}: {wrong}", json.dumps(row).encode()))
                del self.rows[key]
        if bad:
            self._reject(bad)
        return absent

    def has_picture(self, row: dict) -> bool:
        return (self.folder / row["image"]).is_file()

    def picture(self, row: dict) -> bytes:
        """The PNG of a row. Raises StudyError where it is not there, as in a folder without its pictures."""
        try:
            return (self.folder / row["image"]).read_bytes()
        except OSError as error:
            raise StudyError(
                f"the picture {row['image']} of {self.folder} cannot be read ({error.strerror}), and this needs it; put"
                " it back, or make it again: dev.py study --out, without --without-pictures"
            ) from None

    def _wrong_image(self, row: dict) -> str:
        try:
            data = (self.folder / row["image"]).read_bytes()
        except OSError as error:
            return f"the picture cannot be read ({error.strerror})"
        return "" if _digest(data) == row["sha256"] else "the picture is not the one that was written"

    def drop_partial(self, batches: Iterable[Batch]) -> None:
        """Rows of batches that are not whole go, so that a batch is only ever made as one."""
        bad = []
        for batch in batches:
            there = [key for key in batch.keys if key in self.rows]
            if 0 < len(there) < len(batch.keys):
                bad += [
                    (f"{self.rows[key]['image']}: others of its batch are missing", json.dumps(self.rows[key]).encode())
                    for key in there
                ]
                for key in there:
                    del self.rows[key]
        if bad:
            self._reject(bad)

    def _reject(self, bad: Sequence[tuple[str, bytes]]) -> None:
        """Moves lines into rejected.jsonl, with the reason, and writes rows.jsonl again without them."""
        self.said += [f"{reason}; it is made again" for reason, _ in bad]
        lines = (json.dumps({"why": reason, "line": line.decode(errors="replace")}) for reason, line in bad)
        with self._room():
            _append(self.folder / REJECTED, ("\n".join(lines) + "\n").encode())
            _replace(self.folder / ROWS, b"".join(map(_line, self.rows.values())))

    # --- writing

    def begin(self, study: Study) -> None:
        with self._room():
            _replace(self.folder / ABOUT, to_json(study).encode())
        self.study = study

    def add(self, batch: Batch, rows: Sequence[dict], pictures: Sequence[bytes]) -> None:
        """A finished batch. rows: without key and image, which stand in the batch."""
        if len(rows) != len(batch.seeds) or len(pictures) != len(batch.seeds):
            raise StudyError(f"{batch}: {len(pictures)} pictures and {len(rows)} rows for {len(batch.seeds)} seeds")
        made = []
        with self._room():
            for key, row, data in zip(batch.keys, rows, pictures, strict=True):
                path = self.folder / image_path(key)
                path.parent.mkdir(parents=True, exist_ok=True)
                _replace(path, data)
                about = dict(zip(KEY, key, strict=True))
                subjects = {"subjects": list(batch.case.subjects), "colours": list(batch.case.colours)}
                image = path.relative_to(self.folder).as_posix()
                made.append({**about, **subjects, "image": image, "sha256": _digest(data), **row})
            self._write(made)
        self.rows |= {key_of(row): row for row in made}

    def take(self, other: Store, batches: Iterable[Batch]) -> str:
        """Those of the batches that another folder has whole and this one has not, with what pictures there are; says
        what became of the other's images."""
        taken = known = differ = absent = 0
        for batch in batches:
            if not all(key in other.rows for key in batch.keys):
                continue
            theirs = [other.rows[key] for key in batch.keys]
            if all(key in self.rows for key in batch.keys):
                known += len(theirs)
                differ += sum(self.rows[key]["found"] != other.rows[key]["found"] for key in batch.keys)
                continue
            self.drop_partial([batch])
            absent += self._copy(other, theirs)
            taken += len(theirs)
        parts = [
            (taken, "images taken"),
            (absent, "of them without their pictures"),
            (known, "were there"),
            (differ, "of these with another verdict, which stays"),
            (len(other.rows) - taken - known, "left, of batches that are not whole"),
        ]
        return "; ".join(f"{count} {what}" for count, what in parts if count or what == "images taken")

    def _copy(self, other: Store, rows: Sequence[dict]) -> int:
        """A batch of another folder; how many of its pictures are not there."""
        absent, made = 0, []
        with self._room():
            for row in rows:
                image = image_path(key_of(row))  # whatever a folder from elsewhere says
                made.append({**row, "image": image})
                if not other.has_picture(row):
                    absent += 1
                    continue
                path = self.folder / image
                path.parent.mkdir(parents=True, exist_ok=True)
                _replace(path, other.picture(row))
            self._write(made)
        self.rows |= {key_of(row): row for row in made}
        return absent

    def _write(self, rows: Sequence[dict]) -> None:
        if not (self.folder / ROWS).exists():
            _replace(self.folder / ROWS, rows_data(self.folder))
        _append(self.folder / ROWS, b"".join(map(_line, rows)))

    def pack(self) -> None:
        """From now on this folder keeps its rows packed."""
        if (self.folder / ROWS).exists():
            _replace(self.folder / PACKED, packed((self.folder / ROWS).read_bytes()))
            (self.folder / ROWS).unlink()

    def replace_rows(self, rows: Sequence[dict]) -> None:
        """The same images with other scores."""
        with self._room():
            _replace(self.folder / ROWS, b"".join(map(_line, rows)))
        self.rows = {key_of(row): row for row in rows}

    def write(self, name: str, text: str) -> Path:
        """A result beside the rows, whole or not at all."""
        with self._room():
            _replace(self.folder / name, text.encode())
        return self.folder / name


def image_path(key: tuple) -> str:
    """Readable, and different for different keys: the digest tells apart what the readable part may not."""
    model, method, step, name, split, prompt, seed = key
    parts = (model, f"{method}@{step}" if step else method, f"{name} {split}".strip(), f"{prompt}_{seed}")
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:8]
    return "/".join([IMAGES, *(_plain(part) for part in parts[:3]), f"{_plain(parts[3])}_{digest}.png"])


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9@+.-]+", "-", text).strip("-.")[:80] or "x"


def _row(line: bytes) -> tuple[dict | None, str]:
    try:
        row = json.loads(line)
    except ValueError:
        return None, "not JSON"
    if not isinstance(row, dict):
        return None, "not an object"
    missing = [name for name in NEEDED if name not in row]
    if missing:
        return None, f"without {', '.join(missing)}"
    try:
        hash(key_of(row))
    except TypeError:
        return None, "its key is not of texts and numbers"
    return row, ""


def _line(row: dict) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _with(progress, items):
    for item in items:
        yield item
        progress.update(1)


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _append(path: Path, data: bytes) -> None:
    """One write; what of it did not fit is taken back."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
    try:
        before = os.fstat(handle).st_size
        try:
            if os.write(handle, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, before)
            raise
    finally:
        os.close(handle)


def _locked(path: Path) -> FileLock:
    """Held until the process ends, however it ends."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyError(f"another process is working on {path.parent}; wait for it, or stop it") from None
    return lock

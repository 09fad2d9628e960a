"""Names that a workflow brings, as files of ComfyUI's folders: everything it names goes through `below`."""

from __future__ import annotations

import gzip
import os
import zlib
from itertools import islice
from pathlib import Path, PureWindowsPath

import folder_paths

_LONGEST = 1024  # characters of a name, and bytes of one part of it: what file systems take
_LONGEST_PART = 255
MOST_BYTES = 64 * 10**6  # of a text that a workflow names
# What Windows opens as a device in any folder, whatever the ending.
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{kind}{n}" for kind in ("COM", "LPT") for n in "123456789¹²³")}


def below(folder: str | Path, name: str) -> Path | None:
    """The path of this name in a folder; None for one that leads out of it or that no file can have.

    It is judged by its letters alone, on every system as on all of them: nothing is asked of the disk or the network
    before. Links that lie in the folder are their owner's, and may lead elsewhere.
    """
    name = name.strip()
    windows = PureWindowsPath(name)  # knows both separators, drives and network shares
    if not name or len(name) > _LONGEST or windows.drive or windows.root or not all(map(_usable, windows.parts)):
        return None
    root = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(root, *windows.parts))
    return Path(path) if path.startswith(os.path.join(root, "")) or path == root else None


def _usable(part: str) -> bool:
    """Whether a part of a name means the same everywhere: no control characters, streams or devices."""
    plain = part.isprintable() and not any(one in '<>:"|?*' for one in part)
    return plain and len(part.encode()) <= _LONGEST_PART and part.split(".")[0].rstrip().upper() not in _DEVICES


def folders_of(key: str) -> list[Path]:
    """ComfyUI's folders of this kind; none where this ComfyUI knows no such kind."""
    return [Path(one) for one in folder_paths.folder_names_and_paths.get(key, ([],))[0]]


def text_of(path: Path, what: str) -> str:
    """A file as text, unpacked where it is gzip. Raises ValueError for one that is larger than any `what` is, or no
    text; OSError."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"{path.name} has more than {MOST_BYTES // 10**6} MB, which is no {what}")
        return data.decode("utf-8-sig")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error):
        raise ValueError(f"{path.name} is not a text, so it is no {what}") from None


def state_of(path: Path | None) -> tuple[int, int]:
    """Changes when the file does; zeros where there is none."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        found = None
    return (found.st_mtime_ns, found.st_size) if found is not None else (0, 0)


def input_state(name: str | None) -> tuple[int, int]:
    """The same of the file of this name in the input folder."""
    return state_of(below(folder_paths.get_input_directory(), name or ""))


def some_names(folder: str | Path, endings: tuple[str, ...], most: int = 10) -> str:
    """A few of the names in a folder and those in it, for a message; however much lies there, little is looked at."""
    names: list[str] = []
    for place, _, files in islice(os.walk(folder), 100):
        names += [os.path.relpath(os.path.join(place, one), folder) for one in files if one.endswith(endings)]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + more if names else "none"

"""Scores of a study, from a node's text or from a file in ComfyUI's output or input folder."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import folder_paths

from ..errors import GsnError
from ..files import below

_ROWS = ("rows.jsonl", "rows.jsonl.gz")  # what a study calls them; the first counts
_KINDS = (".jsonl", ".json", ".csv", ".gz")


def scores_text(origin: str, scores: str, file: str) -> str:
    """The file's text, or where no file is named the given one. A folder stands for a study's rows in it, or for the
    one file that may be some."""
    if not file.strip():
        return scores
    path = _path(origin, file)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            return file.read()
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error):
        raise GsnError(f"{origin}: {path} is not a text; scores are JSON, JSONL or CSV, perhaps in gzip") from None


def scores_state(file: str) -> float:
    """Changes when the file does."""
    found = [path for path in _places(file) if path.exists()]
    inside = [one for path in found for one in (sorted(path.iterdir()) if path.is_dir() else (path,))]
    return max((one.stat().st_mtime for one in inside), default=0.0) if file.strip() else 0.0


def _places(file: str) -> list[Path]:
    """Where it may be: below the output folder, then below the input folder."""
    folders = (folder_paths.get_output_directory(), folder_paths.get_input_directory())
    return [path for folder in folders if (path := below(folder, file)) is not None]


def _path(origin: str, file: str) -> Path:
    places = _places(file)
    folders = f"{folder_paths.get_output_directory()} or {folder_paths.get_input_directory()}"
    if not places:
        raise GsnError(f"{origin}: '{file}' lies outside ComfyUI's output and input folders; copy it to {folders}")
    found = next((path for path in places if path.exists()), None)
    if found is None:
        raise GsnError(f"{origin}: there is no '{file}' in {folders}; name the study's rows file, or its folder")
    if found.is_file():
        return found
    rows = [path for path in sorted(found.iterdir()) if path.suffix in _KINDS]
    rows = [found / name for name in _ROWS if (found / name) in rows][:1] or rows
    if len(rows) != 1:
        has = ", ".join(path.name for path in rows) or "none"
        raise GsnError(f"{origin}: the folder {found} should have one file of rows, but has: {has}; name the file")
    return rows[0]

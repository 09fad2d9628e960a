"""Scores of a study, from a node's text or from a file in ComfyUI's output or input folder."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import folder_paths

from ..errors import GsnError, named
from ..files import below, some_names, state_of, text_of

_ROWS = ("rows.jsonl", "rows.jsonl.gz")  # what a study calls them; the first counts
_KINDS = (".jsonl", ".json", ".csv", ".gz")


def scores_text(origin: str, scores: str, file: str) -> str:
    """The file's text, or where no file is named the given one. A folder stands for a study's rows in it, or for the
    one file that may be some."""
    if not file.strip():
        return scores
    path = _path(origin, file)
    return named(origin, text_of, path, "table of scores: JSON, JSONL or CSV, perhaps in gzip")


def scores_state(file: str) -> tuple[int, int]:
    """Changes when the file does."""
    found = next((path for path in _places(file) if path.exists()), None)
    return max(map(state_of, (found, *_rows_in(found))))


def _places(file: str) -> list[Path]:
    """Where it may be: below the output folder, then below the input folder."""
    folders = (folder_paths.get_output_directory(), folder_paths.get_input_directory())
    return [path for folder in folders if (path := below(folder, file)) is not None]


def _rows_in(found: Path | None) -> list[Path]:
    """Of a study's folder its rows; of another what may be some, two of each kind at most."""
    if found is None or not found.is_dir():
        return []
    own = [found / name for name in _ROWS if (found / name).is_file()][:1]
    return own or [path for kind in _KINDS for path in islice(found.glob(f"*{kind}"), 2)]


def _path(origin: str, file: str) -> Path:
    places = _places(file)
    folders = f"{folder_paths.get_output_directory()} or {folder_paths.get_input_directory()}"
    if not places:
        raise GsnError(
            f"{origin}: '{file[:200]}' lies outside ComfyUI's output and input folders, or no file can have that name;"
            f" copy the file to {folders} and write its name"
        )
    found = next((path for path in places if path.exists()), None)
    if found is None:
        raise GsnError(f"{origin}: there is no '{file}' in {folders}; name the study's rows file, or its folder")
    if found.is_file():
        return found
    rows = _rows_in(found)
    if len(rows) != 1:
        has = some_names(found, _KINDS)
        raise GsnError(f"{origin}: the folder {found} should have one file of rows, but has: {has}; name the file")
    return rows[0]

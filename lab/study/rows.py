"""A study's rows on disk: `rows.jsonl` while it is made, `rows.jsonl.gz` where they are kept, as in git.

Rows can only be appended to the first, and take a ninth of its room in the second. Once packed, a folder stays so: a
store that writes unpacks beside the packed file, and packs again when it closes. Where both are there, because a
process was killed in between, the first has all that the second has, and is taken.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

from .study import StudyError

ROWS, PACKED = "rows.jsonl", "rows.jsonl.gz"


def has_rows(folder: Path) -> bool:
    return (folder / ROWS).exists() or (folder / PACKED).exists()


def rows_data(folder: Path) -> bytes:
    """The lines of either file; nothing where there is none. Raises StudyError for a damaged one."""
    if (folder / ROWS).exists():
        return (folder / ROWS).read_bytes()
    path = folder / PACKED
    try:
        return gzip.decompress(path.read_bytes()) if path.exists() else b""
    except (OSError, EOFError, zlib.error) as error:
        raise StudyError(f"{path} cannot be read ({error}); restore it") from None


def packed(data: bytes) -> bytes:
    """The same bytes of the same rows, whoever packs them and when."""
    out = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, out, mtime=0) as file:
        file.write(data)
    return out.getvalue()

"""Names that a person writes, as files of ComfyUI's folders."""

from __future__ import annotations

import os
from pathlib import Path


def below(folder: str | Path, name: str) -> Path | None:
    """The path of this name in a folder, None where the name leads out of it. Links inside the folder may."""
    root = Path(folder).resolve()
    path = Path(os.path.normpath(root / name.strip()))
    return path if path.is_relative_to(root) else None

"""Which ComfyUI this pack runs on, said before anything else of it is imported."""

from __future__ import annotations

import re

OLDEST = "0.24"


def check_version() -> None:
    """Raise ImportError in one sentence on an older one, where half of the nodes would be there and half would not."""
    try:
        from comfyui_version import __version__ as version
    except ImportError:
        version = "older than that"
    if _numbers(version) < _numbers(OLDEST):
        raise ImportError(f"gsn-nodes needs ComfyUI {OLDEST} or newer, and this is {version}: update ComfyUI")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))

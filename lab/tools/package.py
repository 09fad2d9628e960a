"""The pack as the Comfy registry publishes it: every tracked file that `.comfyignore` does not name."""

import shutil
import subprocess
from pathlib import Path

from .environment import ROOT


def tracked(*options):
    """Paths from the root, of files that git knows and that are there, as they are now, committed or not."""
    command = ["git", "-c", "core.quotePath=off", "ls-files", "-z", "--cached", *options]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [Path(name) for name in names if name and (ROOT / name).is_file()]


def packaged():
    """Those of the package."""
    left_out = set(tracked("--ignored", "--exclude-from=.comfyignore"))
    return [path for path in tracked() if path not in left_out]


def copy_package(folder):
    """The package in a new folder, as an installation from the registry lays it out."""
    for path in packaged():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / path)
    return folder

"""Brings ComfyUI's own classes into a training script: its folder first on ``sys.path``, CPU, no argument parsing.

Import this before anything from ``comfy`` or ``gsn``. The repository root must stay off ``sys.path``: it has a folder
``nodes``, and ComfyUI a module of that name. So ``gsn`` is registered from its file.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("GSN_COMFYUI") or sorted((ROOT / ".comfyui").glob("[0-9]*"))[-1])
DEMO = ROOT / "demo"

sys.path[:] = [str(COMFYUI)] + [entry for entry in sys.path if Path(entry or ".").resolve() not in (ROOT, COMFYUI)]

_spec = importlib.util.spec_from_file_location("gsn", ROOT / "gsn/__init__.py")
sys.modules["gsn"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["gsn"])

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing(False)

from comfy.cli_args import args  # noqa: E402

args.cpu = True

import torch  # noqa: E402

torch.set_num_threads(int(os.environ.get("GSN_TRAIN_THREADS", "2")))

from gsn.host.bfloat16 import computes_in_bfloat16  # noqa: E402

BFLOAT16 = computes_in_bfloat16()


def fast() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=BFLOAT16)

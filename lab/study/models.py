"""The models of a study and how each is sampled: the demo models as they were validated, or a checkpoint.

What a demo model wants stands in its own file's metadata, where its training wrote it; the table below is for what
it does not say.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, fields
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "demo"
_UNET = {"steps": 50, "cfg": 3.0, "sampler": "ddpm", "scheduler": "ddim_uniform"}
_DEFAULTS = {"unet": _UNET, "mmdit": _UNET | {"steps": 28, "sampler": "euler", "scheduler": "simple"}}


@dataclass(frozen=True)
class Model:
    """`checkpoint`: a file of ComfyUI's checkpoints folder; "" for a demo model. `dtype`: of ModelComputeDtype."""

    name: str
    checkpoint: str = ""
    width: int = 512
    height: int = 512
    steps: int = 50
    cfg: float = 7.5
    sampler: str = "ddpm"
    scheduler: str = "ddim_uniform"
    negative: str = ""
    dtype: str = "default"


def model_from(content: dict) -> Model:
    """Raises TypeError on keys that a model does not have."""
    return Model(**content)


def demo_models() -> list[str]:
    """The demo models that are there, the default first."""
    found = [path.stem.removeprefix("gsn_demo_") for path in DEMO.glob("gsn_demo_*.safetensors")]
    return sorted((name for name in found if "threshold" not in _metadata(_file(name))), key=lambda n: (n != "unet", n))


def demo_model(name: str) -> Model:
    """A demo model with its own settings, in the faster of the two types that it was measured in."""
    about = _metadata(_file(name))
    said = json.loads(about.get("preset", "{}")) | json.loads(about.get("sampling", "{}"))
    known = {field.name for field in fields(Model)}
    settings = _DEFAULTS.get(name, _UNET) | {key: value for key, value in said.items() if key in known - {"name"}}
    return Model(name, width=128, height=128, dtype=_faster_dtype(), **settings)


def _faster_dtype() -> str:
    """Of this machine; said by name, so that a study goes on in it on another one."""
    import torch

    from gsn.host.bfloat16 import computes_in_bfloat16

    return "bf16" if torch.accelerator.is_available() or computes_in_bfloat16() else "fp32"


def named_model(name: str) -> Model:
    """A demo model by its name, else a checkpoint."""
    return demo_model(name) if name in demo_models() else Model(Path(name).stem, checkpoint=name)


def _file(name: str) -> Path:
    return DEMO / f"gsn_demo_{name}.safetensors"


def _metadata(path: Path) -> dict:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length)).get("__metadata__") or {}

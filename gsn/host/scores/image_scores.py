"""Scoring models in ComfyUI's models folder, loaded for one call and let go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import comfy.model_management as mm
import folder_paths
from torch import Tensor

from ...metrics.aesthetic import AESTHETIC
from ...metrics.caption import BLIP
from ...metrics.clip_encoder import CLIP
from ...metrics.image_scores import ImageScores, models_for, score_images
from ..errors import GsnError, named
from ..files import below, folders_of

FOLDER = "gsn_metrics"  # below models/, and its name in extra_model_paths.yaml


def scores_of(
    origin: str, pictures: Tensor, prompt: str, objects: Sequence[str], columns: Sequence[str],
    clip: str = "", blip: str = "", aesthetic: str = "",
) -> ImageScores:  # fmt: skip
    """The columns of these pictures; the last three name folders other than the usual. All models are looked for
    before the first is loaded."""
    loaders, names = models_for(columns), {CLIP: clip, BLIP: blip, AESTHETIC: aesthetic}
    folders = {known: _folder(origin, names[known].strip() or known.folder_name) for known in loaders}
    for known, folder in folders.items():
        named(origin, known.check, folder)
    device = mm.get_torch_device()
    mm.free_memory(1.5 * sum(_size(folder) for folder in folders.values()), device)
    loaded = {known: named(origin, loader.load, folders[known], device) for known, loader in loaders.items()}
    mm.throw_exception_if_processing_interrupted()
    return score_images(
        pictures, prompt, objects, loaded.get(CLIP), loaded.get(BLIP), loaded.get(AESTHETIC), columns
    )  # fmt: skip


def _folder(origin: str, name: str) -> Path:
    """The first folder of this name, or where it should be."""
    roots = [one.resolve() for one in (*folders_of(FOLDER), Path(folder_paths.models_dir) / FOLDER)]
    for root in roots:
        path = below(root, name)
        if path is None:
            raise GsnError(f"{origin}: the folder '{name}' lies outside {root}; give the name of a folder in it")
        if path.is_dir():
            return path
    return roots[-1] / name


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))

"""Preset files in ComfyUI's input folder, and which presets suit a MODEL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths

from ..methods.model_presets import MODEL_PRESETS, ModelPreset
from ..methods.preset_file import from_json
from ..methods.presets import PRESETS, Preset, describe, refuse_other_models
from ..methods.steps import Schedule
from ..methods.sweep import Variant, read_variants
from .errors import GsnError, named
from .families import family_of
from .files import below, some_names, text_of


def model_preset(model: Any, origin: str) -> ModelPreset:
    """What is known of a MODEL. Raises GsnError for a family that is not carried."""
    return MODEL_PRESETS[family_of(model.model, origin).preset_name(model.model)]


def noise_for(origin: str, name: str, preset: Preset, model: Any | None) -> str:
    """Whose noise levels a preset for this MODEL names; "" where there is no telling. Refuses those of other models."""
    if model is None:
        return ""
    known = model_preset(model, origin)
    named(origin, refuse_other_models, name, preset.noise, preset.family, known)
    return known.noise if known.noise in ("ddpm", "flow") else ""


def described(origin: str, model: Any, name: str, preset: Preset, schedule: Schedule | None = None) -> str:
    """What a preset will do with this MODEL, in words; refuses those of other models. schedule: see `describe`."""
    known = model_preset(model, origin)
    named(origin, refuse_other_models, name, preset.noise, preset.family, known)
    return named(origin, describe, name, preset, known, schedule)


def chosen_preset(origin: str, name: str, file: str) -> tuple[str, Preset]:
    """The file's preset, or where no file is named the one of this name; with what to call it."""
    if not file.strip():
        return name, PRESETS[name]
    path = _path(origin, file)
    try:
        return path.name, from_json(text_of(path, "preset"))
    except ValueError as error:
        raise GsnError(f"{origin}: the preset file '{file}': {error}") from None


def swept(origin: str, model: Any, text: str) -> list[Variant]:
    """The methods of a list, each fit for this MODEL."""
    known = model_preset(model, origin)
    try:
        variants = read_variants(text, file=lambda name: chosen_preset(origin, "", name)[1])
        for one in variants:
            refuse_other_models(one.method, one.preset.noise, one.preset.family, known)
    except GsnError:
        raise
    except ValueError as error:
        raise GsnError(f"{origin}: {error}") from None
    if not variants:
        raise GsnError(f"{origin}: no method is listed; write one on each line, for example: plain")
    return variants


def save_preset(origin: str, file: str, text: str) -> str:
    """Write a preset where `chosen_preset` finds it; nothing for an empty name. What was done, in words."""
    if not file.strip():
        return ""
    path = _inside(origin, file)
    if path.suffix != ".json":
        raise GsnError(f"{origin}: a preset is saved as a JSON file, but the name is '{file}'; end it with .json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return f"saved as {path}: write {file.strip()} into 'file' of GSNPreset"


def _inside(origin: str, file: str) -> Path:
    folder = folder_paths.get_input_directory()
    path = below(folder, file)
    if path is None:
        raise GsnError(
            f"{origin}: the preset file '{file[:200]}' lies outside ComfyUI's input folder, or no file can have that"
            f" name; put the file into {folder} and write its name, such as presets/mine.json"
        )
    return path


def _path(origin: str, file: str) -> Path:
    path = _inside(origin, file)
    if not path.is_file():
        raise GsnError(
            f"{origin}: there is no preset file '{file}' in ComfyUI's input folder; it has"
            f" {some_names(folder_paths.get_input_directory(), ('.json',))}"
        )
    return path

"""Scoring models from folders of the user's, in Hugging Face's layout. Nothing is ever downloaded.

transformers is imported when a model is loaded, never with the pack.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")
_PIXELS = ("preprocessor_config.json", "processor_config.json")


class ModelMissing(ValueError):
    """A folder lacks a model; the message says which files to put where."""


@dataclass(frozen=True)
class LocalModel:
    """what: for people; source: its name on huggingface.co; kind: its config's model_type; texts: the tokeniser's file
    or its alternatives, () for a model that reads none."""

    what: str
    source: str
    kind: str
    texts: tuple[str, ...] = ()

    @property
    def folder_name(self) -> str:
        return self.source.split("/")[-1]

    def check(self, folder: Path) -> None:
        """Raise ModelMissing where a file is missing, ValueError where the folder holds another model."""
        if (folder / "config.json").is_file():
            self._check_kind(folder)
        needed = [("config.json",), _WEIGHTS, _PIXELS, *([self.texts] if self.texts else [])]
        lacking = [" or ".join(names[:2]) for names in needed if not any((folder / name).is_file() for name in names)]
        if lacking:
            raise ModelMissing(
                f"{self.what} is missing: put {', '.join(lacking)} of {self.source} (huggingface.co) into {folder};"
                " nothing is downloaded by itself"
            )

    def _check_kind(self, folder: Path) -> None:
        try:
            found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        except (ValueError, AttributeError):
            raise ValueError(f"{folder / 'config.json'} is damaged; copy it again from {self.source}") from None
        if found != self.kind:
            raise ValueError(
                f"{folder} holds a model of the kind '{found}', but {self.what} is of the kind '{self.kind}', as"
                f" {self.source}"
            )

    def load(self, model_class: Any, folder: Path, device: Any) -> Any:
        """The folder's model in float32, for inference. Raises ValueError where weights are missing or unreadable."""
        try:
            with offline():
                model, told = model_class.from_pretrained(folder, local_files_only=True, output_loading_info=True)
        except Exception as error:  # transformers, safetensors and torch each have their own
            raise ValueError(f"{folder} cannot be loaded as {self.what}: {error}") from None
        lacking = sorted(told["missing_keys"]) + [str(key) for key in told["mismatched_keys"]]
        if lacking:
            raise ValueError(f"the weights in {folder} lack {lacking[0]}; {self.what} is that of {self.source}")
        return model.float().eval().requires_grad_(False).to(device)

    def load_processor(self, processor_class: Any, folder: Path) -> Any:
        try:
            with offline():
                return processor_class.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            raise ValueError(f"{folder}: its tokeniser or image settings cannot be loaded: {error}") from None


@contextmanager
def offline() -> Iterator[None]:
    """Hugging Face's libraries ask no server inside, whatever the environment says."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def pixel_batches(processor: Any, pictures: Tensor, at_once: int, device: Any) -> Iterator[Tensor]:
    """IMAGE [B, H, W, 3 or 4] in 0..1 as a model's own pixels, [at most at_once, 3, h, w] each."""
    for part in pictures.split(at_once):
        yield processor(images=as_images(part), return_tensors="pt")["pixel_values"].to(device)


def as_images(pictures: Tensor) -> list[Image.Image]:
    """IMAGE [B, H, W, 3 or 4] in 0..1 as 8-bit pictures, cut off as SaveImage does: the pixels of the file."""
    eight_bit = pictures[..., :3].detach().float().cpu().clamp(0, 1) * 255
    return [Image.fromarray(one) for one in eight_bit.numpy().astype(np.uint8)]

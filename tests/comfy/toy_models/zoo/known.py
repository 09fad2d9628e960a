"""ComfyUI's model classes by name; None for one that the ComfyUI at hand lacks, whose toys are then absent."""

import comfy.supported_models


def __getattr__(name: str):
    return getattr(comfy.supported_models, name, None)

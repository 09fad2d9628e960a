"""Models that are known and not carried, each with the reason that the user is told."""

from __future__ import annotations

from .family import is_kind

_VIDEO = "it makes video, and this pack works on still pictures"
_NO_TEXT = "it does not draw from a prompt"
_UPSCALER = "it refines or enlarges a picture whose content is already decided"
_AUDIO = "it makes sound"
_THREE_D = "it makes 3-D shapes"

REASONS: dict[str, tuple[str, ...]] = {
    _VIDEO: (
        "SVD_img2vid", "SV3D_u", "SV3D_p", "SeedVR2", "GenmoMochi", "LTXV", "LTXAV", "HunyuanVideo",
        "HunyuanVideoI2V", "HunyuanVideoSkyreelsI2V", "HunyuanVideo15", "HunyuanVideo15_SR_Distilled", "CosmosVideo",
        "WAN21", "WAN21_CausalAR", "WAN21_Vace", "WAN21_Camera", "WAN21_HuMo", "WAN22_Animate", "WAN22_S2V", "WAN22",
        "WAN21_FlowRVS", "WAN21_SCAIL", "WAN21_SCAIL2", "WAN22_WanDancer", "WAN_Animate2", "MiniMaxH3", "Kandinsky5",
        "CogVideoX",
    ),
    "its text and picture are one stream of a language model whose columns are not known here": ("HiDreamO1",),
    "it was not tried here": ("PiD",),
    "it draws in two stages with its own text layout": ("StableCascade_C", "StableCascade_B"),
    _NO_TEXT: ("Stable_Zero123", "Lotus", "RT_DETR_v4", "DepthAnything3", "SAM3"),
    _UPSCALER: ("SDXLRefiner", "SD_X4Upscaler", "HunyuanImage21Refiner"),
    _AUDIO: ("StableAudio1", "StableAudio3", "ACEStep", "ACEStep15", "MiniMaxMusic3"),
    _THREE_D: ("Hunyuan3Dv2", "Hunyuan3Dv2_1", "TripoSplat", "Trellis2"),
}  # fmt: skip


def refusal(model: object) -> str | None:
    """Why a model of this very class is not carried; None where nothing is known of it."""
    name = type(model).__name__
    if is_kind(model, "CosmosPredict2"):
        return _VIDEO  # its image-to-video form; the other one is a family
    return next((reason for reason, names in REASONS.items() if name in names), None)

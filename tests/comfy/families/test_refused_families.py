"""Every kind of model that ComfyUI has is either carried or refused with a reason."""

import inspect
import warnings
from dataclasses import replace

import pytest

from lab.tools.environment import COMFYUI, comfyui_version

from .. import zoo_graphs as zoo
from ..conftest import COMFYUI as COMFYUI_FOLDER
from ..conftest import ROOT

NEWER = {"WAN_Animate2", "Trellis2", "MiniMaxMusic3"}  # than the ComfyUI that this pack is made with


def kinds(comfy):
    import comfy.model_base as known

    return {
        name: kind
        for name, kind in vars(known).items()
        if inspect.isclass(kind) and issubclass(kind, known.BaseModel) and kind.__module__ == known.__name__
    }


def carried(comfy):
    unet, *others = comfy.pack("gsn.host.families").FAMILIES
    return {*unet.kinds} | {kind for family in others for kind, _ in family.kinds}


def test_no_kind_is_forgotten(comfy):
    reasons = comfy.pack("gsn.host.families.refused").REASONS
    refused = [name for names in reasons.values() for name in names]
    assert len(refused) == len(set(refused))
    here, judged = set(kinds(comfy)), carried(comfy) | set(refused)
    if comfyui_version(COMFYUI_FOLDER) == COMFYUI:  # the one that this pack is made with
        assert here == judged - NEWER
    elif here - judged:
        warnings.warn(f"new, not yet judged: {', '.join(sorted(here - judged))}", stacklevel=1)


def test_each_is_refused_by_name_with_its_reason(comfy, record_property):
    families = comfy.pack("gsn.host.families")
    for reason, names in comfy.pack("gsn.host.families.refused").REASONS.items():
        for name in (one for one in names if one in kinds(comfy)):
            model = kinds(comfy)[name].__new__(kinds(comfy)[name])
            with pytest.raises(ValueError, match=name) as refused:
                families.family_of(model, "SingleStepIterRef")
            assert reason in str(refused.value) and "Flux" in str(refused.value)
            record_property(name, reason)


@pytest.mark.parametrize("name", ["SD_X4Upscaler", "LotusD", "SDXLRefiner", "Stable_Zero123", "SVD_img2vid"])
def test_a_unet_of_another_trade_is_refused(comfy, name):
    """Their configurations derive from SD 2's or SDXL's, and their network is the very same class."""
    import comfy.supported_models as configs
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    kind = kinds(comfy)[name.removesuffix("D")]
    model = kind.__new__(kind)
    config = getattr(configs, name)
    parts = {"diffusion_model": UNetModel.__new__(UNetModel), "model_config": config.__new__(config)}
    model.__dict__.update(parts, model_type="EPS")
    with pytest.raises(ValueError, match=kind.__name__):
        comfy.pack("gsn.host.families").family_of(model, "SingleStepIterRef")


def test_an_unknown_one_is_told_which_are_known(comfy):
    with pytest.raises(ValueError, match="Supported: SD 1.x"):
        comfy.pack("gsn.host.families").family_of(object(), "SingleStepIterRef")


def test_readmes_settings_name_every_family_in_the_row_of_its_preset(comfy):
    presets = comfy.pack("gsn.methods.model_presets").MODEL_PRESETS
    section = (ROOT / "README.md").read_text().split("## Settings by family")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")][2:]
    levels = {name: float(cells[1]) for cells in rows for name in cells[0].split(", ")}
    unet, *others = comfy.pack("gsn.host.families").FAMILIES
    assert set(unet.title.split(" and ")[0].split(", ")) <= set(levels)
    for family in others:
        (preset,) = {presets[name] for _, name in family.kinds}
        for name in family.title.split(", "):
            assert levels[name] == pytest.approx(preset.refine_sigma, rel=1e-3), name


def unknown(comfy, monkeypatch):
    """A model of a class that a pack brought."""
    import comfy.model_base as known

    class Unknown(known.Chroma):
        pass

    model = comfy.toy.build_transformer("chroma")
    model.model.__class__ = Unknown
    return model


def video(comfy, monkeypatch):
    import comfy.supported_models as configs

    sizes = {"image_model": "wan2.1", "model_type": "t2v", "dim": 64, "ffn_dim": 64, "freq_dim": 32, "text_dim": 32}
    toy = replace(comfy.toy.TOYS["chroma"], base=configs.WAN21_T2V, config=sizes | {"num_heads": 2, "num_layers": 2})
    monkeypatch.setitem(comfy.toy.TOYS, "chroma", toy)
    return comfy.toy.build_transformer("chroma")


def cosmos_video(comfy, monkeypatch):
    """Of the same class as the text-to-image model."""
    import comfy.supported_models as configs

    toy = comfy.toy.TOYS["cosmos_predict2"]
    toy = replace(toy, base=configs.CosmosI2VPredict2, config=toy.config | {"in_channels": 17})
    monkeypatch.setitem(comfy.toy.TOYS, "chroma", toy)
    return comfy.toy.build_transformer("chroma")


@pytest.mark.parametrize(
    "make, words",
    [(unknown, ["'Unknown'", "not supported yet"]), (video, ["'WAN21'", "it makes video"]),
     (cosmos_video, ["'CosmosPredict2'", "it makes video"])],
)  # fmt: skip
def test_the_refusal_comes_before_the_first_model_call(comfy, monkeypatch, make, words):
    model = make(comfy, monkeypatch)
    monkeypatch.setattr(comfy.toy.ToyTransformer, "made", model)
    plain = zoo.graph("chroma")
    plain["out"]["inputs"]["steps"] = 1
    assert comfy.run(plain, ["out"]).check().progress, "without us ComfyUI samples it"
    result = comfy.run(zoo.graph("chroma", [zoo.refine()]), ["out"])
    assert not result.ok and not result.progress
    for word in ("SingleStepIterRef", *words, "Supported: SD 1.x", "Cosmos-Predict2 (text to image)"):
        assert word in result.error, result.error

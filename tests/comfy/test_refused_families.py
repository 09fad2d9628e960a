"""Every kind of model that ComfyUI has is either carried or refused with a reason."""

import inspect

import pytest


def kinds(comfy):
    import comfy.model_base as known

    return {
        name: kind
        for name, kind in vars(known).items()
        if inspect.isclass(kind) and issubclass(kind, known.BaseModel) and kind.__module__ == known.__name__
    }


def carried(comfy):
    families = comfy.pack("gsn.host.families").FAMILIES
    return {kind.__name__ for family in families for kind, _ in getattr(family, "kinds", ())}


UNETS = {"BaseModel", "SDXL", "SD15_instructpix2pix", "SDXL_instructpix2pix"}  # told apart by their configuration


def test_no_kind_is_forgotten(comfy):
    reasons = comfy.pack("gsn.host.families.refused").REASONS
    refused = [name for names in reasons.values() for name in names]
    assert len(refused) == len(set(refused))
    assert set(kinds(comfy)) == carried(comfy) | set(refused) | UNETS


def test_each_is_refused_by_name_with_its_reason(comfy):
    families = comfy.pack("gsn.host.families")
    for reason, names in comfy.pack("gsn.host.families.refused").REASONS.items():
        for name in names:
            model = kinds(comfy)[name].__new__(kinds(comfy)[name])
            with pytest.raises(ValueError, match=name) as refused:
                families.family_of(model, "SingleStepIterRef")
            assert reason in str(refused.value) and "Flux" in str(refused.value)


def test_an_unknown_one_is_told_which_are_known(comfy):
    with pytest.raises(ValueError, match="Supported: SD 1.x"):
        comfy.pack("gsn.host.families").family_of(object(), "SingleStepIterRef")

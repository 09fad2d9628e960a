"""What users add to a prompt: LoRA, LoRA hooks, ControlNet, regions, time ranges. Off is exact with each."""

import pytest
import torch

from .. import zoo_graphs as zoo
from ..graphs import refine, samples
from ..graphs import sd15_graph as graph
from ..lora import lora_of, write_lora

FAMILIES = ("sd15", "sd3", "flux_dev")


@pytest.fixture(scope="module", autouse=True)
def lora_files(comfy):
    for family in FAMILIES:
        write_lora(comfy, torch.Generator().manual_seed(9), family)


def base(family="sd15", patch=()):
    if family != "flux_dev":
        return graph(list(patch), family=family, steps=6 if family == "sd15" else 4)
    nodes = zoo.graph(family, list(patch))  # this one's text is no prompt that was encoded
    nodes["4"]["inputs"] |= {"width": 128, "height": 104}
    return nodes


def _rewired(nodes, new, model=None, positive=None):
    nodes.update(new)
    if model:
        nodes["p0" if "p0" in nodes else "out"]["inputs"]["model"] = model
    if positive:
        nodes["out"]["inputs"]["positive"] = positive
    return nodes


def nothing(nodes, family="sd15"):
    return nodes


def lora(nodes, family="sd15"):
    inputs = {"model": ["1", 0], "lora_name": lora_of(family), "strength_model": 1.0}
    return _rewired(nodes, {"x": {"class_type": "LoraLoaderModelOnly", "inputs": inputs}}, model=["x", 0])


def lora_hook(nodes, family="sd15"):
    hook = {"class_type": "CreateHookLoraModelOnly", "inputs": {"lora_name": lora_of(family), "strength_model": 1.0}}
    inputs = {"cond_NEW": ["2", 0], "strength": 1.0, "set_cond_area": "default", "hooks": ["x", 0]}
    properties = {"class_type": "ConditioningSetProperties", "inputs": inputs}
    return _rewired(nodes, {"x": hook, "y": properties}, positive=["y", 0])


def control_net(nodes, family="sd15"):
    image = {"class_type": "EmptyImage", "inputs": {"width": 128, "height": 104, "batch_size": 1, "color": 0x80FF20}}
    inputs = {"positive": ["2", 0], "negative": ["3", 0], "control_net": ["x", 0], "image": ["y", 0]}
    inputs |= {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    if family != "sd15":
        inputs["vae"] = ["x", 1]
    apply = {"class_type": "ControlNetApplyAdvanced", "inputs": inputs}
    toy = {"class_type": "ToyControlNet", "inputs": {"seed": 0, "family": family}}
    return _rewired(nodes, {"x": toy, "y": image, "z": apply}, positive=["z", 0])


def _combined(nodes, family, new):
    """The region's conditioning "y" together with a plain prompt for the rest."""
    if family == "flux_dev":
        rest = {"class_type": "ToyText", "inputs": {"name": family, "seed": 3, "subjects": False}}
    else:
        rest = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a meadow"}}
    both = {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["y", 0], "conditioning_2": ["rest", 0]}}
    return _rewired(nodes, new | {"rest": rest, "z": both}, positive=["z", 0])


def area(nodes, family="sd15"):
    inputs = {"conditioning": ["2", 0], "width": 80, "height": 72, "x": 16, "y": 8, "strength": 1.0}
    return _combined(nodes, family, {"y": {"class_type": "ConditioningSetArea", "inputs": inputs}})


def mask(nodes, family="sd15"):
    half = {"class_type": "SolidMask", "inputs": {"value": 0.5, "width": 128, "height": 104}}
    inputs = {"conditioning": ["2", 0], "mask": ["x", 0], "strength": 1.0, "set_cond_area": "default"}
    return _combined(nodes, family, {"x": half, "y": {"class_type": "ConditioningSetMask", "inputs": inputs}})


def time_range(nodes, family="sd15"):
    inputs = {"conditioning": ["2", 0], "start": 0.0, "end": 0.7}
    return _combined(nodes, family, {"y": {"class_type": "ConditioningSetTimestepRange", "inputs": inputs}})


WAYS = [lora, lora_hook, control_net, area, mask, time_range]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_refinement_works_and_off_is_exact(comfy, way, family):
    session = comfy.session()

    def run(*patch, outputs=("out",), way=way):
        return session.run(way(base(family, patch), family), list(outputs))

    plain = samples(run())
    assert not torch.equal(plain, samples(run(way=nothing))), "the addition itself does nothing"
    assert torch.equal(samples(run(refine(iterations=0))), plain)
    assert torch.equal(samples(run(refine(iterations=1, lr=0.0))), plain)
    result = run(refine(), outputs=("out", ("p0", 1)))
    records = result.check()["p0", 1].trace.records
    assert all(after < before for before, after in zip(records[0].loss, records[-1].loss, strict=True))
    assert min(records[-1].update_rms) > 0
    assert all(not torch.equal(samples(result)[i], plain[i]) for i in range(2))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", [lora, lora_hook, control_net], ids=lambda way: way.__name__)
def test_the_loss_is_that_of_the_model_with_the_addition(comfy, way, family):
    """The first step's latent is the same noise, so another loss there comes from the addition alone."""
    session, losses = comfy.session(), []
    for one in (way, nothing):
        result = session.run(one(base(family, [refine(step=0, iterations=1)]), family), ["out", ("p0", 1)]).check()
        losses.append(result["p0", 1].trace.records[0].loss)
    assert all(abs(a - b) > 1e-5 for a, b in zip(*losses, strict=True))


@pytest.mark.parametrize("family", ["sd15", "flux_dev"])
def test_a_lora_that_is_applied_to_weights_as_they_are_fetched(comfy, monkeypatch, family):
    """A model that is loaded in part keeps a LoRA beside the weights: the refinement is that of the patched weights."""
    import comfy.model_patcher as known

    def pictures(*patches):
        session = comfy.session()
        return [samples(session.run(lora(base(family, patch), family), ["out"])) for patch in patches]

    (patched,) = pictures([refine(step=0)])
    load, apply, applied = known.ModelPatcher.load, known.LowVramPatch.__call__, []

    def in_part(self, device_to=None, lowvram_model_memory=0, force_patch_weights=False, full_load=False):
        if self.patches:
            lowvram_model_memory, full_load = 1, False
        return load(self, device_to, lowvram_model_memory, force_patch_weights, full_load)

    def noted(self, weight):
        applied.append(self.key)
        return apply(self, weight)

    monkeypatch.setattr(known.ModelPatcher, "load", in_part)
    monkeypatch.setattr(known.LowVramPatch, "__call__", noted)
    plain, off, refined = pictures([], [refine(step=0, lr=0.0)], [refine(step=0)])
    assert applied and torch.equal(off, plain) and not torch.equal(refined, plain)
    assert torch.allclose(refined, patched, rtol=1e-4, atol=1e-4)


def test_a_lora_and_the_same_lora_as_a_hook_refine_alike(comfy):
    both = [comfy.run(way(graph([refine(step=0)])), ["out", ("p0", 1)]) for way in (lora, lora_hook)]
    losses = [[r.loss for r in one.check()["p0", 1].trace.records] for one in both]
    assert torch.tensor(losses[0]) == pytest.approx(torch.tensor(losses[1]), rel=1e-4)


def test_an_area_has_maps_on_its_own_grid(comfy):
    whole, region = (comfy.run(way(graph([refine(step=0)])), ["out", ("p0", 1)]) for way in (nothing, area))
    kept = [one.check()["p0", 1].trace.kept[0].maps.shape[-2:] for one in (whole, region)]
    assert kept == [(4, 4), (3, 3)]


def test_a_range_that_has_ended_leaves_the_step_alone(comfy):
    late = refine(step=5, iterations=2)
    result = comfy.run(time_range(graph([late])), ["out", ("p0", 1)])
    assert "no entry with subjects is active" in " ".join(result.check()["p0", 1].trace.notes)
    assert torch.equal(samples(result), samples(comfy.run(time_range(graph()), ["out"])))

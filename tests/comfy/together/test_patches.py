"""What users already have in their graphs: every patch on a MODEL that is made for pictures, adapters, compilation.
The refinement works with each, in both orders, and off is exact.
"""

import os

import pytest
import torch

from .. import zoo_graphs as zoo
from ..graphs import capture, refine, samples
from ..lora import lora_of, write_lora
from .chain import OFF, REFINE, Patch, bare, chained, checked
from .patches import CACHES, PATCHES, WINDOWS


@pytest.mark.parametrize("patch", PATCHES, ids=str)
def test_a_patch_before_and_after_ours(comfy, patch):
    session = comfy.session()

    def picture(ours=(), first=True):
        return samples(session.run(chained(patch, ours, first), ["out"]))

    plain = picture()
    assert not torch.equal(plain, samples(session.run(bare(patch), ["out"]))), "the patch itself does nothing"
    refined = []
    for first in (True, False):
        assert torch.equal(picture(OFF, first), plain)
        refined.append(checked(session, chained(patch, [REFINE], first), plain))
    assert torch.equal(*refined), "the order of the nodes matters"
    assert torch.equal(picture(), plain), "something stayed behind"
    if patch.inside:
        losses = []
        for nodes in (chained(patch, [refine(step=0, iterations=1)]), bare(patch, [refine(step=0, iterations=1)])):
            losses.append(session.run(nodes, ["out", ("p0", 1)]).check()["p0", 1].trace.records[0].loss)
        assert all(abs(a - b) > 1e-6 for a, b in zip(*losses, strict=True)), "the loss is that of the bare model"


@pytest.mark.parametrize("patch", CACHES, ids=str)
def test_maps_are_read_without_a_cache_and_the_user_is_told(comfy, patch):
    """At step 1, where the latent is that of the plain run still, the cache would answer in the model's place."""
    seen = []
    for nodes in (bare(patch, [REFINE]), chained(patch, [REFINE])):
        trace = comfy.run(nodes, ["out", ("p0", 1)]).check()["p0", 1].trace
        seen.append([record.loss for record in trace.records])
        assert sum("as caches do" in note for note in trace.notes) == (len(seen) == 2)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("kind", ["FreeU_V2", "HyperTile", "TomePatchModel", "ip_adapter", "LoraLoaderBypassModelOnly"])
def test_recomputed_blocks_repeat_what_the_patch_did(comfy, kind):
    """Also patches that draw random numbers, or that write into what autograd keeps."""
    patch = next(p for p in PATCHES if kind in (p.kind, p.inputs.get("kind")))
    low, fast = (
        samples(comfy.run(chained(patch, [capture(memory=memory), REFINE]), ["out"])) for memory in ("low", "fast")
    )
    assert torch.allclose(low, fast, rtol=1e-5, atol=1e-5)


def test_a_patch_that_draws_random_numbers_draws_the_same_in_every_evaluation(comfy):
    """And in the pass that is refined: with lr 0 the loss does not move."""
    patch = next(p for p in PATCHES if p.kind == "TomePatchModel")
    result = comfy.run(chained(patch, [refine(step=1, iterations=3, lr=0.0)]), ["out", ("p0", 1)])
    losses = [record.loss for record in result.check()["p0", 1].trace.records]
    assert all(loss == losses[0] for loss in losses)


@pytest.mark.parametrize(("family", "kind"), [("flux_dev", "fp8_scaled"), ("flux_dev", "int8")])
def test_a_bypass_lora_on_a_quantised_model(comfy, monkeypatch, family, kind):
    write_lora(comfy, torch.Generator().manual_seed(4), family)
    model, _ = comfy.toy.build_quantised(family, kind)
    network = model.model.diffusion_model
    monkeypatch.setattr(comfy.toy.ToyTransformer, "made", model)
    inputs = {"lora_name": lora_of(family), "strength_model": 1.0}
    test_a_patch_before_and_after_ours(comfy, Patch("LoraLoaderBypassModelOnly", inputs, family, inside=True))
    # ComfyUI itself leaves a module's own forward in its dictionary
    left = [vars(module)["forward"].__self__ is module for module in network.modules() if "forward" in vars(module)]
    assert left and all(left)


def test_a_quantised_layer_with_an_unknown_forward_is_refused(comfy, monkeypatch):
    model, _ = comfy.toy.build_quantised("flux_dev")
    layer = model.model.diffusion_model.double_blocks[0].img_attn.qkv
    layer.forward = lambda x: type(layer).forward(layer, x)
    monkeypatch.setattr(comfy.toy.ToyTransformer, "made", model)
    result = comfy.run(zoo.graph("flux_dev", [REFINE]), ["out"])
    assert not result.ok and not result.progress
    assert "SingleStepIterRef" in result.error and "double_blocks.0.img_attn.qkv" in result.error


def test_context_windows_over_the_picture_are_noted(comfy):
    wide = Patch("ContextWindowsManual", WINDOWS | {"dim": 3, "context_length": 10, "context_overlap": 4}, batch=1)
    result = comfy.run(chained(wide, [REFINE]), ["out", ("p0", 1)]).check()
    assert "context windows" in " ".join(result["p0", 1].trace.notes)
    images = comfy.run(chained(Patch("ContextWindowsManual", WINDOWS), [REFINE]), ["out", ("p0", 1)]).check()
    assert not images["p0", 1].trace.notes


@pytest.mark.parametrize("family", ["sd3"])
def test_a_compiled_model(comfy, family):
    """Really compiled: the ordinary steps are, the gradient is that of the model itself.

    PyTorch needs a C++ compiler and Python's headers for it; without them it is a failure in CI, elsewhere a skip.
    """
    patch = Patch("TorchCompileModel", {"backend": "inductor"}, family, batch=1)
    session = comfy.session()
    plain = session.run(chained(patch), ["out"])
    if not plain.ok and ("compiler" in plain.error or "Inductor" in plain.error):
        message = f"torch.compile does not work here: {plain.error.splitlines()[0]}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    plain = samples(plain)
    for first in (True, False):
        assert torch.equal(samples(session.run(chained(patch, OFF, first), ["out"])), plain)
        checked(session, chained(patch, [REFINE], first), plain)
    assert torch.equal(samples(session.run(chained(patch), ["out"])), plain)

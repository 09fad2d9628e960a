"""Attention that other packs replace, cache or add to: for ordinary passes alone, or refused."""

import pytest
import torch

from .. import zoo_graphs as zoo
from ..graphs import capture, refine, samples
from .chain import REFINE, Patch, bare, chained, checked, graph, node, positive, toy
from .patches import NAG, SELF


@pytest.mark.parametrize("family", ["sd15", "sd3", "flux_dev"])
def test_another_packs_attention_is_for_ordinary_passes(comfy, family):
    counts = comfy.toy.COUNTS
    counts.clear()
    comfy.run(chained(toy("override", family)), ["out"]).check()
    ordinary = counts.pop("ordinary")
    assert ordinary > 0 and not counts
    comfy.run(chained(toy("override", family), [REFINE]), ["out"]).check()
    assert counts == {"ordinary": ordinary}


ALONE = "no_patch"
# SD3.5 medium attends to the picture alone as well, in a call that is not read
CHOSEN = [Patch(ALONE, family=family) for family in ("sd15", "sd35_medium", "flux_dev")]
CHOSEN += [toy("ip_adapter"), Patch("SelfAttentionGuidance", SELF)]


@pytest.mark.parametrize("patch", CHOSEN, ids=str)
def test_the_chosen_attention_is_for_ordinary_passes(comfy, monkeypatch, patch):
    """As --use-sage-attention: no backward, and also behind patches that do not hand on the transformer options."""
    import comfy.ldm.modules.attention as attention

    inner, calls = attention.efficient_dot_product_attention, []

    def kernel(*args, **kwargs):
        calls.append(torch.is_grad_enabled())
        with torch.no_grad():
            return inner(*args, **kwargs)

    assert attention.optimized_attention is attention.attention_sub_quad, "the default without a GPU"
    nodes = (bare if patch.kind == ALONE else chained)(patch, [REFINE])
    wanted = samples(comfy.run(nodes, ["out"]))
    monkeypatch.setattr(attention, "efficient_dot_product_attention", kernel)
    assert torch.equal(samples(comfy.run(nodes, ["out"])), wanted)
    assert calls and not any(calls)


def test_what_the_attention_functions_call_is_put_back(comfy):
    import comfy.ldm.modules.attention as attention

    def inner():
        wrapped = {f for f in vars(attention).values() if hasattr(f, "__wrapped__")}
        return {f: [cell.cell_contents for cell in f.__closure__] for f in wrapped}

    before = inner()
    comfy.run(graph([REFINE]), ["out"]).check()
    failed = comfy.run(chained(toy("shorter_text"), [REFINE]), ["out"])
    assert not failed.ok and "8 of the prompt's 77" in failed.error and "AttentionCapture" in failed.error
    assert inner() == before
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_tokens_that_another_pack_adds_are_not_words(comfy, monkeypatch):
    """They take their share of the softmax; the maps still have the prompt's columns and no others."""
    forward, found = comfy.pack("gsn.host.attention.forward").EntryForward, []
    call = forward.__call__

    def seen(*args):
        found.append(call(*args))
        return found[-1]

    monkeypatch.setattr(forward, "__call__", seen)
    observed = [capture(record_steps="0")]
    comfy.run(chained(toy("extra_tokens"), observed), ["out"]).check()
    comfy.run(graph(observed), ["out"]).check()
    with_them, alone = (maps.probabilities for maps in found)
    assert with_them.shape == alone.shape and with_them.shape[-1] == 77
    assert (with_them.sum(-1) < 0.999).all() and torch.allclose(alone.sum(-1), torch.ones(()), atol=1e-5)


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize("family", ["sd15", "flux_dev", "krea2"])
def test_the_maps_under_nag_are_those_of_the_prompts_own_rows(comfy, monkeypatch, family, cfg):
    """They are of the positive prompt alone, where it does nothing: bit for bit those of the model without it."""
    forward, found = comfy.pack("gsn.host.attention.forward").EntryForward, []
    call = forward.__call__

    def seen(self, latent, rows):
        found.append(call(self, latent, rows))
        assert len(found[-1].probabilities) == len(latent) == 2
        return found[-1]

    monkeypatch.setattr(forward, "__call__", seen)
    for nodes in (chained, bare):
        patch = Patch("NAGuidance", NAG, family, sampler={"cfg": cfg})
        comfy.run(nodes(patch, [refine(step=0, iterations=1)]), ["out"]).check()
    evaluations = len(found) // 2
    assert evaluations and torch.equal(found[0].probabilities, found[evaluations].probabilities)


FIRST = {"first_step": 0, "last_step": 2, "step_unit": "index"}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    ("kind", "family"), [("negative_within", "sd15"), ("twice_the_rows", "sd15"), ("twice_the_rows", "flux_dev")]
)
def test_rows_that_another_pack_adds_are_refused(comfy, kind, family, batch):
    """One picture and two texts would even have run, as one text of twice the length."""
    patch = Patch("ToyPatch", {"kind": kind}, family, batch=batch)
    assert comfy.run(chained(patch), ["out"]).ok
    result = comfy.run(chained(patch, [REFINE]), ["out"])
    rows = batch + 1 if kind == "negative_within" else 2 * batch
    assert not result.ok and "AttentionCapture" in result.error and f"{rows} rows" in result.error
    if kind == "negative_within":
        edited = [("GSNAttentionTemperature", {"factor": 1.5, "words": "whole text", **FIRST})]
        result = comfy.run(chained(patch, edited), ["out"])
        assert not result.ok and "rows of text" in result.error


@pytest.mark.parametrize("family", ["flux_dev", "flux2"])
def test_tokens_put_before_the_text_are_refused(comfy, family):
    assert comfy.run(chained(toy("style_tokens", family)), ["out"]).ok
    result = comfy.run(chained(toy("style_tokens", family), [REFINE]), ["out"])
    assert not result.ok and "AttentionCapture" in result.error and "2 tokens beside the prompt's" in result.error


@pytest.mark.parametrize("step", [0, 1], ids=["flux2-0", "flux2-1"])
def test_flux_kv_cache_with_a_reference_picture(comfy, step):
    """The first call fills the cache, the others have the reference's keys from it and no queries for it."""
    session = comfy.session()

    def nodes(ours, kind="FluxKVCache"):
        made = zoo.graph("flux2", ours, batch=1)
        made["4"]["inputs"] |= {"width": 160, "height": 96}
        latent = node(made, "l", "EmptyFlux2LatentImage", width=160, height=96, batch_size=1)
        positive(made, node(made, "r", "ReferenceLatent", conditioning=["2", 0], latent=latent))
        made["out"]["inputs"]["cfg"] = 1.0
        if kind:
            made["out"]["inputs"]["model"] = node(made, "x", kind, model=made["out"]["inputs"]["model"])
        return made

    plain = samples(session.run(nodes([]), ["out"]))
    assert not torch.equal(plain, samples(session.run(nodes([], None), ["out"])))
    assert torch.equal(samples(session.run(nodes([refine(step=step, iterations=0)]), ["out"])), plain)
    for memory in ("fast", "low"):
        off = [refine(step=step, iterations=2, lr=0.0), capture(memory=memory)]
        assert torch.equal(samples(session.run(nodes(off), ["out"])), plain)
    checked(session, nodes([refine(step=step, iterations=2)]), plain)
    assert torch.equal(samples(session.run(nodes([]), ["out"])), plain)

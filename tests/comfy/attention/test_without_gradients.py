"""Attention edited in ordinary model calls, in ComfyUI's own executor and on models of several families."""

import math

import pytest
import torch

from ..foreign import foreign
from ..zoo_graphs import graph
from ..zoo_names import NAMES

FAMILIES = ("sd15", "sd3_both", "flux_dev", "pixart_sigma")


def temperature(**inputs):
    settings = {"factor": 1.5, "words": "whole text", "first_step": 0, "last_step": 2, "step_unit": "index"}
    return ("GSNAttentionTemperature", settings | inputs)


def reweight(**inputs):
    settings = {"own": 3.0, "others": 0.1, "first_step": 0, "last_step": 2, "step_unit": "index"}
    return ("GSNAttentionReweight", settings | inputs)


def refine(**inputs):
    return ("SingleStepIterRef", {"step": 1, "step_unit": "index", "iterations": 3, "lr": 0.05} | inputs)


def latent(comfy, *args, **kwargs):
    return comfy.run(graph(*args, **kwargs), ["out"]).check()["out"]["samples"]


@pytest.mark.parametrize("name", FAMILIES)
def test_off_is_equal_and_on_changes_the_picture(comfy, name):
    plain = latent(comfy, name, steps=3)
    for off in (temperature(factor=1.0), reweight(own=1.0, others=1.0)):
        assert torch.equal(latent(comfy, name, [off], steps=3), plain)
    for on in (temperature(), temperature(words="subjects"), reweight(), reweight(others=1.0), reweight(own=1.0)):
        changed = latent(comfy, name, [on], steps=3)
        assert torch.isfinite(changed).all() and not torch.equal(changed, plain), on


@pytest.mark.parametrize("name", NAMES)
def test_every_call_in_which_text_meets_image_is_edited_in_every_family(comfy, monkeypatch, name):
    editing = comfy.pack("gsn.host.attention.edit").Editing
    report, seen = editing.report, []
    monkeypatch.setattr(editing, "report", lambda self, trace: (seen.append(self.edited), report(self, trace)))
    nodes = graph(name, [temperature(last_step=0), reweight(last_step=0)], steps=1)
    result = comfy.run(nodes, ["out", ("p0", 1)]).check()
    assert seen == [comfy.toy.TOYS[name].calls]
    assert torch.isfinite(result["out"]["samples"]).all()
    assert [note for note in result["p0", 1].trace.notes if "steps 0 to 0" in note]


class Spy:
    """The first edited attention call of a run that reads maps: what it was given and what it answered."""

    def __init__(self, comfy, monkeypatch, name):
        self.seen = None
        spy = self
        if name == "sd15":
            kind = comfy.pack("gsn.host.families.unet")._EditedBlocks
            get = kind.__getitem__

            def item(blocks, key):
                patch = get(blocks, key)

                def watched(q, k, v, extra):
                    answer = patch(q, k, v, extra)
                    spy.note(q, k, v, extra["n_heads"], {"transformer_options": extra}, answer, len(blocks.images))
                    return answer

                return watched

            monkeypatch.setattr(kind, "__getitem__", item)
        else:
            kind = comfy.pack("gsn.host.families.joint")._Edit
            call = kind.__call__

            def watched(edit, function, q, k, v, heads, *args, **kwargs):
                options = dict(kwargs)
                answer = call(edit, function, q, k, v, heads, *args, **kwargs)
                before = edit.position.calls - 1
                if edit.position.key and edit.call in (None, before):
                    spy.note(q, k, v, heads, options, answer, len(edit.images))
                return answer

            monkeypatch.setattr(kind, "__call__", watched)

    def note(self, q, k, v, heads, options, answer, images):
        if self.seen is None and images:
            copies = [one.clone() for one in (q, k, v, answer)]
            self.seen = (*copies, heads, options)


def naive(spy, toy, grid, gain, factor):
    """The full softmax with edited logits: all images, heads, queries. gain: [B, h w, columns] for the positive."""
    q, k, v, answer, heads, options = spy.seen
    by_heads = options.get("skip_reshape", False)
    if not by_heads:
        q, k, v = (one.flatten(2).unflatten(-1, (heads, -1)).transpose(1, 2) for one in (q, k, v))  # SD 3: v is 4-D
    image, text = grid[0] * grid[1], gain.shape[-1]
    columns, first = (0, 0) if toy.cross is not None else toy.text_at(text)
    logits = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    batch = len(gain)
    for place, kind in enumerate(options["transformer_options"]["cond_or_uncond"]):
        if kind == 0:
            rows = slice(place * batch, (place + 1) * batch)
            part = logits[rows, :, first : first + image, columns : columns + text]
            part.mul_(factor).add_(gain[:, None])
    mask = options.get("mask")
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    wanted = logits.softmax(-1) @ v
    if not options.get("skip_output_reshape", False):
        wanted = wanted.transpose(1, 2).flatten(2)
    return wanted, answer


@pytest.mark.parametrize(("name", "nag"), [*((name, False) for name in FAMILIES), ("sd15", True), ("flux_dev", True)])
def test_one_edited_call_is_the_full_softmax_of_the_edited_logits(comfy, monkeypatch, name, nag):
    """The subjects' columns are 3 and 6 of every stream; their places follow from the maps in the trace.

    nag: with ComfyUI's own normalised attention guidance, which runs the negative prompt's rows though cfg is 1.
    """
    toy, spy = comfy.toy.TOYS[name], Spy(comfy, monkeypatch, name)
    blocks = {"sd15": "in1", "flux_dev": "double0"}.get(name, "0")  # maps of the grid of the call looked at
    look = ("AttentionCapture", {"blocks": blocks, "resolution": "auto", "columns": "auto", "record_steps": ""})
    nodes = graph(name, [look, temperature(), reweight()])
    if nag:
        comfy.extra("nodes_nag")
        guided = {"model": ["1", 0], "nag_scale": 5.0, "nag_alpha": 0.5, "nag_tau": 1.5}
        nodes["nag"] = {"class_type": "NAGuidance", "inputs": guided}
        nodes["p0"]["inputs"]["model"], nodes["out"]["inputs"]["cfg"] = ["nag", 0], 1.0
    trace = comfy.run(nodes, ["out", ("p2", 1)]).check()["p2", 1].trace
    maps = trace.kept[0].maps
    deviations = (maps - maps.mean((2, 3), keepdim=True)) / maps.std((2, 3), correction=0, keepdim=True)
    best = deviations.amax(1, keepdim=True)
    owned = (deviations == best) & (deviations >= 1.0)
    gain = torch.zeros(*maps.shape[:1], *maps.shape[2:], sum(columns for _, columns in toy.streams))
    offset = 0
    for _, columns in toy.streams:
        for column, mine, theirs in ((offset + 3, 0, 1), (offset + 6, 1, 0)):
            gain[..., column] += owned[:, mine] * math.log(3.0) + owned[:, theirs] * math.log(0.1)
        offset += columns
    assert owned.any(1).any() and owned[:, 0].any() and owned[:, 1].any()
    assert sorted(spy.seen[-1]["transformer_options"]["cond_or_uncond"]) == [0, 1]
    wanted, answer = naive(spy, toy, maps.shape[2:], gain.flatten(1, 2), 1.5)
    assert float((wanted - answer).abs().max()) <= 1e-5
    unedited, _ = naive(spy, toy, maps.shape[2:], torch.zeros_like(gain).flatten(1, 2), 1.0)
    assert float((unedited - answer).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["sd15", "sd3_both"])
def test_chained_with_the_refinement_in_either_order(comfy, name):
    session = comfy.session()
    found = [
        session.run(graph(name, patch), ["out", ("p1", 1)]).check()
        for patch in ([refine(), reweight()], [reweight(), refine()])
    ]
    one, other = (result["out"]["samples"] for result in found)
    assert torch.equal(one, other)
    actions = [record.action for record in found[0]["p1", 1].trace.records]
    assert actions == ["reweight", *["refine"] * 4, "reweight", "reweight"]
    alone = [latent(comfy, name, [patch]) for patch in (refine(), reweight())]
    assert not any(torch.equal(one, picture) for picture in alone)
    # the refinement looks at the model as it is: in the same state it does the same
    late = reweight(first_step=2)
    assert (
        session.run(graph(name, [late, refine()]), ["out", ("p1", 1)]).check()["p1", 1].trace.records[0].loss
        == session.run(graph(name, [refine()]), ["out", ("p0", 1)]).check()["p0", 1].trace.records[0].loss
    )


def test_only_calls_at_the_chosen_noise_levels_are_edited(comfy, monkeypatch):
    editing = comfy.pack("gsn.host.attention.edit").Editing
    images, levels = editing._images, []

    def noted(self, x, text, options):
        found = images(self, x, text, options)
        levels.append((float(options["sigmas"].max()), bool(found)))
        return found

    monkeypatch.setattr(editing, "_images", noted)
    nodes = graph("sd15", [temperature(first_step=1, last_step=1)])
    nodes["out"]["inputs"] |= {"sampler_name": "heun", "steps": 4}
    comfy.run(nodes, ["out"]).check()
    steps = sorted({level for level, _ in levels}, reverse=True)
    assert [level for level, edited in levels if edited] == [steps[1]] * 2  # it ends one step there and begins another
    assert len(levels) == 7


def test_a_prompt_of_another_encode_node(comfy):
    """The whole text needs no subjects; words and subjects say where they come from."""
    plain = latent(comfy, "sd3_both", subjects=False)
    nodes = graph("sd3_both", [temperature()], subjects=False)
    nodes["2"]["inputs"] |= {"seed": 1}
    changed = comfy.run(nodes, ["out"]).check()["out"]["samples"]
    assert not torch.equal(changed, plain)
    from ..graphs import graph as with_text

    for patch, node in ((temperature(words="words"), "GSNAttentionTemperature"), (reweight(), "GSNAttentionReweight")):
        nodes = with_text([patch])
        nodes["2"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a cat and a dog"}}
        result = comfy.run(nodes, ["out"])
        assert not result.ok and not result.progress and node in result.error and "GSNSubjects" in result.error
    nodes = with_text([temperature()])
    nodes["2"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a cat and a dog"}}
    assert comfy.run(nodes, ["out"]).ok


@pytest.mark.parametrize("node", ["GSNSubjects", "CLIPTextEncode"])
def test_a_text_that_another_node_made_longer(comfy, node):
    """Where its words are is no longer known; the whole text still is, and all of it is edited."""
    from ..graphs import graph as with_text

    found = []
    for patch in ([temperature()], []):
        nodes = with_text(patch)
        inputs = {"clip": ["1", 1], "text": "a cat and a dog"} | ({"subjects": ""} if node == "GSNSubjects" else {})
        nodes["2"] = {"class_type": node, "inputs": inputs}
        both = {"conditioning_to": ["2", 0], "conditioning_from": ["3", 0]}
        nodes["c"] = {"class_type": "ConditioningConcat", "inputs": both}
        nodes["out"]["inputs"]["positive"] = ["c", 0]
        found.append(comfy.run(nodes, ["out"]).check()["out"]["samples"])
    assert not torch.equal(*found)


@pytest.mark.parametrize("longer", ["positive", "negative"])
def test_a_text_batched_with_a_longer_one(comfy, longer):
    """ComfyUI repeats the shorter text; the answer is that of a run in which each is a call of its own."""
    from ..graphs import graph as with_text

    long = "a photo of a cat and a dog " + "in a garden " * 40
    found = []
    for together in (True, False):
        nodes = with_text([temperature(words="subjects")], subjects="cat, dog")
        nodes["2" if longer == "positive" else "3"]["inputs"]["text"] = long
        with pytest.MonkeyPatch.context() as patch:
            if not together:
                from comfy import conds

                patch.setattr(conds.CONDCrossAttn, "can_concat", lambda *args: False)
            found.append(comfy.run(nodes, ["out"]).check()["out"]["samples"])
    assert torch.allclose(*found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["sd15", "sd3_both"])
def test_under_the_attention_of_another_pack(comfy, name):
    """It is called for the edited attention as well, and what it does to the answer stays."""
    counts = comfy.toy.COUNTS
    other = ("ToyPatch", {"kind": "override"})
    for patch in ([other, temperature()], [temperature(), other]):
        counts.clear()
        both = latent(comfy, name, patch)
        edited = counts.pop("ordinary")
        counts.clear()
        alone = latent(comfy, name, [other])
        assert not torch.equal(both, alone) and not torch.equal(both, latent(comfy, name, [temperature()]))
        assert edited >= counts.pop("ordinary")


def test_with_another_packs_text_attention(comfy):
    """An IP-Adapter's replacement stays in force: only the text's share of its answer is edited."""
    other = ("ToyPatch", {"kind": "ip_adapter"})
    from ..graphs import graph as with_text

    def run(*patch):
        return comfy.run(with_text(list(patch)), ["out"]).check()["out"]["samples"]

    both = run(other, temperature())
    assert not torch.equal(both, run(other)) and not torch.equal(both, run(temperature()))
    assert torch.equal(both, run(temperature(), other))


@pytest.mark.parametrize("name", ["sd15", "pixart_sigma"])
@pytest.mark.parametrize("how", ["error", "interrupt"])
def test_nothing_is_left_after_an_error_or_an_interrupt(comfy, monkeypatch, name, how):
    session = comfy.session()
    plain = session.run(graph(name), ["out"]).check()["out"]["samples"]
    module = comfy.pack(f"gsn.host.families.{'unet' if name == 'sd15' else 'joint'}")
    calls, inner = [], module.edited_attention

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            if how == "error":
                raise RuntimeError("simulated")
            comfy.interrupt()
        return inner(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, "edited_attention", failing)
        result = session.run(graph(name, [reweight()]), ["out"])
    assert not result.ok and len(calls) >= 3
    assert how == "interrupt" or "simulated" in result.error
    made = session.run(graph(name), [("1", 0)]).check()["1", 0]
    network = made.model.diffusion_model
    assert not [m for m in network.modules() if "forward" in vars(m) and "_placed" in repr(vars(m)["forward"])]
    assert "gsn_edit" not in repr(made.model_options)
    nodes = graph(name)
    nodes["out"]["inputs"]["sampler_name"] = "ddim"  # not the cached answer
    wanted = comfy.run(nodes, ["out"]).check()["out"]["samples"]
    assert torch.equal(session.run(nodes, ["out"]).check()["out"]["samples"], wanted)
    assert torch.equal(latent(comfy, name), plain)


def test_a_model_whose_weights_have_no_derivative(comfy, monkeypatch):
    """The same answer as with ordinary weights of the same values; looking at maps works as well."""
    look = ("AttentionCapture", {"blocks": "auto", "resolution": "auto", "columns": "auto", "record_steps": "0, 3"})
    patch = [temperature(), reweight(), look]
    wanted = latent(comfy, "sd3_both", patch)
    monkeypatch.setattr(comfy.toy.ToyTransformer, "made", foreign(comfy))
    result = comfy.run(graph("sd3_both", patch), ["out", ("p2", 1)]).check()
    assert torch.equal(result["out"]["samples"], wanted)
    actions = [record.action for record in result["p2", 1].trace.records]
    assert actions == ["observe", "reweight", "reweight", "reweight", "observe"]
    refused = comfy.run(graph("sd3_both", [*patch, refine()]), ["out"])
    assert not refused.ok and "SingleStepIterRef" in refused.error


@pytest.mark.parametrize("kind", ["fp8_scaled", "int8"])
def test_quantised_weights(comfy, monkeypatch, kind):
    quantised, _ = comfy.toy.build_quantised("flux_dev", kind)
    monkeypatch.setattr(comfy.toy.ToyTransformer, "made", quantised)
    plain = latent(comfy, "flux_dev")
    changed = latent(comfy, "flux_dev", [reweight()])
    assert torch.isfinite(changed).all() and not torch.equal(changed, plain)


def test_what_it_needs_no_memory_for_it_does_not_ask_for(comfy, monkeypatch):
    plan, host = comfy.pack("gsn.methods.plan"), comfy.pack("gsn.host.sampling.memory")
    interventions, steps = comfy.pack("gsn.interventions").INTERVENTIONS, comfy.pack("gsn.methods.steps")
    asked = []
    model = comfy.model("sd15")
    monkeypatch.setattr(model, "memory_required", lambda shape: 1000)  # of a toy's gradient it would be enough
    for intervention in (interventions["reweight"](), interventions["refine"]()):
        action = plan.Action("test", intervention, steps.Step(), steps.Step())
        wrapper = host.EstimateWrapper(plan.Plan(actions=(action,)))
        asked.append(wrapper(lambda model, shape, conds: shape, model, [2, 4, 64, 64], {}))
    assert asked[0] == [2, 4, 64, 64] and asked[1][0] > 2

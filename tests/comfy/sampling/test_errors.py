"""Bad input: refused before sampling with a message that helps, and nothing is left behind."""

from types import SimpleNamespace

import pytest
import torch

from .. import zoo_graphs as zoo
from ..foreign import foreign
from ..graphs import capture, graph, guide, interrupt_leaves_nothing, refine, samples, sd15_graph
from ..zoo_names import DIFFERENT


def other_encoder():
    nodes = graph([refine()])
    nodes["2"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a cat and a dog"}}
    return nodes


def negative_only():
    nodes = graph([refine()])
    nodes["out"]["inputs"].update(positive=["3", 0], negative=["2", 0])
    return nodes


def one_subject_for_iou():
    nodes = graph([refine()], subjects="cat")
    nodes["l"] = {"class_type": "GSNLoss", "inputs": {"method": "iou", "weight": 1.0}}
    nodes["p0"]["inputs"]["loss"] = ["l", 0]
    return nodes


def with_loss(method, weight=1.0, settings=None, **refinement):
    nodes = graph([refine(loss=["l", 0], **refinement)])
    nodes["l"] = {"class_type": "GSNLoss", "inputs": {"method": method, "weight": weight} | (settings or {})}
    return nodes


def longer_text(nodes):
    """The graph with the negative's text behind the positive's, in one conditioning."""
    both = {"conditioning_to": ["2", 0], "conditioning_from": ["3", 0]}
    nodes["c"] = {"class_type": "ConditioningConcat", "inputs": both}
    nodes["out"]["inputs"]["positive"] = ["c", 0]
    return nodes


def sd3(patch):
    """SD 3 with its CLIP encoders, without T5, as many of its checkpoints are."""
    return graph(patch, family="sd3")


CASES = {
    "word not there": (lambda: graph([refine()], subjects="giraffe"), "giraffe"),
    "empty prompt": (lambda: graph([refine()], text=""), "GSNSubjects"),
    "negative only": (negative_only, "positive"),
    "other encoder": (other_encoder, "GSNSubjects"),
    "past the end": (lambda: graph([refine(step=6)]), "past the end"),
    "negative step": (lambda: graph([refine(step=-1)]), "count from 0"),
    "nan step": (lambda: graph([refine(step=float("nan"))]), "finite"),
    "nan rate": (lambda: graph([refine(lr=float("nan"))]), "lr"),
    "infinite strength": (lambda: graph([guide(step_size=float("nan"))]), "step size"),
    "backwards": (lambda: graph([guide(first_step=4, last_step=1)]), "GSNGuidance: the range from 4 to 1 runs"),
    "no weight": (lambda: with_loss("iou", 0.0), "SingleStepIterRef: the loss 'iou' has weight 0"),
    "unreadable level": (lambda: graph([refine(levels="iou low")]), "IterRef: cannot read the level 'iou low'"),
    "level of another loss": (lambda: graph([refine(levels="tv -0.2")]), "the threshold names the loss 'tv'"),
    "unreachable": (lambda: with_loss("attend_excite", stop_early=True, threshold=-0.1), "it is never below 0"),
    "unreachable with these subjects": (lambda: with_loss("conform", stop_early=True, threshold=0.1), "below 0.126928"),
    "nothing to bind": (lambda: with_loss("syngen", settings={"method.entities": False}), "would always be 0: no"),
    "one subject": (one_subject_for_iou, "at least 2"),
    "no such block": (lambda: sd15_graph([capture(blocks="out15"), refine()]), "output8"),
    "unreadable block": (lambda: graph([capture(blocks="up3"), refine()]), "up3"),
    "no such size": (lambda: sd15_graph([capture(blocks="in1", resolution="1/8"), refine()]), "1/8"),
    "other length": (lambda: longer_text(graph([refine()])), "ConditioningConcat"),
    "encoder not loaded": (lambda: sd3([capture(encoder="t5"), refine()]), "'t5', but the positive prompt was encoded"),
    "encoder of other models": (lambda: graph([capture(encoder="t5"), refine()]), "Choose average or clip"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_before_the_first_model_call(comfy, case):
    make, words = CASES[case]
    result = comfy.run(make(), ["out"])
    assert not result.ok
    assert words in result.error, result.error
    assert not result.progress


def test_an_encoder_that_cannot_spell_a_subject(comfy):
    checks, errors = comfy.pack("gsn.host.sampling.checks"), comfy.pack("gsn.host.errors")
    subjects = comfy.pack("gsn.text.subjects")
    streams = tuple(subjects.TextStream(name, i, 1, (0,), (), ("x",)) for i, name in enumerate(("clip", "t5")))
    items = (subjects.Subject("cat", {"clip": (0,), "t5": (0,)}), subjects.Subject("naïve", {"clip": (0,)}))
    text = subjects.Subjects("naïve cat", items, streams)

    def check(stream):
        spec = comfy.pack("gsn.methods.plan").CaptureSpec(stream=stream)
        checks.the_chosen_encoder_spells_the_subjects(SimpleNamespace(spec=spec, entries=[({}, text)]))

    check("average")
    check("clip")
    with pytest.raises(errors.GsnError, match="AttentionCapture.*'t5'.*naïve.*clip, t5"):
        check("t5")


@pytest.mark.parametrize("encoder", ["average", "clip"])
def test_sd3_without_t5_reads_clip(comfy, encoder):
    session = comfy.session()
    one = session.run(sd3([capture(encoder=encoder), refine()]), ["out", ("p1", 1)]).check()
    other = session.run(sd3([refine()]), ["out"]).check()
    assert len(one["p1", 1].trace.records) > 1
    assert torch.equal(one["out"]["samples"], other["out"]["samples"])


def test_a_latent_of_another_model(comfy, tmp_path):
    sampling = comfy.pack("gsn.host.sampling.ksampler")
    run = comfy.run(graph([refine()]), [("p0", 0), ("2", 0), ("3", 0)])
    latent = {"samples": torch.ones(1, 16, 8, 8)}
    with torch.inference_mode(), pytest.raises(ValueError, match="16 channels"):
        sampling.sample(run["p0"], 1, 4, 5.0, "euler", "normal", run["2"], run["3"], latent, 1.0)


def test_a_sampler_that_is_not_a_ksampler(comfy):
    import comfy.samplers as host

    class Other(host.Sampler):
        def sample(self, *args, **kwargs):
            raise AssertionError("must not be reached")

    run = comfy.run(graph([refine()]), [("p0", 0), ("2", 0), ("3", 0)])
    guider = host.CFGGuider(run["p0"])
    guider.set_conds(run["2"], run["3"])
    with torch.inference_mode(), pytest.raises(ValueError, match="Other"):
        guider.sample(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), Other(), torch.tensor([5.0, 1.0, 0.0]))


def test_interrupt_ends_within_an_iteration_and_leaves_nothing(comfy, monkeypatch):
    interrupt_leaves_nothing(comfy, monkeypatch, graph([refine(iterations=40)]), graph())


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("times", [1, 99])
def test_out_of_memory_is_retried_once_and_then_says_what_to_lower(comfy, monkeypatch, where, times):
    plain = samples(comfy.run(graph(), ["out"]))
    forward = comfy.pack("gsn.host.attention.forward").EntryForward
    grad, call, left = torch.autograd.grad, forward.__call__, [times]

    def failing(function):
        def wrapped(*args, **kwargs):
            if left[0]:
                left[0] -= 1
                raise torch.OutOfMemoryError("simulated")
            return function(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        if where == "forward":
            patch.setattr(forward, "__call__", failing(call))
        else:
            patch.setattr(torch.autograd, "grad", failing(grad))
        result = comfy.run(graph([refine()]), ["out", ("p0", 1)])
    if times == 1:
        assert "one image at a time" in result.check()["p0", 1].trace.notes[0]
    else:
        assert not result.ok and "Lower the image size" in result.error
    assert torch.equal(samples(comfy.run(graph(), ["out"])), plain)


@pytest.mark.parametrize("loss", ["tv_bind", "syngen"])
def test_a_describing_word_of_the_other_encoder_is_refused_before_the_first_model_call(comfy, loss):
    """SD 3 with both of its kinds of encoder, of which only T5 spells 'teal'."""
    for encoder, fits in (("clip", False), ("t5", True), ("average", True)):
        nodes = zoo.graph("sd3_both", [capture(encoder=encoder), zoo.refine(iterations=1)])
        nodes["2"]["inputs"]["described_in"] = "t5"
        nodes["l"] = {"class_type": "GSNLoss", "inputs": {"method": loss, "weight": 1.0}}
        nodes["p1"]["inputs"]["loss"] = ["l", 0]
        result = comfy.run(nodes, ["out"])
        assert result.ok == fits, result.error
        if not fits:
            assert not result.progress
            for words in ("SingleStepIterRef", loss, "'teal' to 'cat'", "'clip'", "average or t5"):
                assert words in result.error, result.error


@pytest.mark.parametrize("name", [name for name in DIFFERENT if name != "anima"])
def test_a_text_that_another_node_made_longer_is_refused_in_every_family(comfy, name):
    """Flux.2 fills both texts up to the same 512 columns before they reach us."""
    result = comfy.run(longer_text(zoo.graph(name, [zoo.refine()])), ["out"])
    assert not result.ok and not result.progress
    before = sum(columns for _, columns in comfy.toy.TOYS[name].streams)
    for words in ("SingleStepIterRef", f"has {2 * before} text tokens", f"subjects in {before};", "ConditioningConcat"):
        assert words in result.error, result.error


def test_anima_keeps_the_columns_of_the_first_text(comfy):
    """Its text axis is that of the T5 tokens, which stay; only what its adapter writes into the columns changes."""
    grown = longer_text(zoo.graph("anima", [capture(record_steps="0")]))
    kept, other = (
        comfy.run(nodes, ["out", ("p0", 1)]).check()["p0", 1].trace.kept[0].maps
        for nodes in (grown, zoo.graph("anima", [capture(record_steps="0")]))
    )
    assert kept.shape == other.shape and not torch.equal(kept, other)
    (axis,) = comfy.run(grown, [("c", 0)]).check()["c", 0]
    assert axis[0].shape[1] == 2 * len(axis[1]["t5xxl_ids"]) == 2 * axis[1]["gsn"].text_length


@pytest.mark.parametrize("node", ["SingleStepIterRef", "GSNAttentionTemperature"])
def test_a_text_longer_than_the_model_reads_is_refused_before_the_first_model_call(comfy, node):
    """PixelDiT has positions for 300 tokens and leaves out what comes behind; a ToyText's chunk has 20."""
    patch = zoo.refine(iterations=1)
    if node != patch[0]:
        patch = (node, {"factor": 1.2, "words": "whole text", "first_step": 0, "last_step": 3, "step_unit": "index"})
    assert comfy.run(zoo.graph("pixeldit", [patch], chunks=15), ["out"]).ok
    assert comfy.run(zoo.graph("pixeldit", chunks=16), ["out"]).ok, "without us the model takes it"
    result = comfy.run(zoo.graph("pixeldit", [patch], chunks=16), ["out"])
    assert not result.ok and not result.progress
    for words in (node, "320 text tokens", "PixelDiT", "first 300", "shorten"):
        assert words in result.error, result.error


def mixed_encoders():
    nodes = graph([refine()])
    nodes["s"] = {"class_type": "ToyModel", "inputs": {"family": "sdxl", "seed": 0}}
    nodes["b"] = {"class_type": "GSNSubjects", "inputs": {"clip": ["s", 1], "text": "a frog", "subjects": ""}}
    both = {"conditioning_1": ["2", 0], "conditioning_2": ["b", 0]}
    nodes["c"] = {"class_type": "ConditioningCombine", "inputs": both}
    nodes["out"]["inputs"]["positive"] = ["c", 0]
    return nodes


# make, the words that the message must hold: the node, what was given, what this model offers
OTHER_MODELS = {
    "blocks on a UNet": (lambda: sd15_graph([capture(blocks="12-17"), refine()]), ["12", "input1", "output11"]),
    "a part that SD3 lacks": (lambda: graph([capture(blocks="single"), refine()], family="sd3"), ["single blocks"]),
    "double block on SD3": (lambda: graph([capture(blocks="double0"), refine()], family="sd3"), ["double", "block0"]),
    "out9 on SDXL": (lambda: graph([capture(blocks="out9"), refine()], family="sdxl"), ["output block 9", "output5"]),
    "no such size on SDXL": (lambda: graph([capture(resolution="1"), refine()], family="sdxl"), ["1/1", "1/2, 1/4"]),
    "no such size on SD3": (lambda: graph([capture(resolution="1/8"), refine()], family="sd3"), ["1/8", "at 1/2"]),
}


@pytest.mark.parametrize("case", OTHER_MODELS)
def test_settings_made_for_another_model_are_refused_before_the_first_model_call(comfy, case):
    make, words = OTHER_MODELS[case]
    result = comfy.run(make(), ["out"])
    assert not result.ok and not result.progress
    assert all(word in result.error for word in ["AttentionCapture", *words]), result.error


def test_a_positive_of_two_kinds_of_encoder_is_refused(comfy):
    result = comfy.run(mixed_encoders(), ["out"])
    assert not result.ok and not result.progress
    assert "SingleStepIterRef" in result.error and "64 and 128 channels" in result.error


def merged(patch, other):
    """One step of the graph's model, after the patch, with half of another one."""
    nodes = sd15_graph(patch, steps=1)
    nodes["b"] = {"class_type": "ToyModel", "inputs": {"family": other, "seed": 3}}
    inputs = {"model1": nodes["out"]["inputs"]["model"], "model2": ["b", 0], "ratio": 0.5}
    nodes["x"] = {"class_type": "ModelMergeSimple", "inputs": inputs}
    nodes["out"]["inputs"]["model"] = ["x", 0]
    return nodes


@pytest.mark.parametrize("other", ["sdxl", "sd21_v"])
def test_a_merge_with_another_family_is_refused_before_the_first_model_call(comfy, other):
    """ComfyUI takes what fits of the other's weights and only logs the rest."""
    comfy.extra("nodes_model_merging")
    result = comfy.run(merged([refine(step=0)], other), ["out"])
    assert not result.ok and not result.progress
    for words in ("SingleStepIterRef", "merged into this one: 'diffusion_model.", " there and ", "SD 1.x"):
        assert words in result.error, result.error
    assert comfy.run(merged([refine(iterations=0)], other), ["out"]).ok, "off, or without us, ComfyUI takes it"


def test_a_merge_that_changes_nothing_or_an_input_layer_alone_is_not_refused(comfy):
    """Of SD 3 no weight's name fits; an inpainting model's first layer has more channels and stays out."""
    comfy.extra("nodes_model_merging")
    patch = [refine(step=0, iterations=1)]
    alone = samples(comfy.run(sd15_graph(patch, steps=1), ["out"]))
    assert torch.equal(samples(comfy.run(merged(patch, "sd3"), ["out"])), alone)
    assert not torch.equal(samples(comfy.run(merged(patch, "sd15_inpaint"), ["out"])), alone)


def test_weights_of_another_packs_format_are_refused_before_the_first_model_call(comfy, monkeypatch):
    """As a GGUF loader makes them: its own Linear over ComfyUI's, and bytes that are no numbers."""
    monkeypatch.setattr(comfy.toy.ToyTransformer, "made", foreign(comfy, "sd3_clip"))
    assert comfy.run(zoo.graph("sd3_clip"), ["out"]).ok, "without the refinement the model works"
    result = comfy.run(zoo.graph("sd3_clip", [zoo.refine()]), ["out"])
    assert not result.ok and not result.progress
    for words in ("SingleStepIterRef", "joint_blocks.0.x_block.attn.qkv", "Linear", "fp16"):
        assert words in result.error, result.error

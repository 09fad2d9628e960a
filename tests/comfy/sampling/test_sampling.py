"""The main path through ComfyUI's own executor: refine, guide, chain, look, switch off."""

import pytest
import torch

from ..graphs import capture, graph, guide, refine, samples


def trace_of(result, node="p0"):
    return result.check()[node, 1].trace


@pytest.mark.parametrize("family", ["sd15", "sd21_v", "sdxl"])
def test_refinement_lowers_the_loss_and_moves_the_picture(comfy, family):
    plain = samples(comfy.run(graph(family=family), ["out"]))
    result = comfy.run(graph([refine(iterations=8)], family=family), ["out", ("p0", 1)])
    trace = trace_of(result)
    first, last = trace.records[0].loss, trace.records[-1].loss
    assert all(after < before for before, after in zip(first, last, strict=True))
    assert trace.labels == ("cat", "dog") and trace.stops[0].iterations == [8, 8]
    assert not torch.equal(samples(result), plain)
    assert {k.moment for k in trace.kept} == {"before", "after"}


@pytest.mark.parametrize("compute", ["fp16", "bf16"])
def test_fifty_iterations_in_half_precision_stay_finite(comfy, compute):
    nodes = graph([refine(iterations=50)], steps=4)
    nodes["1"]["inputs"] |= {"dtype": compute, "compute": compute}
    result = comfy.run(nodes, ["out", ("p0", 1)])
    trace = trace_of(result)
    assert trace.stops[0].iterations == [50, 50]
    assert all(after < before for before, after in zip(trace.records[0].loss, trace.records[-1].loss, strict=True))
    assert torch.isfinite(samples(result)).all()


def test_every_node_of_a_chain_acts_and_shares_one_trace(comfy):
    nodes = graph([capture(record_steps="0, 5"), refine(), guide()])
    nodes["l"] = {"class_type": "GSNLoss", "inputs": {"method": "iou", "weight": 2.0}}
    nodes["p2"]["inputs"]["loss"] = ["l", 0]
    result = comfy.run(nodes, ["out", ("p0", 1), ("p2", 1)])
    trace = trace_of(result)
    assert [r.action for r in trace.records] == ["observe", *["refine"] * 4, "guide", "guide", "observe"]
    assert [r.step.index for r in trace.records] == [0, 2, 2, 2, 2, 3, 4, 5]
    assert list(trace.records[5].terms) == ["iou"]
    assert trace_of(result, "p2") is trace


def test_looking_does_not_change_the_picture(comfy):
    looked = comfy.run(graph([capture(record_steps="0, 3")]), ["out", ("p0", 1)])
    assert torch.equal(samples(looked), samples(comfy.run(graph(), ["out"])))
    assert [k.moment for k in trace_of(looked).kept] == ["seen", "seen"]


def test_batch_of_two_is_the_same_refinement_as_each_alone(comfy):
    """The first image of the batch is the single-image run of the same seed."""
    nodes = graph([refine()])
    nodes["4"]["inputs"]["batch_size"] = 1
    one = comfy.run(nodes, [("p0", 1), "out"])
    two = comfy.run(graph([refine()]), [("p0", 1), "out"])
    assert trace_of(two).records[-1].loss[0] == pytest.approx(trace_of(one).records[-1].loss[0], rel=1e-4)


def test_levels_of_single_losses_end_a_refinement(comfy):
    done = trace_of(comfy.run(graph([refine(levels="attend_excite 1, iou 0.5")]), ["out", ("p0", 1)]))
    assert done.stops[0].iterations == [0, 0]
    assert done.stops[0].reasons == ["attend_excite at or below 1 and iou at or below 0.5"] * 2
    both = refine(levels="attend_excite 1", stop_early=True, threshold=0.0)
    assert trace_of(comfy.run(graph([both]), ["out", ("p0", 1)])).stops[0].iterations == [3, 3]


@pytest.mark.parametrize("patch", [refine(iterations=0), guide(step_size=0.0)])
def test_off_is_exact(comfy, patch):
    assert torch.equal(samples(comfy.run(graph([patch]), ["out"])), samples(comfy.run(graph(), ["out"])))


def test_no_subjects_is_off(comfy):
    text = "beautiful, stunning"
    result = comfy.run(graph([refine()], text=text), ["out", ("p0", 1)])
    assert torch.equal(samples(result), samples(comfy.run(graph(text=text), ["out"])))
    assert "no subjects" in trace_of(result).notes[0]


def test_the_custom_sampler_nodes_and_any_guider_work(comfy):
    nodes = graph([refine()])
    nodes["s"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "dpmpp_2m"}}
    scheduler = {"model": ["p0", 0], "scheduler": "karras", "steps": 5, "denoise": 0.9}
    nodes["g"] = {"class_type": "BasicScheduler", "inputs": scheduler}
    nodes["r"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": 1}}
    nodes["b"] = {"class_type": "BasicGuider", "inputs": {"model": ["p0", 0], "conditioning": ["2", 0]}}
    wires = {"noise": ["r", 0], "guider": ["b", 0], "sampler": ["s", 0], "sigmas": ["g", 0], "latent_image": ["4", 0]}
    nodes["out"] = {"class_type": "SamplerCustomAdvanced", "inputs": wires}
    trace = trace_of(comfy.run(nodes, ["out", ("p0", 1)]))
    assert trace.records[-1].loss[0] < trace.records[0].loss[0]


@pytest.mark.parametrize("method, iterations, lr", [("paper", 3, 0.05), ("fast", 15, 0.01)])
def test_gsn_ksampler_gives_the_stock_pictures(comfy, method, iterations, lr):
    nodes = graph([refine(iterations=3, lr=0.05)])
    inputs = {**nodes["out"]["inputs"], "model": ["1", 0], "method": method, "step": 2, "step_unit": "index"}
    inputs |= {"iterations": iterations, "lr": lr, "step_size": 20.0}
    nodes["k"] = {"class_type": "GSNKSampler", "inputs": inputs}
    result = comfy.run(nodes, ["out", "k", ("k", 1), ("k", 2)])
    assert torch.equal(result.check()["k"]["samples"], samples(result))
    assert torch.equal(result["k", 1]["samples"], samples(comfy.run(graph(), ["out"])))
    assert len(result["k", 2].trace.records) == 4


def test_a_second_pass_that_does_nothing_leaves_the_trace_of_the_first(comfy):
    """A picture, and its enlargement at denoise 0.5, which begins below the noise level that is refined."""
    nodes = graph([refine(step=9.0, step_unit="sigma", iterations=4)])
    larger = {"samples": ["out", 0], "upscale_method": "nearest-exact", "scale_by": 1.5}
    nodes["larger"] = {"class_type": "LatentUpscaleBy", "inputs": larger}
    again = nodes["out"]["inputs"] | {"latent_image": ["larger", 0], "denoise": 0.5}
    nodes["again"] = {"class_type": "KSampler", "inputs": again}
    session = comfy.session()
    trace = session.run(nodes, ["again", ("p0", 1)]).check()["p0", 1].trace
    assert len(trace.records) == 5
    assert any("a later run" in note and "not part of this run" in note for note in trace.notes)
    # queued again: the patch is cached, and the trace is of the new runs
    nodes["out"]["inputs"]["seed"] = nodes["again"]["inputs"]["seed"] = 2
    later = session.run(nodes, ["again", ("p0", 1)]).check()["p0", 1].trace
    assert len(later.records) == 5 and later.records[0].loss != trace.records[0].loss
    # queued without the first pass: what is told is that nothing was done
    nodes["larger"]["inputs"]["samples"] = ["4", 0]
    del nodes["out"]
    alone = session.run(nodes, ["again", ("p0", 1)]).check()["p0", 1].trace
    assert not alone.records and any("not part of this run" in note for note in alone.notes)

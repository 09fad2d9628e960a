"""The main path through ComfyUI's own executor: refine, guide, chain, look, switch off."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from graphs import capture, graph, guide, refine, samples

RESTARTED = {"dpm_fast", "dpm_adaptive", "sa_solver", "sa_solver_pece", "uni_pc", "uni_pc_bh2"}


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
    two = comfy.run(graph([refine()]), [("p0", 1)])
    nodes = graph([refine()])
    nodes["4"]["inputs"]["batch_size"] = 1
    one = comfy.run(nodes, [("p0", 1), "out"])
    two = comfy.run(graph([refine()]), [("p0", 1), "out"])
    assert trace_of(two).records[-1].loss[0] == pytest.approx(trace_of(one).records[-1].loss[0], rel=1e-4)


@pytest.mark.parametrize("patch", [refine(iterations=0), guide(step_size=0.0)])
def test_off_is_exact(comfy, patch):
    assert torch.equal(samples(comfy.run(graph([patch]), ["out"])), samples(comfy.run(graph(), ["out"])))


def test_no_subjects_is_off(comfy):
    text = "beautiful, stunning"
    result = comfy.run(graph([refine()], text=text), ["out", ("p0", 1)])
    assert torch.equal(samples(result), samples(comfy.run(graph(text=text), ["out"])))
    assert "no subjects" in trace_of(result).notes[0]


# ComfyUI cannot be imported while tests are collected; a test compares this list with the real one
SAMPLERS = [
    "euler",
    "euler_cfg_pp",
    "euler_ancestral",
    "euler_ancestral_cfg_pp",
    "heun",
    "heunpp2",
    "exp_heun_2_x0",
    "exp_heun_2_x0_sde",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpm_fast",
    "dpm_adaptive",
    "dpmpp_2s_ancestral",
    "dpmpp_2s_ancestral_cfg_pp",
    "dpmpp_sde",
    "dpmpp_sde_gpu",
    "dpmpp_2m",
    "dpmpp_2m_cfg_pp",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu",
    "dpmpp_2m_sde_heun",
    "dpmpp_2m_sde_heun_gpu",
    "dpmpp_3m_sde",
    "dpmpp_3m_sde_gpu",
    "ddpm",
    "lcm",
    "ipndm",
    "ipndm_v",
    "deis",
    "res_multistep",
    "res_multistep_cfg_pp",
    "res_multistep_ancestral",
    "res_multistep_ancestral_cfg_pp",
    "gradient_estimation",
    "gradient_estimation_cfg_pp",
    "er_sde",
    "seeds_2",
    "seeds_3",
    "sa_solver",
    "sa_solver_pece",
    "ddim",
    "uni_pc",
    "uni_pc_bh2",
]  # noqa: SIM905


def test_the_list_of_samplers_is_complete(comfy):
    assert sorted(SAMPLERS) == sorted(comfy.pack("gsn.host.sampling").SAMPLERS)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_an_edit_that_changes_nothing_is_exact_for_every_sampler(comfy, name, masked):
    def prompt(patch):
        nodes = graph(patch, sampler_name=name, steps=4)
        nodes["4"]["inputs"].update(width=64, height=64, batch_size=1)
        if masked:
            nodes["m"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 32, "height": 64}}
            nodes["n"] = {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["4", 0], "mask": ["m", 0]}}
            nodes["out"]["inputs"]["latent_image"] = ["n", 0]
        return nodes

    plain = samples(comfy.run(prompt([]), ["out"]))
    off = samples(comfy.run(prompt([refine(iterations=0)]), ["out"]))
    assert torch.equal(off, plain)
    same = samples(comfy.run(prompt([refine(iterations=1, lr=0.0)]), ["out"]))
    if name not in RESTARTED:
        assert torch.equal(same, plain)
    moved = samples(comfy.run(prompt([refine(iterations=1, lr=0.5)]), ["out"]))
    assert not torch.equal(moved, same)


def test_only_the_masked_in_part_moves(comfy):
    nodes = graph([refine(lr=0.3)], steps=4)
    nodes["m"] = {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 128, "height": 104}}
    nodes["n"] = {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["4", 0], "mask": ["m", 0]}}
    nodes["out"]["inputs"]["latent_image"] = ["n", 0]
    result = comfy.run(nodes, ["out", ("p0", 1)])
    assert max(trace_of(result).records[-1].update_rms) == 0


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


def test_gsn_ksampler_gives_the_stock_pictures(comfy):
    nodes = graph([refine()])
    inputs = {**nodes["out"]["inputs"], "model": ["1", 0], "method": "paper", "step": 2, "step_unit": "index"}
    inputs |= {"iterations": 3, "lr": 0.05, "step_size": 20.0}
    nodes["k"] = {"class_type": "GSNKSampler", "inputs": inputs}
    result = comfy.run(nodes, ["out", "k", ("k", 1), ("k", 2)])
    assert torch.equal(result.check()["k"]["samples"], samples(result))
    assert torch.equal(result["k", 1]["samples"], samples(comfy.run(graph(), ["out"])))
    assert len(result["k", 2].trace.records) == 4

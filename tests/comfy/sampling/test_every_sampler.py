"""Every sampler of ComfyUI, whole and masked, batch 1 and 3: off is exact, and so is an edit that changes nothing."""

import pytest
import torch

from ..graphs import graph, guide, left_half_only, refine, samples

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
]
# these are started again at the refined step, so an edit that changes nothing still moves the picture
RESTARTED = {"dpm_fast", "dpm_adaptive", "sa_solver", "sa_solver_pece", "uni_pc", "uni_pc_bh2"}
OFF = [refine(iterations=0), guide(step_size=0.0, first_step=1, last_step=2)]


def prompt(patch, name, masked, batch):
    """Four steps of a UNet of few blocks at 64x64; with a mask, only the left half may change."""
    nodes = graph(patch, sampler_name=name, steps=4)
    if name == "dpm_adaptive":  # chooses its own steps: fewer of them for a part of the noise
        nodes["out"]["inputs"]["denoise"] = 0.3
    nodes["4"]["inputs"].update(width=64, height=64, batch_size=batch)
    return left_half_only(nodes, 64, 64) if masked else nodes


def test_the_list_of_samplers_is_complete(comfy):
    assert sorted(SAMPLERS) == sorted(comfy.pack("gsn.host.sampling.ksampler").SAMPLERS)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_off_and_an_edit_that_changes_nothing_are_exact(comfy, name, masked, batch):
    session = comfy.session()
    plain, off, same, moved = (
        samples(session.run(prompt(patch, name, masked, batch), ["out"]))
        for patch in ([], OFF, [refine(iterations=1, lr=0.0)], [refine(iterations=1, lr=0.5)])
    )
    assert torch.equal(off, plain)
    if name not in RESTARTED:
        assert torch.equal(same, plain)
    assert all(not torch.equal(moved[i], same[i]) for i in range(batch))

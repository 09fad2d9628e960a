"""Many seeds and many methods in one workflow: every picture is the one that it would be alone."""

import json

import pytest
import torch

from ..graphs import graph, refine, samples

EACH_ALONE = [
    ("ddpm", "sd_xs", []),
    ("euler", "sd_xs", []),
    ("euler_ancestral", "sd_xs", [refine()]),
    ("dpmpp_2m_sde", "sd_xs", [refine()]),
    ("dpmpp_sde_gpu", "sd_xs", []),
    ("er_sde", "sd_xs", []),
    ("sa_solver", "sd_xs", [refine()]),
    ("euler", "sd3", [refine()]),
]


def seeded(seeds, count, patch, **sampler):
    nodes = graph([("GSNSeeds", {"seeds": seeds}), *patch], **sampler)
    nodes["4"]["inputs"]["batch_size"] = count
    return nodes


def alone(seed, patch, **sampler):
    nodes = graph(patch, seed=seed, **sampler)
    nodes["4"]["inputs"]["batch_size"] = 1
    return nodes


@pytest.mark.parametrize(("sampler", "family", "patch"), EACH_ALONE)
def test_an_image_of_a_batch_is_its_seeds_own(comfy, sampler, family, patch):
    """Toy models in float32: what is left is rounding, while another noise would differ by 1."""
    options = {"family": family, "sampler_name": sampler}
    batch = samples(comfy.run(seeded("7, 3", 2, patch, seed=99, **options), outputs=["out"]))
    for image, seed in zip(batch, (7, 3), strict=True):
        one = samples(comfy.run(alone(seed, patch, **options), outputs=["out"]))
        # a sampler that is restarted counts the parts from its own seed, which is the image's here
        torch.testing.assert_close(image, one[0], rtol=1e-3, atol=2e-3)


def test_the_order_of_the_nodes_does_not_matter(comfy):
    patch = [refine(), ("GSNSeeds", {"seeds": "7, 3"})]
    other = graph(patch, sampler_name="ddpm")
    one = seeded("7, 3", 2, [refine()], sampler_name="ddpm")
    first, second = (samples(comfy.run(nodes, outputs=["out"])) for nodes in (one, other))
    assert torch.equal(first, second)


def test_one_seed_is_the_stock_run(comfy):
    made = samples(comfy.run(seeded("5", 1, [], seed=0, sampler_name="ddpm"), outputs=["out"]))
    stock = samples(comfy.run(alone(5, [], sampler_name="ddpm"), outputs=["out"]))
    assert torch.equal(made, stock)


def test_too_few_seeds_are_refused(comfy):
    result = comfy.run(seeded("1, 2, 3", 2, []), outputs=["out"])
    assert "GSNSeeds: 3 seeds for a batch of 2" in result.error and "batch_size" in result.error


def test_nothing_stays_behind(comfy):
    """The sampler's function is its own again, after success and after an error."""
    session = comfy.session()
    before = samples(session.run(graph(sampler_name="ddpm"), outputs=["out"]))
    session.run(seeded("1, 2, 3", 2, [], sampler_name="ddpm"), outputs=["out"])
    session.run(seeded("1, 2", 2, [], sampler_name="ddpm"), outputs=["out"]).check()
    assert torch.equal(samples(session.run(graph(sampler_name="ddpm", seed=2), outputs=["out"])),
                       samples(comfy.run(graph(sampler_name="ddpm", seed=2), outputs=["out"])))  # fmt: skip
    assert torch.equal(before, samples(comfy.run(graph(sampler_name="ddpm"), outputs=["out"])))


def test_a_sweep_runs_the_rest_once_for_each_method(comfy):
    nodes = graph([("GSNSweep", {"methods": "plain\nfast @ 2\n\nfast"})], sampler_name="ddpm")
    nodes["out"]["inputs"]["steps"] = 6
    result = comfy.run(nodes, outputs=[("p0", 2), "out"]).check()
    assert result["p0", 2] == "fast"  # the keeper is run for each, and keeps the last
    alone_at_2 = graph([("SingleStepIterRef", {"step": 2, "step_unit": "index", "iterations": 10, "lr": 0.05})],
                       sampler_name="ddpm")  # fmt: skip
    one = graph([("GSNSweep", {"methods": "fast @ 2"})], sampler_name="ddpm")
    assert torch.equal(samples(comfy.run(one, outputs=["out"])), samples(comfy.run(alone_at_2, outputs=["out"])))


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ("nobody", "there is no method 'nobody'"),
        ("InitNO @ 3", "'InitNO' has 0 refinements"),
        ("Ours @ 1, 2", "names 2 steps"),
        ("Ours @ early", "cannot read the step 'early'"),
        ("Ours\nOurs", "listed twice"),
        ("Ours (SD 3)", "names noise levels of flow models"),
        (" ", "no method is listed"),
        ("none.json", "there is no preset file 'none.json'"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(comfy, methods, said):
    result = comfy.run(graph([("GSNSweep", {"methods": methods})]), outputs=["out"])
    assert "GSNSweep" in result.error and said in result.error


def test_every_method_runs_with_every_prompt(comfy):
    """The prompts and methods of two lists, multiplied, reach the score with the label of what made each picture."""
    wires = {"model": ["sweep", 0], "positive": ["p", 0], "negative": ["n", 0], "latent_image": ["l", 0]}
    settings = {"seed": 3, "steps": 3, "cfg": 3.0, "sampler_name": "ddim", "scheduler": "ddim_uniform", "denoise": 1.0}
    prompts = {"set": "demo models, 2 entities", "set.split": "test", "set.count": 2, "index": -1}
    lists = {"model": ["m", 0], "methods": "plain\nfast @ 0\nfast @ 1", "prompt": ["set", 0], "case": ["set", 1]}
    asked = {"image": ["pictures", 0], "case": ["sweep", 4], "label": ["sweep", 2], "prompt": ""}
    nodes = {
        "m": {"class_type": "GSNDemoModel", "inputs": {"which": "unet"}},
        "set": {"class_type": "GSNPromptSet", "inputs": prompts},
        "sweep": {"class_type": "GSNSweep", "inputs": lists},
        "p": {"class_type": "GSNSubjects", "inputs": {"clip": ["m", 1], "text": ["sweep", 3], "subjects": ""}},
        "n": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["m", 1], "text": ""}},
        "l": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}},
        "k": {"class_type": "KSampler", "inputs": settings | wires},
        "pictures": {"class_type": "VAEDecode", "inputs": {"samples": ["k", 0], "vae": ["m", 2]}},
        "score": {"class_type": "GSNTIAMScore",
                  "inputs": asked | {"detector": "demo detector", "detector.threshold": 0.5}},
        "best": {"class_type": "GSNStepSelection",
                 "inputs": {"scores": ["score", 2], "file": "", "preset": "fast", "model": ["m", 0], "steps": 3,
                            "scheduler": "ddim_uniform"}},
    }  # fmt: skip
    result = comfy.run(nodes, ["pictures", ("score", 1), ("score", 2), ("best", 2), ("best", 3)]).check()
    cases = comfy.pack("gsn.text.prompt_sets").demo_set("2 entities", "test", 2).cases
    labels = ["plain", "fast @ 0", "fast @ 1"]
    images = json.loads(result["score", 2])["images"]
    assert [(one["prompt"], one["label"]) for one in images] == [(case.text, name) for case in cases for name in labels]
    assert "2 prompts, 6 images of 3 labels together" in result["score", 1]
    assert "step 0)" in result["best", 2] and "step 1)" in result["best", 2]  # the candidates; plain is none
    assert "step chosen on 4 images of fast" in result["best", 3]
    nodes["sweep"]["inputs"] = {"model": ["m", 0], "methods": "fast @ 1"}
    nodes["p"]["inputs"]["text"] = cases[1].marked
    del nodes["score"], nodes["best"], nodes["set"]
    alone = comfy.run(nodes, ["pictures"]).check()
    assert torch.equal(result["pictures"], alone["pictures"])  # a kept list is its last batch

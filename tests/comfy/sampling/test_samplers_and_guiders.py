"""Every stock way to sample: the refinement acts at the right step, and off is exactly the plain run. Batch 3."""

import pytest
import torch

from ..graphs import capture, graph, guide, left_half_only, refine, samples


def base(patch, **sampler):
    nodes = graph(patch, **sampler)
    nodes["4"]["inputs"]["batch_size"] = 3
    return nodes, nodes["out"]["inputs"]["model"]


def advanced(patch):
    """Steps 1 to 5 of 6, with the noise left in."""
    nodes, model = base(patch)
    settings = {"add_noise": "enable", "noise_seed": 1, "steps": 6, "cfg": 5.0, "sampler_name": "dpmpp_2m"}
    settings |= {"scheduler": "normal", "start_at_step": 1, "end_at_step": 5, "return_with_leftover_noise": "enable"}
    wires = {"model": model, "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    nodes["out"] = {"class_type": "KSamplerAdvanced", "inputs": settings | wires}
    return nodes


def _custom_inputs(nodes, model):
    nodes["s"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "heun"}}
    scheduler = {"model": model, "scheduler": "karras", "steps": 5, "denoise": 1.0}
    nodes["g"] = {"class_type": "BasicScheduler", "inputs": scheduler}
    return {"sampler": ["s", 0], "sigmas": ["g", 0], "latent_image": ["4", 0]}


def custom(patch):
    nodes, model = base(patch)
    wires = {"model": model, "add_noise": True, "noise_seed": 1, "cfg": 5.0, "positive": ["2", 0], "negative": ["3", 0]}
    nodes["out"] = {"class_type": "SamplerCustom", "inputs": wires | _custom_inputs(nodes, model)}
    return nodes


def _guided(patch, kind, inputs):
    nodes, model = base(patch)
    nodes["b"] = {"class_type": kind, "inputs": {"model": model, **inputs}}
    nodes["r"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": 1}}
    wires = {"noise": ["r", 0], "guider": ["b", 0]} | _custom_inputs(nodes, model)
    nodes["out"] = {"class_type": "SamplerCustomAdvanced", "inputs": wires}
    return nodes


def basic_guider(patch):
    return _guided(patch, "BasicGuider", {"conditioning": ["2", 0]})


def cfg_guider(patch):
    return _guided(patch, "CFGGuider", {"positive": ["2", 0], "negative": ["3", 0], "cfg": 5.0})


def dual_cfg_guider(patch):
    conds = {"cond1": ["2", 0], "cond2": ["3", 0], "negative": ["3", 0]}
    return _guided(patch, "DualCFGGuider", conds | {"cfg_conds": 4.0, "cfg_cond2_negative": 2.0, "style": "regular"})


def partial_denoise(patch):
    """Picture to picture: the last 6 of 10 steps."""
    return base(patch, denoise=0.6, seed=2)[0]


WAYS = [advanced, custom, basic_guider, cfg_guider, dual_cfg_guider, partial_denoise]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_refined_at_the_chosen_step_and_off_is_exact(comfy, way):
    plain = samples(comfy.run(way([]), ["out"]))
    off = comfy.run(way([refine(iterations=0)]), ["out", ("p0", 1)])
    assert torch.equal(samples(off), plain)
    assert not off["p0", 1].trace.records
    assert torch.equal(samples(comfy.run(way([refine(iterations=1, lr=0.0)]), ["out"])), plain)
    result = comfy.run(way([refine()]), ["out", ("p0", 1)])
    moved, trace = samples(result), result["p0", 1].trace
    assert trace.batch == 3 and trace.stops[0].iterations == [3, 3, 3]
    assert [r.step.index for r in trace.records] == [2] * 4
    assert all(after < before for before, after in zip(trace.records[0].loss, trace.records[-1].loss, strict=True))
    assert all(not torch.equal(moved[i], plain[i]) for i in range(3))


@pytest.mark.parametrize("way", [advanced, partial_denoise], ids=lambda way: way.__name__)
def test_a_step_is_counted_in_the_run_that_is_sampled(comfy, way):
    """The noise level of index 2 is the third of the levels that this run really goes through."""
    nodes = way([refine(iterations=1)])
    result = comfy.run(nodes, [("p0", 1), ("1", 0), "out"])
    inputs = nodes["out"]["inputs"]
    import comfy.samplers as host

    steps = int(inputs["steps"] / inputs.get("denoise", 1.0))
    sampling = result.check()["1"].get_model_object("model_sampling")
    every = host.calculate_sigmas(sampling, "normal", steps)
    levels = every[-(inputs["steps"] + 1) :] if "denoise" in inputs else every[inputs["start_at_step"] :]
    assert result["p0", 1].trace.records[0].step.sigma == pytest.approx(float(levels[2]), rel=1e-5)


def test_a_chain_acts_alike_in_both_orders(comfy):
    """Capture looks first, then the refinement, then guidance: the papers' order, however the nodes are wired."""
    parts = (refine(), guide(first_step=2, last_step=3), capture(record_steps="2, 4"))
    pictures = []
    for order in (parts, parts[::-1]):
        result = comfy.run(base(order)[0], ["out", *[(f"p{i}", 1) for i in range(3)]])
        trace = result.check()["p0", 1].trace
        assert result["p1", 1].trace is trace and result["p2", 1].trace is trace
        acted = dict.fromkeys((r.step.index, r.action) for r in trace.records)
        assert list(acted) == [(2, "observe"), (2, "refine"), (2, "guide"), (3, "guide"), (4, "observe")]
        pictures.append(samples(result))
    assert torch.equal(*pictures)
    plain = samples(comfy.run(base([])[0], ["out"]))
    assert all(not torch.equal(pictures[0][i], plain[i]) for i in range(3))


def masked(patch):
    """A picture whose left half may change, in batch 3."""
    return left_half_only(base(patch)[0], 128, 104)


def test_a_mask_with_the_refinement_off_is_exact(comfy):
    plain = samples(comfy.run(masked([]), ["out"]))
    assert torch.equal(samples(comfy.run(masked([refine(iterations=0)]), ["out"])), plain)
    assert torch.equal(samples(comfy.run(masked([refine(lr=0.0)]), ["out"])), plain)


def test_the_refinement_moves_only_what_the_mask_lets_in(comfy):
    """Seen by a wrapper at the call of the refined step, and in the finished picture."""
    seen = {}
    finished = {}
    for name, patch in (("plain", []), ("refined", [refine(lr=0.2)])):
        nodes = masked(patch)
        model = nodes["out"]["inputs"]["model"][0]
        found = comfy.run(nodes, [(model, 0), ("2", 0), ("3", 0), ("n", 0), "out"])
        finished[name] = samples(found)
        calls = seen[name] = []

        def wrapper(function, args, calls=calls):
            if torch.is_inference_mode_enabled():
                calls.append(args["input"].clone())
            return function(args["input"], args["timestep"], **args["c"])

        patched = found[model].clone()
        patched.set_model_unet_function_wrapper(wrapper)
        sampling = comfy.pack("gsn.host.sampling.ksampler")
        with torch.inference_mode():
            sampling.sample(patched, 1, 6, 1.0, "euler", "normal", found["2"], found["3"], found["n"], 1.0)
    moved = seen["refined"][2] != seen["plain"][2]
    assert seen["refined"][2].shape[0] == 3
    assert moved[..., :8].flatten(1).any(1).all()
    assert not moved[..., 8:].any()
    moved = finished["refined"] != finished["plain"]
    assert moved[..., :8].flatten(1).any(1).all()
    assert not moved[..., 8:].any()


@pytest.fixture
def lying(comfy, monkeypatch):
    """Every sampler stands behind one that tells the model less noise than there is in the middle of the run, for finer
    detail, as two popular packs do."""
    import comfy.samplers as host

    made = host.sampler_object

    def sampler_object(name):
        sampler = made(name)
        inner = sampler.sampler_function

        def detailed(model, x, sigmas, **more):
            def told(x, sigma, **kwargs):
                return model(x, sigma * (0.9 if 1.0 < float(sigma.max()) < 10.0 else 1.0), **kwargs)

            told.inner_model, told.sigmas = model.inner_model, sigmas
            return inner(told, x, sigmas, **more)

        return host.KSAMPLER(detailed, sampler.extra_options, sampler.inpaint_options)

    monkeypatch.setattr(host, "sampler_object", sampler_object)


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde"])
def test_behind_a_sampler_that_tells_the_model_another_noise_level(comfy, lying, sampler):
    def run(*patch):
        return comfy.run(graph(patch, sampler_name=sampler), ["out", *([("p0", 1)] if patch else [])])

    plain = samples(run())
    still = run(refine(iterations=1, lr=0.0))
    assert torch.equal(samples(still), plain) and not any("restarted" in one for one in still["p0", 1].trace.notes)
    result = run(refine())
    records = result.check()["p0", 1].trace.records
    assert [one.step.index for one in records] == [2] * 4 and not torch.equal(samples(result), plain)
    assert all(after < before for before, after in zip(records[0].loss, records[-1].loss, strict=True))

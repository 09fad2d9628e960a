"""GSNInitNoise, GSNDistribution and GSNSeedSearch through ComfyUI's own executor, on the model that ships."""

import pytest
import torch

from ..graphs import capture, graph, interrupt_leaves_nothing, left_half_only, refine, samples


def better_noise(**inputs):
    settings = {"rounds": 2, "iterations": 3, "last_iterations": 6, "success": "", "lr": 0.01}
    return ("GSNInitNoise", settings | inputs)


def distribution(**inputs):
    settings = {"step": 2, "step_unit": "index", "iterations": 6, "samples": 4, "shared": True, "lr": 20.0}
    return ("GSNDistribution", settings | {"momentum": 0.4} | inputs)


def demo(patch=None, batch=2, steps=8, **sampler):
    settings = {"sampler_name": "ddim", "scheduler": "ddim_uniform"} | sampler
    nodes = graph(patch, text="a photo of a cat and a carrot", seed=3, steps=steps, **settings)
    nodes["1"] = {"class_type": "GSNDemoModel", "inputs": {"which": "unet"}}
    nodes["4"]["inputs"].update(width=64, height=64, batch_size=batch)
    return nodes


def run(comfy, *args, node="p0", **options):
    """(latents, trace) of a run of the demo graph."""
    result = comfy.run(demo(*args, **options), ["out", (node, 1)]).check()
    return result["out"]["samples"], result[node, 1].trace


@pytest.fixture(scope="module")
def plain(comfy):
    return samples(comfy.run(demo(), ["out"]))


NODES = [better_noise(), distribution(), distribution(shared=False, block=4), distribution(step_unit="auto")]


@pytest.mark.parametrize("patch", NODES)
def test_the_loss_falls_and_a_repeat_is_the_same(comfy, plain, patch):
    latents, trace = run(comfy, [patch])
    first, last = trace.records[0].loss, trace.records[-1].loss
    print(patch, first, last, trace.stops[0].reasons)
    assert sum(last) < sum(first) and not torch.equal(latents, plain)
    assert torch.isfinite(latents).all() and [k.moment for k in trace.kept] == ["before", "after"]
    assert len(trace.stops[0].reasons) == 2
    again, _ = run(comfy, [patch])
    assert torch.equal(latents, again)


OFF = [better_noise(rounds=0), better_noise(iterations=0), distribution(iterations=0)]


@pytest.mark.parametrize("patch", OFF)
def test_off_is_exact(comfy, plain, patch):
    assert torch.equal(run(comfy, [patch])[0], plain)


def test_noise_that_is_good_enough_already_is_exactly_kept(comfy, plain):
    latents, trace = run(comfy, [better_noise(success="attend_excite 1.0")])
    assert torch.equal(latents, plain) and trace.stops[0].iterations == [0, 0]


@pytest.mark.parametrize("patch", [better_noise(), distribution()])
def test_nothing_is_left_behind(comfy, plain, patch):
    session = comfy.session()
    session.run(demo([patch]), ["out"]).check()
    assert torch.equal(samples(session.run(demo(), ["out"])), plain)


@pytest.mark.parametrize("patch", [better_noise(rounds=1), distribution(shared=False)])
def test_interrupted_it_leaves_nothing(comfy, monkeypatch, patch):
    interrupt_leaves_nothing(comfy, monkeypatch, demo([patch]), demo())


def test_they_chain_with_the_others_in_the_methods_order(comfy):
    patches = [refine(step=0, iterations=1), distribution(step=0, iterations=1), better_noise(rounds=1, iterations=1)]
    _, trace = run(comfy, [*patches, capture(record_steps="0")])
    assert list(dict.fromkeys(r.action for r in trace.records)) == ["observe", "distribution", "init_noise", "refine"]


def test_actions_of_one_step_draw_noise_of_their_own_and_one_alone_as_ever(comfy, monkeypatch):
    context, drawn = comfy.pack("gsn.interventions.context").Context, {}
    noises, fresh_noise = [], context.fresh_noise

    def watched(self, like):
        noise = fresh_noise(self, like)
        noises.append(noise)
        return noise

    monkeypatch.setattr(context, "fresh_noise", watched)
    noise, gaussian = better_noise(iterations=1), distribution(step=0, iterations=1)
    plans = {
        "noise": [noise], "gaussian": [gaussian], "both": [noise, gaussian], "again": [noise, gaussian],
        "watched": [refine(step=0, iterations=1), noise, capture(record_steps="0")],
    }  # fmt: skip
    for name, patch in plans.items():
        run(comfy, patch)
        drawn[name], noises[:] = list(noises), []
    alone, after = drawn["gaussian"], drawn["both"][len(drawn["gaussian"]) :]
    assert [torch.equal(a, b) for a, b in zip(drawn["both"], alone, strict=False)] == [True] * len(alone)
    assert len(after) == len(drawn["noise"]) > 0
    assert not any(torch.equal(a, b) for a in after for b in (*alone, *drawn["noise"]))
    for name, same in (("again", "both"), ("watched", "noise")):
        assert all(torch.equal(a, b) for a, b in zip(drawn[name], drawn[same], strict=True))
    first = torch.Generator().manual_seed(hash((3, 0)) % 2**63)  # a single action's, of seed 3 at step 0
    assert torch.equal(drawn["noise"][0], torch.randn(drawn["noise"][0].shape, generator=first))


def test_one_distributions_images_share_its_mean(comfy):
    """At the step itself z = m + s noise, so what the images do not share is their noise."""
    seen = {}
    intervention = comfy.pack("gsn.interventions.distribution").Distribution
    apply = intervention.apply

    def watched(self, latent, forwards, context):
        seen["z"], seen["context"] = apply(self, latent, forwards, context), context
        return seen["z"]

    with pytest.MonkeyPatch.context() as change:
        change.setattr(intervention, "apply", watched)
        run(comfy, [distribution(iterations=2)])
    level, noise = seen["context"].level, seen["context"].initial_noise
    assert level.alpha**2 + level.spread**2 == pytest.approx(1.0, abs=1e-5)
    means = seen["z"] - level.spread * noise
    assert torch.allclose(means[0], means[1], atol=1e-4)
    assert seen["context"].denoised.shape == noise.shape


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "heun", "uni_pc", "dpmpp_2s_ancestral"])
def test_every_kind_of_sampler_has_the_clean_estimate_of_the_step_before(comfy, sampler):
    _, trace = run(comfy, [distribution(iterations=2)], sampler_name=sampler, scheduler="normal")
    assert trace.records[-1].step.index == 2
    assert not [note for note in trace.notes if "clean estimate" in note]
    assert bool([note for note in trace.notes if "noise of its own" in note]) == ("ancestral" in sampler)


def test_a_distribution_at_the_first_step_says_that_it_has_no_estimate(comfy):
    latents, trace = run(comfy, [distribution(step=0, iterations=2)])
    assert "no clean estimate" in trace.notes[0] and torch.isfinite(latents).all()


FORETOLD = {
    "no estimate": (distribution(step=0, iterations=1), {}, "GSNDistribution: a run has no clean estimate"),
    "its own noise": (distribution(step=4, iterations=1), {"sampler_name": "ddpm"}, "GSNDistribution: sampler"),
}


@pytest.mark.parametrize("case", FORETOLD)
def test_what_does_not_suit_a_distribution_is_told_before_the_first_model_call(comfy, monkeypatch, caplog, case):
    import comfy.samplers as host

    patch, sampler, words = FORETOLD[case]
    call, before = host.sampling_function, []

    def watched(*args, **kwargs):
        before.append([message for message in caplog.messages if message.startswith(words)])
        return call(*args, **kwargs)

    monkeypatch.setattr(host, "sampling_function", watched)
    _, trace = run(comfy, [patch], batch=1, steps=6, **sampler)
    assert len(before) > 5 and len(before[0]) == len(before[-1]) == 1  # said once, before the first of them
    assert before[0] == [note for note in trace.notes if note.startswith(words)]


def test_flow_models_carry_both(comfy):
    nodes = graph([better_noise(rounds=2, iterations=2, last_iterations=1), distribution(iterations=2)], family="sd3")
    result = comfy.run(nodes, ["out", ("p0", 1)]).check()
    assert {r.action for r in result["p0", 1].trace.records} == {"init_noise", "distribution"}
    assert torch.isfinite(result["out"]["samples"]).all()


# ---- image to image, masks, runs in parts ----------------------------------------------------------------


def picture_to_picture(patch, **sampler):
    """The demo graph on a picture that a run without a patch has made."""
    nodes = demo(patch, denoise=0.7, **sampler)
    first = dict(nodes["out"]["inputs"], model=["1", 0], denoise=1.0, seed=9)
    nodes["first"] = {"class_type": "KSampler", "inputs": first}
    nodes["out"]["inputs"]["latent_image"] = ["first", 0]
    return nodes


def test_image_to_image_keeps_its_picture_part(comfy):
    seen = {}
    intervention = comfy.pack("gsn.interventions.init_noise").InitNoise
    apply = intervention.apply

    def watched(self, latent, forwards, context):
        seen.update(before=latent.clone(), after=apply(self, latent, forwards, context), context=context)
        return seen["after"]

    with pytest.MonkeyPatch.context() as change:
        change.setattr(intervention, "apply", watched)
        result = comfy.run(picture_to_picture([better_noise(rounds=3, lr=0.0)]), ["out", "first", "1"]).check()
    context = seen["context"]
    picture = context.level.alpha * result["1"].model.process_latent_in(result["first"]["samples"])
    assert torch.allclose(seen["before"] - context.level.spread * context.initial_noise, picture, atol=1e-4)
    fresh = (seen["after"] - picture) / context.level.spread
    assert 0.85 < float(fresh.std()) < 1.15


@pytest.mark.parametrize("patch", [better_noise(), distribution()])
def test_a_mask_holds(comfy, patch):
    """Outside the mask the picture stays as it was."""
    nodes = picture_to_picture([patch])
    nodes = left_half_only(nodes, 128, 128)
    nodes["n"]["inputs"]["samples"] = ["first", 0]
    result = comfy.run(nodes, ["out", "first"]).check()
    latents, picture = result["out"]["samples"], result["first"]["samples"]
    assert torch.allclose(latents[..., 8:], picture[..., 8:], atol=1e-4)
    assert not torch.allclose(latents[..., :8], picture[..., :8], atol=1e-2)


def test_the_part_of_a_run_that_adds_no_noise(comfy):
    """KSamplerAdvanced in two parts on one MODEL: the second leaves the noise alone, but can learn a distribution."""
    nodes = demo([better_noise(rounds=1, last_iterations=0), distribution(step=1, iterations=1)])
    shared = {k: v for k, v in nodes["out"]["inputs"].items() if k not in ("seed", "denoise")} | {"noise_seed": 3}
    part = {"add_noise": "enable", "start_at_step": 0, "end_at_step": 3, "return_with_leftover_noise": "enable"}
    nodes["a"] = {"class_type": "KSamplerAdvanced", "inputs": shared | part}
    rest = {"add_noise": "disable", "start_at_step": 3, "end_at_step": 99, "return_with_leftover_noise": "disable"}
    nodes["out"] = {"class_type": "KSamplerAdvanced", "inputs": shared | rest | {"latent_image": ["a", 0]}}
    result = comfy.run(nodes, ["out", ("p0", 1)]).check()
    notes = " ".join(result["p0", 1].trace.notes)  # of the second part
    assert "none to optimise" in notes and "other noise of the same seed" in notes
    assert torch.isfinite(result["out"]["samples"]).all()


# ---- refusals --------------------------------------------------------------------------------------------

REFUSED = {
    "level": (better_noise(success="iou low"), "cannot read the level 'iou low'"),
    "unknown": (better_noise(success="syntax 0.2"), "names the loss 'syntax'"),
    "unreachable": (better_noise(success="attend_excite -1"), "cannot reach"),
    "step": (distribution(step=99), "past the end"),
    "keep": ({"keep": 5, "candidates": 4}, "keep is 5"),
    "look": ({"look_at_step": 8}, "look_at_step is 8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_before_the_first_model_call(comfy, monkeypatch, case):
    patch, told = REFUSED[case]
    nodes = searching(**patch) if isinstance(patch, dict) else demo([patch])

    def called(*args, **kwargs):
        raise AssertionError("the model was called")

    monkeypatch.setattr(comfy.pack("gsn.host.attention.forward").EntryForward, "__call__", called)
    result = comfy.run(nodes, ["out"])
    assert not result.ok and told in result.error, result.error


# ---- the search ------------------------------------------------------------------------------------------


def searching(patch=None, **inputs):
    """The demo graph whose KSampler starts from what a search chose."""
    nodes = demo(patch)
    common = {k: v for k, v in nodes["out"]["inputs"].items() if k != "denoise"} | {"model": ["1", 0]}
    settings = {"candidates": 5, "look_at_step": 2, "keep": 1} | inputs
    nodes["search"] = {"class_type": "GSNSeedSearch", "inputs": common | settings}
    nodes["out"]["inputs"] |= {"latent_image": ["search", 0], "seed": ["search", 1]}
    return nodes


def test_the_chosen_noise_gives_the_picture_of_its_place_in_the_big_batch(comfy):
    big = samples(comfy.run(demo(batch=5), ["out"]))
    result = comfy.run(searching(keep=5), ["out", "search"]).check()
    order = result["search"]["batch_index"]
    assert sorted(order) == [0, 1, 2, 3, 4] and order != sorted(order)
    assert torch.equal(samples(result), big[order])  # a batch of five, in another order


def test_the_best_one_alone(comfy):
    """One image is computed by other kernels than five, so to rounding; its noise is the same bit for bit."""
    from comfy.sample import prepare_noise

    result = comfy.run(searching(), ["out", "search"]).check()
    latent = result["search"]
    (index,) = latent["batch_index"]
    empty = torch.zeros(5, 4, 8, 8)
    noise = prepare_noise(latent["samples"], 3, latent["batch_index"])
    assert torch.equal(noise[0], prepare_noise(empty, 3)[index])
    big = samples(comfy.run(demo(batch=5), ["out"]))
    print("largest difference", float((samples(result)[0] - big[index]).abs().max()))
    assert torch.allclose(samples(result)[0], big[index], atol=1e-4)


def test_the_order_is_that_of_the_loss_at_the_step(comfy):
    result = comfy.run(searching(keep=2), ["search", ("search", 2), ("search", 3)]).check()
    trace, table = result["search", 3].trace, result["search", 2]
    nodes = demo([capture(record_steps="2")], batch=5)
    seen = comfy.run(nodes, ["out", ("p0", 1)]).check()["p0", 1].trace
    (record,) = trace.records
    assert record.loss == pytest.approx(seen.records[0].loss, rel=1e-4) and record.step == seen.records[0].step
    order = sorted(range(5), key=lambda i: record.loss[i])
    assert result["search"]["batch_index"] == order[:2]
    rows = [line for line in table.splitlines() if line[:6].strip().isdigit()]
    assert [int(row.split()[0]) for row in rows] == order
    assert [row.endswith("kept") for row in rows] == [True, True, False, False, False]
    print(table)
    assert trace.batch == 5 and trace.kept[0].maps.shape[0] == 5 and trace.labels == ("cat", "carrot")


def test_candidates_in_parts_are_the_same_candidates(comfy):
    whole = comfy.run(searching(keep=5, together=5), ["search"]).check()["search"]
    parts = comfy.run(searching(keep=5, together=2), ["search"]).check()["search"]
    assert whole["batch_index"] == parts["batch_index"] and torch.equal(whole["samples"], parts["samples"])


def test_the_search_is_of_the_loss_that_is_connected_and_leaves_other_nodes_out(comfy):
    nodes = searching([refine()])
    nodes["l"] = {"class_type": "GSNLoss", "inputs": {"method": "iou", "weight": 1.0}}
    nodes["search"]["inputs"] |= {"loss": ["l", 0], "model": ["p0", 0]}
    result = comfy.run(nodes, ["out", ("search", 3), ("p0", 1)]).check()
    assert [list(r.terms) for r in result["search", 3].trace.records] == [["iou"]]
    assert {r.action for r in result["p0", 1].trace.records} == {"refine"}


def test_the_custom_sampler_nodes_draw_the_chosen_noise(comfy):
    nodes = searching(keep=2)
    stock = samples(comfy.run(nodes, ["out"]))
    nodes["s"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "ddim"}}
    scheduler = {"model": ["1", 0], "scheduler": "ddim_uniform", "steps": 8, "denoise": 1.0}
    nodes["g"] = {"class_type": "BasicScheduler", "inputs": scheduler}
    nodes["r"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": ["search", 1]}}
    guider = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "cfg": nodes["out"]["inputs"]["cfg"]}
    nodes["b"] = {"class_type": "CFGGuider", "inputs": guider}
    wires = {"noise": ["r", 0], "guider": ["b", 0], "sampler": ["s", 0], "sigmas": ["g", 0]}
    nodes["out"] = {"class_type": "SamplerCustomAdvanced", "inputs": wires | {"latent_image": ["search", 0]}}
    assert torch.equal(samples(comfy.run(nodes, ["out"])), stock)


def test_a_prompt_without_subjects_cannot_be_searched(comfy):
    nodes = searching()
    nodes["2"]["inputs"]["text"] = "beautiful, stunning"
    result = comfy.run(nodes, ["out"])
    assert not result.ok and "GSNSeedSearch" in result.error and "no subjects" in result.error


def test_one_subject_alone_and_the_search_says_what_it_does_not_compare(comfy):
    nodes = searching(together=2)
    nodes["2"]["inputs"]["text"] = "a photo of a cat"
    (note,) = comfy.run(nodes, [("search", 3)]).check()["search", 3].trace.notes
    assert note.startswith("GSNSeedSearch: with 1 subject (cat) the loss 'iou' does nothing")
    assert note.endswith("what is measured is 0.5 attend_excite")

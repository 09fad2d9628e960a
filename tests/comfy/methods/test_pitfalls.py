"""Where the reference codes go wrong, in what needs a model to show: the list is tests/unit/house/test_pitfalls.py."""

import pytest
import torch

from ..graphs import graph, guide, refine


@pytest.fixture
def moves(comfy, monkeypatch):
    """moves(nodes) -> how the sampler's latent is changed at the opened steps, in the papers' scale."""
    run = comfy.pack("gsn.host.sampling.run").Run
    edit, found = run.edit, []

    def watching(self, x, index, *rest):
        before = x.clone()
        edit(self, x, index, *rest)
        sigma = self.facts.schedule.sigmas[index]
        found.append((x - before) / (sigma**2 + 1) ** 0.5)

    monkeypatch.setattr(run, "edit", watching)

    def of(nodes):
        found.clear()
        comfy.run(nodes, ["out"]).check()
        return torch.stack(found)

    return of


SMALL = {
    "guidance": (guide(step_size=0.25, last_step=3), guide(step_size=0.5, last_step=3)),
    "refinement": (refine(lr=3e-5), refine(lr=6e-5)),
}


@pytest.mark.parametrize("kind", SMALL)
def test_small_updates_of_a_bf16_models_latent_are_not_rounded_away(moves, kind):
    """bf16 has no number between 1 and 1.0078: an update of less than half of that would be lost in it.

    The rounding of the gradient itself grows with them: it leaves 0.009 here, and 0.02 where they are three times as
    large.
    """
    half, whole = (graph([patch]) for patch in SMALL[kind])
    for nodes in (half, whole):
        nodes["1"]["inputs"] |= {"dtype": "bf16", "compute": "bf16"}
    half, whole = moves(half), moves(whole)
    assert 0 < float(whole.abs().max()) < 0.0039
    assert float((2 * half - whole).norm() / whole.norm()) < 0.02


@pytest.mark.parametrize("joint", [False, True])
def test_logits_that_overflow_half_precision_are_computed_in_single(comfy, joint):
    """Queries and keys of up to 300: their products are far above 65504, where half precision ends."""
    attention = comfy.pack("gsn.host.families").TextAttention
    torch.manual_seed(0)
    q, k = (torch.randn(1, 2, n, 16).mul(100).half() for n in (6, 9))
    text = slice(2, 7) if joint else slice(0, 9)
    found = comfy.pack("gsn.host.attention.softmax").text_probabilities(attention(q, k, text, (2, 3), 1e-4))
    logits = q.double() @ k.double().transpose(-1, -2)
    assert float(logits.abs().max()) > 65504
    wanted = (logits * 1e-4).softmax(-1).mean(1)[..., text]
    assert found.dtype == torch.float32 and torch.allclose(found.double(), wanted, atol=1e-5)


def test_a_gradient_too_small_for_half_precision_arrives(comfy, monkeypatch):
    """A ten thousandth of the loss has a ten thousandth of the gradient, as if the model ran in single precision."""
    found = []

    def apply(self, latent, forwards, context):
        objective = context.objective
        for factor in (1.0, 1e-4):
            context.objective = objective.scaled(factor)
            found.append(context.evaluate(latent, forwards).gradient / factor)
        return latent

    monkeypatch.setattr(comfy.pack("gsn.interventions.refine").Refine, "apply", apply)
    nodes = graph([refine()])
    nodes["1"]["inputs"] |= {"dtype": "fp16", "compute": "fp16"}
    comfy.run(nodes, ["out"]).check()
    whole, small = found
    print(float(whole.abs().max()), float((small - whole).norm() / whole.norm()))
    assert torch.isfinite(whole).all() and float(whole.norm()) > 0
    assert float((small - whole).norm() / whole.norm()) < 0.05


@pytest.mark.parametrize("step", [0, 2])
def test_both_branches_see_the_refined_latent(comfy, step):
    """Classifier-free guidance compares the two at one place: only the prompt may differ."""
    import comfy.sample as host

    found = comfy.run(graph([refine(step=step)]), [("1", 0), ("p0", 0), ("2", 0), ("3", 0)]).check()

    def inputs(model):
        """[steps, branch (0 the prompt's, 1 the other's), ...] of the sampler's own calls."""
        calls = []

        def wrapper(function, args):
            if torch.is_inference_mode_enabled():  # not the refinement's
                rows = args["input"].chunk(len(args["cond_or_uncond"]))
                calls.extend(zip(args["cond_or_uncond"], (one.clone() for one in rows), strict=True))
            return function(args["input"], args["timestep"], **args["c"])

        model = found[model].clone()
        model.set_model_unet_function_wrapper(wrapper)
        noise = torch.randn(2, 4, 13, 16, generator=torch.Generator().manual_seed(3))
        with torch.inference_mode():
            empty = torch.zeros_like(noise)
            host.sample(
                model, noise, 4, 5.0, "euler", "normal", found["2"], found["3"], empty, disable_pbar=True, seed=1
            )
        return torch.stack([torch.stack([x for kind, x in calls if kind == branch]) for branch in (0, 1)], 1)

    plain, refined = inputs("1"), inputs("p0")
    assert plain.shape[:2] == refined.shape[:2] == (4, 2)
    assert torch.equal(refined[:, 0], refined[:, 1])
    assert torch.equal(refined[:step], plain[:step])
    changed = (refined[step] - plain[step]).flatten(2).abs().amax(2)
    assert (changed > 1e-3).all(), "in every image and both branches"

"""Our refinement against an independent one: diffusers' UNet, and the papers' formulas written again here."""

import pytest
import torch
import torch.nn.functional as F

from ..graphs import refine
from ..graphs import sd15_graph as graph

ITERATIONS, RATE, STEP = 5, 0.05, 2
CAT, DOG = 5, 8  # "a photo of a cat and a dog" behind the start token


class Reading:
    """A diffusers attention processor that also keeps the attention probabilities."""

    def __init__(self):
        self.seen = []

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None, **kwargs):
        q, k, v = (attn.head_to_batch_dim(x) for x in (
            attn.to_q(hidden_states), attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states)))  # fmt: skip
        probabilities = attn.get_attention_scores(q, k)
        self.seen.append(probabilities.unflatten(0, (-1, attn.heads)))
        return attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(probabilities @ v)))


@pytest.fixture(scope="module")
def diffusers_unet():
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    torch.manual_seed(5)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64, 64, 64), layers_per_block=2, cross_attention_dim=64, attention_head_dim=2
    )
    for name, p in unet.named_parameters():
        if "attn2.to_q" in name or "attn2.to_k" in name:
            p.data *= 3  # attention that differs from place to place
    return unet.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def refined(comfy, diffusers_unet):
    """run(noise, patched) -> (z entering the step, text, sigma); ComfyUI's sampler on diffusers' weights."""
    import comfy.sample as host
    from comfy.utils import unet_to_diffusers

    found = comfy.run(
        graph([refine(step=STEP, iterations=ITERATIONS, lr=RATE)]), [("1", 0), ("p0", 0), ("2", 0), ("3", 0)]
    )
    model = found["1"].model
    names = unet_to_diffusers(model.model_config.unet_config)
    state = {names[key]: value for key, value in diffusers_unet.state_dict().items()}
    with torch.inference_mode():
        model.diffusion_model.load_state_dict(state, strict=True)

    def run(noise, patched):
        entering = []

        def wrapper(function, args):
            if torch.is_inference_mode_enabled():  # the sampler's own calls, not those of the refinement
                entering.append((args["input"].clone(), args["timestep"].clone()))
            return function(args["input"], args["timestep"], **args["c"])

        sampled = found["p0" if patched else "1"].clone()
        sampled.set_model_unet_function_wrapper(wrapper)
        with torch.inference_mode():
            host.sample(sampled, noise, 6, 1.0, "euler", "normal", found["2"], found["3"],
                                torch.zeros_like(noise), disable_pbar=True, seed=1)  # fmt: skip
        x, sigma = entering[STEP]
        return x.clone() / (sigma[0] ** 2 + 1) ** 0.5, found["2"][0][0].clone(), float(sigma[0])

    return run


def reference(unet, z, text, sigma):
    """Five Adam steps for one image, from the papers' formulas alone."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = (1 - betas).cumprod(0)
    t = int((((1 - kept) / kept).sqrt() - sigma).abs().argmin())
    reading, original = Reading(), unet.attn_processors
    unet.set_attn_processor({
        name: reading if "attn2" in name and ("down_blocks.2" in name or "up_blocks.1" in name) else one
        for name, one in original.items()
    })  # fmt: skip
    taps = torch.tensor([0.2119416, 0.5761169, 0.2119416])
    kernel = (taps[:, None] * taps[None])[None, None]

    def loss(latent):
        reading.seen.clear()
        unet(latent, t, encoder_hidden_states=text)
        assert len(reading.seen) == 5
        attention = torch.cat([one[0] for one in reading.seen]).mean(0)
        sharp = torch.softmax(100 * attention[:, 1:-1], -1)
        grid = [(n + 3) // 4 for n in latent.shape[-2:]]
        cat, dog = (F.conv2d(F.pad(sharp[:, place - 1].reshape(1, 1, *grid), (1, 1, 1, 1), "reflect"), kernel)
                    for place in (CAT, DOG))  # fmt: skip
        excite = torch.maximum((1 - cat.max()).clamp(min=0), (1 - dog.max()).clamp(min=0))
        return 0.5 * excite + 0.5 * torch.minimum(cat, dog).sum() / (cat.sum() + dog.sum())

    first, second = torch.zeros_like(z), torch.zeros_like(z)
    for step in range(1, ITERATIONS + 1):
        leaf = z.clone().requires_grad_(True)
        (g,) = torch.autograd.grad(loss(leaf), leaf)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
        z = z - RATE * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-3)
    unet.set_attn_processor(original)
    return z


def noise(batch):
    return torch.randn(batch, 4, 16, 13, generator=torch.Generator().manual_seed(3))


def test_refinement_equals_an_independent_one_on_diffusers(refined, diffusers_unet):
    before, text, sigma = refined(noise(1), patched=False)
    after, _, _ = refined(noise(1), patched=True)
    wanted = reference(diffusers_unet, before, text, sigma)
    assert (after - before).abs().max() > 1e-2
    assert (after - wanted).abs().max() <= 1e-5


def test_a_batch_equals_its_images_refined_alone(refined):
    together, _, _ = refined(noise(3), patched=True)
    alone = torch.cat([refined(noise(3)[i : i + 1], patched=True)[0] for i in range(3)])
    untouched, _, _ = refined(noise(3), patched=False)
    assert ((together - untouched).flatten(1).abs().amax(1) > 1e-2).all()
    assert (together - alone).abs().max() <= 1e-5

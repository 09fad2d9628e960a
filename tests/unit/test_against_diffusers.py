"""InitNO and Attend-and-Excite written out as plain loops around a diffusers UNet, against our interventions on it.

The loops follow the papers' released arithmetic and share with the pack only the UNet. Its weights are random; what
is compared is the way the latents go, in float64, since a rate of 20 makes much of rounding.
"""

import functools
import math

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel

from gsn.interventions import Context, Guide, History, InitNoise, NoiseLevel, Refine
from gsn.losses import Term, objective
from gsn.maps import AttentionMaps, MapProcessing
from gsn.subjects import Subject, Subjects, TextStream
from gsn.trace import StepInfo, Trace

WORDS, SIDE, SUBJECTS = 77, 8, (5, 9)
STREAM = TextStream("clip", 0, WORDS, tuple(range(1, 12)), (0,), ("x",) * WORDS)


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Watching:
    """Attention that also keeps the probabilities of the text columns at one resolution."""

    def __init__(self, seen):
        self.seen = seen

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        projected = (attn.to_q(hidden_states), attn.to_k(source), attn.to_v(source))
        q, k, v = (one.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for one in projected)
        weights = (q @ k.transpose(-1, -2) * attn.scale).softmax(-1)
        if encoder_hidden_states is not None and weights.shape[2] == SIDE**2:
            self.seen.append(weights)
        return attn.to_out[0]((weights @ v).transpose(1, 2).flatten(2))


class Model:
    """A small random UNet and the texts it is given."""

    def __init__(self):
        torch.manual_seed(0)
        self.unet = UNet2DConditionModel(
            sample_size=16, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=24,
            attention_head_dim=2, norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ).double().eval().requires_grad_(False)  # fmt: skip
        self.seen = []
        self.unet.set_attn_processor(Watching(self.seen))
        self.text, self.empty = 6 * noise(1, 1, WORDS, 24), noise(2, 1, WORDS, 24)

    def attention(self, z, t):
        """[B, 8, 8, 77]: mean over heads and layers."""
        self.seen.clear()
        self.unet(z, t, self.text.expand(len(z), -1, -1))
        return torch.stack([layer.mean(1) for layer in self.seen]).mean(0).unflatten(1, (SIDE, SIDE))


@pytest.fixture(scope="module")
def model():
    return Model()


class Ours:
    """The model as an intervention's forward at one timestep."""

    subjects = Subjects("prompt", tuple(Subject(f"s{k}", {"clip": (k,)}) for k in SUBJECTS), (STREAM,))

    def __init__(self, model, t):
        self.model, self.t, self.history = model, t, History()

    def __call__(self, latent, rows):
        return AttentionMaps(self.model.attention(latent, self.t))


def opened(goal, index=0, **options):
    return Context(StepInfo(index, 1.0, 0.0), 50, goal, MapProcessing("padded"), Trace(), **options)


def maps_of(attention):
    """Per subject [8, 8]: contrast over columns 1..-1, then the reference's own smoothing kernel."""
    stretched = (100 * attention[0, :, :, 1:-1]).softmax(-1)
    line = torch.tensor([math.exp(-((x / (2 * 0.5)) ** 2)) for x in (-1, 0, 1)], dtype=torch.float64)
    kernel = torch.outer(line, line) / line.sum() ** 2
    found = []
    for k in SUBJECTS:
        padded = F.pad(stretched[None, None, :, :, k - 1], (1, 1, 1, 1), mode="reflect")
        found.append(F.conv2d(padded, kernel[None, None])[0, 0])
    return found


def strongest(maps):
    return torch.stack([(1 - m.max()).clamp(min=0) for m in maps]).max()


def overlap(maps):
    s, r = maps
    return torch.minimum(s, r).sum() / (s + r).sum()


# ---- InitNO --------------------------------------------------------------------------------------------------

OVERLAP_LEVEL = 0.4


def initno_round(model, noise, t, steps, level):
    """One round of InitNO: the latent, its score, whether it succeeded, and the KL steps it took."""
    lv, mu = torch.zeros_like(noise).requires_grad_(), torch.zeros_like(noise).requires_grad_()
    adam = torch.optim.Adam([lv, mu], lr=1e-2, eps=1e-3)
    extra, score = 0, math.inf
    for _ in range(steps):
        adam.zero_grad()
        z = noise * torch.exp(lv / 2) + mu
        maps = maps_of(model.attention(z, t))
        ca, shared = strongest(maps), overlap(maps)
        score = float((ca + shared).detach())
        if ca <= level and shared <= OVERLAP_LEVEL:
            return z.detach(), score, True, extra
        (ca + (shared if ca <= 0.9 else 0.0)).backward()
        adam.step()
        while (kl := -0.5 * (1 + lv - mu**2 - lv.exp()).mean()) > 1e-3:
            adam.zero_grad()
            kl.backward()
            adam.step()
            extra += 1
    return (noise * torch.exp(lv / 2) + mu).detach(), score, False, extra


def initno(model, noises, t, steps, last, level):
    extra, tried = 0, []
    for number, noise in enumerate(noises):
        z, score, success, more = initno_round(model, noise, t, steps, level)
        extra += more
        if success:
            return z, f"round {number + 1}", extra
        tried.append((score, number))
    best = min(tried)[1]
    z, _, success, more = initno_round(model, noises[best], t, last, level)
    return z, "second run" if success else f"best, round {best + 1}", extra + more


ENDS = {
    0.66: ["best, round 2", "second run", "round 2", "best, round 1"],
    0.67: ["second run", "round 1", "round 2", "round 1"],
}


@pytest.mark.parametrize("level", ENDS)
def test_initno_is_the_plain_loop(model, level):
    """Every way in which it can end, with KL steps and without."""
    t, draw, first = torch.tensor(981), torch.Generator().manual_seed(3), noise(5, 4, 4, 16, 16)
    rounds = [first, *(torch.randn(first.shape, generator=draw, dtype=first.dtype) for _ in range(2))]
    goal = objective("attend_excite", Term("iou", while_below=("attend_excite", 0.9)))
    settings = InitNoise(3, 6, 15, stop=(("attend_excite", level), ("iou", OVERLAP_LEVEL)))
    same = torch.Generator().manual_seed(3)
    context = opened(goal, initial_noise=first, level=NoiseLevel(0.0, 1.0), generator=same)
    ours = settings.apply(first, (Ours(model, t),), context)
    plain = [initno(model, [one[b : b + 1] for one in rounds], t, 6, 15, level) for b in range(4)]
    apart = [float((one - latent[0]).abs().max()) for one, (latent, _, _) in zip(ours, plain, strict=True)]
    print("largest difference", max(apart), "KL steps", [extra for _, _, extra in plain])
    assert max(apart) < 1e-4
    assert [end for _, end, _ in plain] == ENDS[level]
    reasons = context.trace.stops[0].reasons
    assert all(end in reason for end, reason in zip(ENDS[level], reasons, strict=True))
    assert any(extra for _, _, extra in plain) == (level == 0.66)


# ---- Attend-and-Excite ---------------------------------------------------------------------------------------


def attend_and_excite(model, z, levels, steps):
    """The pipeline's loop for one image: refine at `levels`' steps, guide and denoise at each. Latents, updates."""
    scheduler = ddim()
    sizes = [20 * math.sqrt(r) for r in torch.linspace(1.0, 0.5, 50)]
    updates = []

    def slope(z, t):
        z = z.detach().clone().requires_grad_(True)
        loss = strongest(maps_of(model.attention(z, t)))
        return float(loss.detach()), torch.autograd.grad(loss, z)[0]

    for i, t in enumerate(scheduler.timesteps[:steps]):
        loss, gradient = slope(z, t)
        count = 0
        if i in levels and loss > levels[i]:
            while loss > levels[i] and count < 20:
                loss, gradient = slope(z, t)
                z = z - sizes[i] * gradient
                count += 1
            loss, gradient = slope(z, t)
        updates.append(count)
        z = z - sizes[i] * gradient
        z = denoised(model, scheduler, z, t)
    return z, updates


@functools.cache
def ddim():
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False,
        set_alpha_to_one=False,
    )  # fmt: skip
    scheduler.set_timesteps(50)
    return scheduler


@torch.no_grad()
def denoised(model, scheduler, z, t):
    texts = torch.cat([model.empty.expand(len(z), -1, -1), model.text.expand(len(z), -1, -1)])
    unconditional, conditional = model.unet(torch.cat([z, z]), t, texts).sample.chunk(2)
    return scheduler.step(unconditional + 7.5 * (conditional - unconditional), t, z).prev_sample


def test_attend_and_excite_is_the_plain_loop(model):
    first, goal, level, scheduler = noise(5, 4, 4, 16, 16), objective("attend_excite"), 0.6, ddim()
    z, done = first, []
    for i, t in enumerate(scheduler.timesteps[:3]):
        forward = Ours(model, t)
        if i == 1:
            context = opened(goal, i)
            refine = Refine(20, 20.0, "sgd", schedule="sqrt", stop=(("attend_excite", level),), overshoot=True)
            z = refine.apply(z, (forward,), context)
            done = context.trace.stops[0].iterations
        z = Guide(20.0).apply(z, (forward,), opened(goal, i))
        z = denoised(model, scheduler, z, t)
    plain = [attend_and_excite(model, first[b : b + 1], {1: level}, 3) for b in range(4)]
    apart = [float((one - latent[0]).abs().max()) for one, (latent, _) in zip(z, plain, strict=True)]
    print("largest difference", max(apart), "updates", done)
    assert max(apart) < 1e-4
    assert done == [updates[1] for _, updates in plain] == [9, 3, 12, 20]


def test_where_the_level_is_met_attend_and_excite_does_not_refine(model):
    first, goal, t = noise(5, 2, 4, 16, 16), objective("attend_excite"), ddim().timesteps[0]
    context = opened(goal)
    refine = Refine(20, 20.0, "sgd", schedule="sqrt", stop=(("attend_excite", 0.99),), overshoot=True)
    assert torch.equal(refine.apply(first, (Ours(model, t),), context), first)
    assert attend_and_excite(model, first[:1], {0: 0.99}, 1)[1] == [0] and context.trace.stops[0].iterations == [0, 0]

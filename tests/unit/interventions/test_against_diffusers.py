"""InitNO and Attend-and-Excite written out as plain loops around a diffusers UNet, against our interventions on it.

The loops follow the papers' released arithmetic and share with the pack only the UNet. Its weights are random; what
is compared is the way the latents go, in float64, since a rate of 20 makes much of rounding.
"""

import functools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel

from gsn.attention.maps import AttentionMaps, MapProcessing
from gsn.interventions.context import Context, History, NoiseLevel
from gsn.interventions.guide import Guide
from gsn.interventions.refine import Refine
from gsn.losses.objective import objective
from gsn.methods.presets import PRESETS
from gsn.text.subjects import Subject, Subjects, TextStream
from gsn.trace import StepInfo, Trace

from ..losses.made_up import rows_from
from ..losses.masks_in_loops import slow_component, slow_otsu

WORDS, SIDE, SUBJECTS = 77, 8, (5, 9)
STREAM = TextStream("clip", 0, WORDS, tuple(range(1, 12)), (0,), ("x",) * WORDS)


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Watching:
    """Attention that also keeps its probabilities at one resolution: of the text's columns, of the picture's cells."""

    def __init__(self, text, picture):
        self.text, self.picture = text, picture

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        projected = (attn.to_q(hidden_states), attn.to_k(source), attn.to_v(source))
        q, k, v = (one.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for one in projected)
        weights = (q @ k.transpose(-1, -2) * attn.scale).softmax(-1)
        if weights.shape[2] == SIDE**2:
            (self.picture if encoder_hidden_states is None else self.text).append(weights)
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
        for name, values in self.unet.named_parameters():
            if name.endswith("attn1.to_q.weight"):
                values.mul_(10)  # a cell of the picture looks somewhere, not everywhere
        self.seen = [], []
        self.unet.set_attn_processor(Watching(*self.seen))
        self.text, self.empty = 3 * noise(1, 1, WORDS, 24), noise(2, 1, WORDS, 24)
        one, other = SUBJECTS  # the two share the picture between them, so that their maps have places and not specks
        self.text[:, one] *= 2
        self.text[:, other] = -self.text[:, one]

    def attention(self, z, t):
        """To the text, [B, 8, 8, 77], and of the picture to itself, [B, 64, 64]: means over heads and layers."""
        for layers in self.seen:
            layers.clear()
        self.unet(z, t, self.text.expand(len(z), -1, -1))
        text, picture = (torch.stack([layer.mean(1) for layer in layers]).mean(0) for layers in self.seen)
        return text.unflatten(1, (SIDE, SIDE)), picture


@pytest.fixture(scope="module")
def model():
    return Model()


class Ours:
    """The model as an intervention's forward at one timestep."""

    subjects = Subjects("prompt", tuple(Subject(f"s{k}", {"clip": (k,)}) for k in SUBJECTS), (STREAM,))

    def __init__(self, model, t, history=None):
        self.model, self.t, self.history = model, t, history or History()

    def __call__(self, latent, rows):
        text, picture = self.model.attention(latent, self.t)
        return AttentionMaps(text, self_rows=rows_from(picture))


def opened(goal, index=0, **options):
    return Context(StepInfo(index, 1.0, 0.0), 50, goal, MapProcessing("padded"), Trace(), **options)


def stretched(text):
    """Per subject [8, 8]: contrast over columns 1..-1."""
    values = (100 * text[0, :, :, 1:-1]).softmax(-1)
    return [values[:, :, k - 1] for k in SUBJECTS]


def blurred(one):
    """[8, 8] by the reference's own kernel."""
    line = torch.tensor([math.exp(-((x / (2 * 0.5)) ** 2)) for x in (-1, 0, 1)], dtype=torch.float64)
    kernel = torch.outer(line, line) / line.sum() ** 2
    return F.conv2d(F.pad(one[None, None], (1, 1, 1, 1), mode="reflect"), kernel[None, None])[0, 0]


def maps_of(text):
    return [blurred(one) for one in stretched(text)]


def neglect(maps):
    return torch.stack([(1 - m.max()).clamp(min=0) for m in maps]).max()


# ---- InitNO --------------------------------------------------------------------------------------------------


def conflict(maps, picture):
    """How far the cells where the two subjects are strongest look at the same places."""
    s, r = (blurred(picture[0, int(m.argmax())].view(SIDE, SIDE)) for m in maps)
    return torch.minimum(s, r).sum() / ((s + r).sum() + 1e-6)


def second_spots(maps):
    """The strongest value of each map that does not hang together with its peak."""
    total = torch.zeros((), dtype=torch.float64)
    for m in maps:
        image = m.detach().numpy()
        inside = torch.from_numpy(slow_component(image, slow_otsu(image)))
        outside = torch.where(inside, 0.0, m).max()
        if outside > m[inside].min():
            total = total + outside
    return total


def initno_round(model, noise, t, steps):
    """One round of InitNO: the latent, its score, whether it succeeded, and the KL steps it took."""
    lv, mu = torch.zeros_like(noise).requires_grad_(), torch.zeros_like(noise).requires_grad_()
    adam = torch.optim.Adam([lv, mu], lr=1e-2, eps=1e-3)
    extra, score = 0, math.inf
    for _ in range(steps):
        adam.zero_grad()
        z = noise * torch.exp(lv / 2) + mu
        text, picture = model.attention(z, t)
        maps = maps_of(text)
        ca, sa = neglect(maps), conflict(maps, picture)
        score = float((ca + sa).detach())
        if ca < 0.2 and sa < 0.3:
            return z.detach(), score, True, extra
        (ca + (0.0 if ca > 0.5 else sa) + second_spots(maps)).backward()
        adam.step()
        while (kl := -0.5 * (1 + lv - mu**2 - lv.exp()).mean()) > 1e-3:
            adam.zero_grad()
            kl.backward()
            adam.step()
            extra += 1
    return (noise * torch.exp(lv / 2) + mu).detach(), score, False, extra


def initno(model, noises, t, steps, last):
    extra, tried = 0, []
    for number, noise in enumerate(noises):
        z, score, success, more = initno_round(model, noise, t, steps)
        extra += more
        if success:
            return z, f"round {number + 1}", extra
        tried.append((score, number))
    best = min(tried)[1]
    z, _, success, more = initno_round(model, noises[best], t, last)
    return z, "second run" if success else f"best, round {best + 1}", extra + more


IN_NOISE, *LATER = PRESETS["InitNO+"].moves  # two refinements, then guidance
ENDS = ["second run", "round 1", "best, round 2", "round 2"]


def test_initno_is_the_plain_loop(model):
    """Every way in which it can end, each by the noise of one image."""
    t = torch.tensor(981)
    first = torch.stack([noise(seed, 4, 4, 16, 16)[image] for seed, image in ((5, 2), (6, 0), (5, 0), (5, 3))])
    settings = replace(IN_NOISE.intervention, rounds=2, iterations=8, last_iterations=12)
    same = torch.Generator().manual_seed(15)
    context = opened(IN_NOISE.objective, initial_noise=first, level=NoiseLevel(0.0, 1.0), generator=same)
    ours = settings.apply(first, (Ours(model, t),), context)
    rounds = first, noise(15, *first.shape)
    plain = [initno(model, [one[b : b + 1] for one in rounds], t, 8, 12) for b in range(4)]
    apart = [float((one - latent[0]).abs().max()) for one, (latent, _, _) in zip(ours, plain, strict=True)]
    print("largest difference", max(apart), "KL steps", [extra for _, _, extra in plain])
    assert max(apart) < 1e-4
    assert [end for _, end, _ in plain] == ENDS
    reasons = context.trace.stops[0].reasons
    assert all(end in reason for end, reason in zip(ENDS, reasons, strict=True))
    assert any(extra for _, _, extra in plain)


def initno_plus(model, z, refined_at, steps):
    """The loop after the noise, for one image: look, refine where a level is missed, guide and denoise at each step.
    Latents, updates. The average takes in a refinement's end twice, as ours does, and not its beginning."""
    scheduler, updates, average = ddim(), [], None
    sizes = [20 * math.sqrt(r) for r in torch.linspace(1.0, 0.5, 50)]

    def look(z, t):
        """Whether both levels are met; the slope of the four terms, and that of the first alone."""
        nonlocal average
        z = z.detach().clone().requires_grad_(True)
        text, picture = model.attention(z, t)
        sharp, maps = stretched(text), maps_of(text)
        seen = [one.detach() for one in sharp]
        average = seen if average is None else [0.9 * a + 0.1 * s for a, s in zip(average, seen, strict=True)]
        moved = sum((m - blurred(a)).abs().mean() for m, a in zip(maps, average, strict=True))
        ca, sa = neglect(maps), conflict(maps, picture)
        joint = ca + 0.1 * second_spots(maps) + 0.1 * moved + sa
        (four,) = torch.autograd.grad(joint, z, retain_graph=True)
        return bool(ca <= 0.2 and sa <= 0.3), four, torch.autograd.grad(ca, z)[0]

    for i, t in enumerate(scheduler.timesteps[:steps]):
        met, four, first = look(z, t)
        count, done = 0, met
        if i in refined_at:
            while not done and count < 20:
                z = z - sizes[i] * four
                count, done = count + 1, met  # by the look before the update
                met, four, _ = look(z, t)
            _, _, first = look(z, t)
        updates.append(count)
        z = z - sizes[i] * first
        z = denoised(model, scheduler, z, t)
    return z, updates


def test_initno_plus_is_the_plain_loop(model):
    """Three steps after the noise: guided, then refined and guided, twice. What was seen in the noise is forgotten."""
    done, history, drawn = [], History(), noise(6, 4, 4, 16, 16)
    search = replace(IN_NOISE.intervention, rounds=1, iterations=2, last_iterations=0)
    context = opened(IN_NOISE.objective, initial_noise=drawn)
    z = first = search.apply(drawn, (Ours(model, ddim().timesteps[0], history),), context)
    for i, t in enumerate(ddim().timesteps[:3]):
        forward = Ours(model, t, history)
        for move in LATER[2:] if i == 0 else (LATER[i - 1], LATER[2]):
            context = opened(move.objective, i)
            z = move.intervention.apply(z, (forward,), context)
            done += [stop.iterations for stop in context.trace.stops]
        z = denoised(model, ddim(), z, t)
    plain = [initno_plus(model, first[b : b + 1], {1, 2}, 3) for b in range(4)]
    apart = [float((one - latent[0]).abs().max()) for one, (latent, _) in zip(z, plain, strict=True)]
    print("largest difference", max(apart), "updates", done)
    assert max(apart) < 1e-4
    assert list(zip(*done, strict=True)) == [tuple(updates[1:]) for _, updates in plain]


# ---- Attend-and-Excite ---------------------------------------------------------------------------------------


def attend_and_excite(model, z, levels, steps):
    """The pipeline's loop for one image: refine at `levels`' steps, guide and denoise at each. Latents, updates."""
    scheduler = ddim()
    sizes = [20 * math.sqrt(r) for r in torch.linspace(1.0, 0.5, 50)]
    updates = []

    def slope(z, t):
        z = z.detach().clone().requires_grad_(True)
        loss = neglect(maps_of(model.attention(z, t)[0]))
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
    first, goal, level, scheduler = noise(5, 4, 4, 16, 16), objective("attend_excite"), 0.25, ddim()
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
    assert done == [updates[1] for _, updates in plain] == [9, 20, 0, 3]


def test_where_the_level_is_met_attend_and_excite_does_not_refine(model):
    first, goal, t = noise(5, 2, 4, 16, 16), objective("attend_excite"), ddim().timesteps[0]
    context = opened(goal)
    refine = Refine(20, 20.0, "sgd", schedule="sqrt", stop=(("attend_excite", 0.99),), overshoot=True)
    assert torch.equal(refine.apply(first, (Ours(model, t),), context), first)
    assert attend_and_excite(model, first[:1], {0: 0.99}, 1)[1] == [0] and context.trace.stops[0].iterations == [0, 0]

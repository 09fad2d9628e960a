"""InitNO's optimised noise and SAGA's distributions of latents, on models with known answers."""

import math

import numpy as np
import pytest
import torch

from gsn.attention.maps import AttentionMaps, MapProcessing
from gsn.interventions import init_noise
from gsn.interventions.context import Context, History, NoiseLevel
from gsn.interventions.distribution import Distribution
from gsn.interventions.init_noise import InitNoise
from gsn.interventions.intervention import Opening
from gsn.interventions.levels import parse_levels
from gsn.losses.objective import PAPER, Evaluation, objective
from gsn.trace import StepInfo, Trace


class Quadratic:
    """Loss 0.5 * |z - target|^2 per image, as objective and forward at once.

    bad: an image whose loss, or only its gradient, is NaN past `limit`.
    """

    subjects = None
    terms = ()

    def __init__(self, target, bad=None, limit=math.inf, gradient_only=False):
        self.target, self.bad, self.limit, self.gradient_only = target, bad, limit, gradient_only
        self.history = History()

    def __call__(self, latent, rows):
        return AttentionMaps(latent)

    def evaluate(self, attention, subjects, processing, earlier):
        z = attention.probabilities
        loss = 0.5 * (z - self.target).square().flatten(1).sum(1)
        broken = (z.flatten(1).amax(1) > self.limit) & (torch.arange(len(z)) == self.bad)
        if self.gradient_only:
            flat = torch.where(broken, (0.0 * z).flatten(1).sum(1), 1.0)
            loss = loss + flat.sqrt()  # the derivative is not finite at 0
        else:
            loss = torch.where(broken, math.nan, loss)
        return Evaluation(loss, {"quadratic": loss}, z.abs())


NOISE_ALONE = NoiseLevel(0.0, 1.0)


def context(model, noise, level=NOISE_ALONE, step=0, **options):
    generator = torch.Generator().manual_seed(3)
    info = StepInfo(step, 5.6, 0.2)
    settings = {"initial_noise": noise, "level": level, "generator": generator} | options
    return Context(info, 50, model, MapProcessing(), Trace(), **settings)


def noise_like(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- the initial noise ---------------------------------------------------------------------------------------


def divergence(lv, mu):
    return float(np.mean(np.exp(lv) + mu**2 - 1 - lv) / 2)


def initno_by_hand(noise, target, iterations, lr):
    """The paper's loop for one image in float64, and how many KL steps it took."""
    lv, mu = np.zeros_like(noise), np.zeros_like(noise)
    average, square, t, extra = np.zeros((2, *noise.shape)), np.zeros((2, *noise.shape)), 0, 0

    def adam(slope):
        nonlocal average, square, t, lv, mu
        t += 1
        average, square = 0.9 * average + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        change = lr * (average / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-3)
        lv, mu = lv - change[0], mu - change[1]

    for _ in range(iterations):
        gradient = noise * np.exp(lv / 2) + mu - target
        adam(np.stack([gradient * noise * np.exp(lv / 2) / 2, gradient]))
        while divergence(lv, mu) > 1e-3:
            adam(np.stack([(np.exp(lv) - 1) / 2, mu]) / noise.size)
            extra += 1
    return noise * np.exp(lv / 2) + mu, divergence(lv, mu), extra


@pytest.mark.parametrize("iterations, lr", [(3, 0.003), (6, 0.01)])
def test_adam_walks_the_known_way_and_kl_steps_share_its_state(iterations, lr):
    noise = noise_like(2, 1, 4, 4)
    model, targets = Quadratic(noise_like(2, 1, 4, 4, seed=1)), noise_like(2, 1, 4, 4, seed=1)
    better = InitNoise(1, iterations, 0, lr).apply(noise, (model,), context(model, noise))
    steps = []
    for image, target, got in zip(noise.double().numpy(), targets.double().numpy(), better, strict=True):
        wanted, kl, extra = initno_by_hand(image, target, iterations, lr)
        steps.append(extra)
        assert np.allclose(got.numpy(), wanted, atol=2e-5) and kl <= 1e-3
    assert (max(steps) > 0) == (lr == 0.01)


def test_the_kl_is_brought_down_to_its_level_even_without_a_single_kl_step(monkeypatch):
    seen = {}

    def shrunk(p, adam, rows):
        seen["p"] = near(p, adam, rows)
        return seen["p"]

    near = init_noise._near_standard
    monkeypatch.setattr(init_noise, "_near_standard", shrunk)
    monkeypatch.setattr(init_noise, "KL_STEPS", 0)
    noise, model = noise_like(2, 1, 4, 4), Quadratic(3.0)
    InitNoise(1, 30, 0, 0.1).apply(noise, (model,), context(model, noise))
    assert all(0.9e-3 < float(kl) <= 1e-3 for kl in init_noise.divergence(seen["p"]))


def test_success_stops_the_right_image_and_leaves_it_exactly_as_it_was():
    noise = noise_like(2, 1, 4, 4)
    model = Quadratic(noise[:1].clone())
    opened = context(model, noise)
    better = InitNoise(2, 3, 4, 0.01, (("quadratic", 0.05),)).apply(noise, (model,), opened)
    (stop,) = opened.trace.stops
    assert torch.equal(better[0], noise[0]) and stop.iterations[0] == 0 and "round 1" in stop.reasons[0]
    assert not torch.equal(better[1], noise[1]) and stop.iterations[1] == 4 and "no round" in stop.reasons[1]
    records = opened.trace.records
    assert len({r.loss[0] for r in records}) == 1  # it waits where it is
    assert len(records) == 2 * 3 + 4 + 1 and [r.iteration for r in records] == list(range(11))
    assert [k.moment for k in opened.trace.kept] == ["before", "after"]


class LookingBack(Quadratic):
    """And as far as its maps, |z|, are from their average over the run."""

    def evaluate(self, attention, subjects, processing, earlier):
        found = super().evaluate(attention, subjects, processing, earlier)
        if earlier.average is None:
            return found
        apart = (found.maps - earlier.average).abs().flatten(1).sum(1)
        return Evaluation(found.total + apart, found.terms, found.maps)


def test_an_image_that_waits_in_a_round_adds_nothing_to_what_losses_look_back_on():
    noise = noise_like(2, 1, 4, 4)
    losses = {}
    for images in (1, 2):
        first = noise[:images]
        model = LookingBack(5.0, bad=0, limit=float(noise[0].max()) + 1e-4)
        opened = context(model, first)
        InitNoise(1, 4, 2, 0.01).apply(first, (model,), opened)
        losses[images] = [record.loss[0] for record in opened.trace.records]
    alone, beside = losses[1], losses[2]
    assert math.isnan(alone[1]) and math.isnan(beside[1])  # the round of the first image ends here
    assert alone[2] == pytest.approx(beside[4], abs=1e-5)  # the second run begins


def test_an_image_that_succeeds_in_a_later_round_stops_there():
    first, second = noise_like(1, 1, 4, 4), torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    model = Quadratic(second)
    opened = context(model, first)
    better = InitNoise(5, 2, 9, 0.01, (("total", 0.01),)).apply(first, (model,), opened)
    assert torch.allclose(better, second, atol=1e-6)
    assert "round 2" in opened.trace.stops[0].reasons[0] and len(opened.trace.records) == 2 + 1 + 1


def test_after_failed_rounds_the_best_is_run_again_from_its_own_noise():
    """The second round's noise is the target but for a shift that 2 updates cannot make up."""
    first = noise_like(1, 1, 4, 4)
    second = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    model = Quadratic(second + 0.3)
    opened = context(model, first)
    better = InitNoise(3, 2, 6, 0.003, (("total", 1e-6),)).apply(first, (model,), opened)
    alone = InitNoise(1, 6, 0, 0.003).apply(second, (model,), context(model, second))
    assert torch.allclose(better, alone, atol=1e-6)
    assert "best, round 2, run again" in opened.trace.stops[0].reasons[0] and opened.trace.stops[0].iterations == [6]


def test_without_a_second_run_the_best_rounds_own_latent_is_taken():
    first = noise_like(1, 1, 4, 4)
    second = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    model = Quadratic(second + 0.3)
    better = InitNoise(3, 2, 0, 0.003).apply(first, (model,), context(model, first))
    alone = InitNoise(1, 2, 0, 0.003).apply(second, (model,), context(model, second))
    assert torch.allclose(better, alone, atol=1e-6)


def test_fresh_noise_comes_at_the_levels_strength_and_the_picture_stays():
    level, picture = NoiseLevel(0.8, 0.6), noise_like(1, 1, 4, 4, seed=9)
    first, second = noise_like(1, 1, 4, 4), torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    latent = 0.8 * picture + 0.6 * first
    model = Quadratic(0.8 * picture + 0.6 * second)
    better = InitNoise(2, 1, 0, 0.0).apply(latent, (model,), context(model, first, level))
    assert torch.allclose(better, 0.8 * picture + 0.6 * second, atol=1e-6)


def test_one_images_noise_does_not_change_anothers_and_a_seed_repeats():
    noise = noise_like(3, 1, 4, 4)
    settings = InitNoise(3, 4, 5, 0.01, (("total", 0.5),))
    other = torch.cat([noise[:1], noise_like(2, 1, 4, 4, seed=8) * 1e-3 + 1.0])  # these succeed at once
    model = Quadratic(1.0)
    results = [settings.apply(n, (model,), context(model, n)) for n in (noise, noise, other)]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0][0], results[2][0]) and torch.equal(results[2][1:], other[1:])


@pytest.mark.parametrize("gradient_only, iterations, last", [(False, 3, 3), (True, 3, 0), (False, 2, 0)])
def test_noise_that_breaks_the_loss_ends_its_round_at_the_last_finite_latent(gradient_only, iterations, last):
    """During a round, or only at the look at the end."""
    noise = torch.zeros(2, 1, 2, 2)
    model = Quadratic(5.0, 1, 0.015, gradient_only)
    opened = context(model, noise)
    better = InitNoise(1, iterations, last, 0.01).apply(noise, (model,), opened)
    assert torch.isfinite(better).all() and 0 < float(better[1].max()) <= 0.015 < float(better[0].max())
    assert "kept its last finite latent" in opened.trace.stops[0].reasons[1]
    assert "finite" not in opened.trace.stops[0].reasons[0]


def test_an_image_that_is_never_finite_is_left_as_it_was():
    noise, model = noise_like(2, 1, 2, 2), Quadratic(1.0, bad=1, limit=-math.inf)
    opened = context(model, noise)
    better = InitNoise(2, 2, 2).apply(noise, (model,), opened)
    assert torch.equal(better[1], noise[1]) and "left as it was" in opened.trace.stops[0].reasons[1]


def test_a_run_without_noise_of_its_own_is_left_alone_and_says_so():
    latent, model = noise_like(1, 1, 2, 2), Quadratic(1.0)
    assert InitNoise().apply(latent, (model,), context(model, None)) is latent
    (told,) = InitNoise().warnings(Opening(NoiseLevel(0.6, 0.8), True, False))
    assert "adds no noise" in told and not InitNoise().warnings(Opening(NoiseLevel(0.6, 0.8), True, True))


def test_initial_noise_is_refused_anywhere_but_at_the_first_step():
    InitNoise().check_run(PAPER, (0,), (2,))
    InitNoise().check_run(PAPER, (), (2,))
    with pytest.raises(ValueError, match="step 4"):
        InitNoise().check_run(PAPER, (4,), (2,))
    Distribution().check_run(PAPER, (4,), (2,))


# ---- the distribution ----------------------------------------------------------------------------------------


def saga_by_hand(settings, estimate, noise, level, target, draws):
    """SAGA for D distributions in float64, its noise scaled by dense matrices, its slopes written out.

    estimate: [D, C, h, w]; draws: per iteration [J, B, C, h, w]. Returns the drawn latents.
    """
    d, c, h, w = estimate.shape
    mean = np.broadcast_to(estimate.mean((2, 3), keepdims=True), estimate.shape) * level.alpha
    limit = (level.alpha * estimate).reshape(d, -1).std(1, ddof=1)
    tiles = (math.ceil(h / settings.block), math.ceil(w / settings.block)) if settings.block else (1, 1)
    v = np.full((d, c if settings.per_channel else 1, *tiles), 2 * math.log(level.spread))
    speed = [np.zeros_like(mean), np.zeros_like(v)]
    side = settings.block or max(h, w)
    place = np.zeros((h * w, tiles[0] * tiles[1]))  # which tile a cell belongs to
    for y in range(h):
        for x in range(w):
            place[y * w + x, (y // side) * tiles[1] + x // side] = 1

    def root(i, channel):  # [hw, hw], the dense square root of the covariance
        return np.diag(place @ np.exp(v[i, channel % v.shape[1]].reshape(-1) / 2))

    def scaled(m):
        spread = m.std(ddof=1)
        return min(1.0, limit[i] / spread) if spread > 0 else 1.0

    for samples in draws:
        steps = [np.zeros_like(mean), np.zeros_like(v)]
        for i in range(d):
            images = range(samples.shape[1]) if d == 1 else (i,)
            m, factor = mean[i], scaled(mean[i])
            push, count = np.zeros_like(m), len(samples) * len(images)
            for noises in samples:
                for b in images:
                    for channel in range(c):
                        flat, matrix = noises[b, channel].reshape(-1), root(i, channel)
                        z = factor * m[channel].reshape(-1) + matrix @ flat
                        g = (z - target[b, channel].reshape(-1)) / count
                        push[channel] += g.reshape(h, w)
                        # ds/dv = s / 2, gathered over the tile
                        slope = place.T @ (g * (matrix @ flat) / 2)
                        steps[1][i, channel % v.shape[1]] += slope.reshape(tiles)
            steps[0][i] = factor * push
            if factor < 1:  # d std / dm = (m - mean) / ((n - 1) std)
                std, n = m.std(ddof=1), m.size
                steps[0][i] -= limit[i] / std**2 * (push * m).sum() * (m - m.mean()) / ((n - 1) * std)
        speed = [settings.momentum * s + step for s, step in zip(speed, steps, strict=True)]
        mean = mean - settings.lr * speed[0]
        if settings.block:
            v = v - settings.lr * speed[1]
    result = np.zeros(noise.shape)
    for b in range(len(noise)):
        i = 0 if d == 1 else b
        for channel in range(c):
            drawn = root(i, channel) @ noise[b, channel].reshape(-1)
            result[b, channel] = scaled(mean[i]) * mean[i, channel] + drawn.reshape(h, w)
    return result


@pytest.mark.parametrize("rate", [0.05, 0.6])  # the second is past the scale of the estimate, so the mean is scaled
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("block, per_channel", [(0, False), (2, False), (2, True)])
def test_the_distribution_is_the_dense_one_in_float64(rate, shared, block, per_channel):
    settings = Distribution(3, 3, rate, 0.5, block, per_channel, shared)
    level, noise, target = NoiseLevel(0.6, 0.8), noise_like(2, 2, 3, 5), noise_like(2, 2, 3, 5, seed=1)
    estimate = 0.3 * noise_like(2, 2, 3, 5, seed=2)
    model = Quadratic(target)
    drawn = settings.apply(noise.clone(), (model,), context(model, noise, level, 4, denoised=estimate))
    source = context(model, noise)
    count = math.ceil(3 / 2) if shared else 3
    draws = [np.stack([source.fresh_noise(noise).double().numpy() for _ in range(count)]) for _ in range(3)]
    used = (estimate[:1] if shared else estimate).double().numpy()
    wanted = saga_by_hand(settings, used, noise.double().numpy(), level, target.double().numpy(), draws)
    assert np.allclose(drawn.numpy(), wanted, atol=2e-5)


def test_the_mean_finds_the_known_optimum_and_images_are_drawn_with_their_own_noise():
    target, level = noise_like(1, 2, 4, 4, seed=1), NoiseLevel(0.99, 0.02)
    noise, model = noise_like(3, 2, 4, 4), Quadratic(target)
    opened = context(model, noise, level, 4, denoised=torch.zeros(3, 2, 4, 4))
    drawn = Distribution(60, 6, 0.2, 0.3, rescale=False).apply(noise_like(3, 2, 4, 4, seed=7), (model,), opened)
    means = drawn - 0.02 * noise
    assert torch.allclose(means, means[:1].expand_as(means), atol=1e-6)
    assert float((means - target).abs().max()) < 0.02
    assert opened.trace.records[-1].loss[0] < 0.05 * opened.trace.records[0].loss[0]
    assert opened.trace.stops[0].iterations == [60] * 3 and len(opened.trace.records) == 62


def test_the_mean_is_held_to_the_scale_of_the_estimate():
    estimate, level = 0.1 * noise_like(1, 1, 4, 4, seed=2), NoiseLevel(0.9, 0.02)
    noise, model = torch.zeros(1, 1, 4, 4), Quadratic(5 * noise_like(1, 1, 4, 4, seed=1))
    for rescale in (True, False):
        opened = context(model, noise, level, 4, denoised=estimate)
        drawn = Distribution(40, 4, 0.2, 0.0, rescale=rescale).apply(noise, (model,), opened)
        limit = 0.9 * float(estimate.std())
        assert (float(drawn.std()) <= limit * 1.0001) == rescale


def test_one_images_distribution_does_not_change_anothers_and_a_seed_repeats():
    level, model = NoiseLevel(0.6, 0.8), Quadratic(1.0)
    noise, estimate = noise_like(2, 1, 4, 4), noise_like(2, 1, 4, 4, seed=2)
    others = [torch.cat([one[:1], 9 * one[1:]]) for one in (noise, estimate)]
    settings = Distribution(4, 2, 0.1, shared=False)
    results = [settings.apply(n, (model,), context(model, n, level, 4, denoised=e))
               for n, e in ((noise, estimate), (noise, estimate), others)]  # fmt: skip
    assert torch.equal(results[0], results[1]) and torch.equal(results[0][0], results[2][0])
    assert not torch.equal(results[0][1], results[2][1])


@pytest.mark.parametrize("level, begins", [(NoiseLevel(0.0, 1.0), "zero"), (NoiseLevel(0.07, 0.9975), "the latent")])
@pytest.mark.parametrize("rescale", [True, False])
def test_at_the_first_step_the_papers_stand_in_is_used_and_said(level, begins, rescale):
    noise, model = noise_like(1, 1, 4, 4), Quadratic(0.5)
    opened = context(model, noise, level)
    drawn = Distribution(1, 1, 0.0, rescale=rescale).apply(noise, (model,), opened)
    mean = torch.zeros(1) if level.alpha == 0 else (1 - level.spread) * noise.mean()
    assert torch.allclose(drawn, mean + level.spread * noise, atol=1e-6)
    (told,) = Distribution().warnings(Opening(level, True, True))
    assert begins in told and not Distribution().warnings(Opening(level, False, True))
    moved = Distribution(5, 2, 0.2, rescale=rescale).apply(noise, (model,), context(model, noise, level))
    assert torch.isfinite(moved).all() and not torch.equal(moved, drawn)


def test_a_run_that_goes_on_draws_with_other_noise_and_says_so():
    latent, model = noise_like(1, 1, 4, 4), Quadratic(0.5)
    opened = context(model, None, NoiseLevel(0.6, 0.8), 4, denoised=latent)
    drawn = Distribution(1, 1, 0.0).apply(latent, (model,), opened)
    assert float((drawn - drawn.mean()).std()) > 0.5
    (told,) = Distribution().warnings(Opening(NoiseLevel(0.6, 0.8), False, False))
    assert "goes on" in told


def test_a_distribution_that_breaks_goes_back_and_one_that_never_worked_changes_nothing():
    noise = torch.zeros(2, 1, 2, 2)
    model = Quadratic(1.0, bad=1, limit=0.5)
    settings = Distribution(20, 1, 0.3, 0.0, shared=False)
    opened = context(model, noise, NoiseLevel(1.0, 1e-4), 4, denoised=noise)
    drawn = settings.apply(noise, (model,), opened)
    assert 0.2 < float(drawn[1].max()) <= 0.5 and torch.allclose(drawn[0], torch.ones(1), atol=1e-2)
    assert "kept the last finite" in opened.trace.stops[0].reasons[1] and opened.trace.stops[0].iterations[0] == 20
    opened = context(model, noise, NoiseLevel(1.0, 1e-4), 4, denoised=noise)
    drawn = Distribution(1, 1, 0.6, shared=False).apply(noise, (model,), opened)  # seen only by the look at the end
    assert float(drawn[1].max()) == 0 and float(drawn[0].max()) == pytest.approx(0.6, abs=1e-3)
    never = Quadratic(1.0, bad=1, limit=-math.inf)
    for shared in (False, True):
        latent = noise_like(2, 1, 2, 2)
        opened = context(never, noise, NoiseLevel(1.0, 1e-4), 4, denoised=noise)
        drawn = Distribution(3, 1, 0.3, shared=shared).apply(latent, (never,), opened)
        assert torch.equal(drawn[1], latent[1]) and torch.equal(drawn[0], latent[0]) == shared
        assert "left as it was" in opened.trace.stops[0].reasons[1]


# ---- settings ------------------------------------------------------------------------------------------------

BAD = [InitNoise(-1), InitNoise(iterations=-1), InitNoise(last_iterations=-1), InitNoise(lr=math.nan), InitNoise(lr=-1)]
BAD += [InitNoise(stop=(("iou", math.nan),)), InitNoise(stop=(("nothing", 0.2),)), InitNoise(stop=(("iou", -1.0),))]
BAD += [Distribution(-1), Distribution(samples=0), Distribution(lr=math.inf), Distribution(lr=-1.0)]
BAD += [Distribution(momentum=1.0), Distribution(block=-1), Distribution(start="null")]


@pytest.mark.parametrize("bad", BAD)
def test_impossible_numbers_are_refused(bad):
    with pytest.raises(ValueError):
        bad.check(PAPER)


def test_the_defaults_pass_and_nothing_to_do_is_idle():
    for good in (InitNoise(), Distribution()):
        good.check(PAPER)
        assert not good.idle
    assert InitNoise(rounds=0).idle and InitNoise(iterations=0).idle and Distribution(0).idle


def test_levels_are_read_from_text():
    both = objective("attend_excite", "iou")
    assert parse_levels(" attend_excite 0.2, total 0.5 ", both) == (("attend_excite", 0.2), ("total", 0.5))
    assert parse_levels("", both) == () and parse_levels("auto", objective("iou")) == ()
    assert parse_levels("auto", both) == (("attend_excite", 0.2),)
    for wrong in ("attend_excite", "0.2", "iou low", "iou 0.2 0.3"):
        with pytest.raises(ValueError, match="cannot read the level"):
            parse_levels(wrong, both)


def test_a_level_of_a_loss_that_the_prompt_has_too_few_subjects_for_is_met():
    noise, model = noise_like(1, 1, 2, 2), Quadratic(1.0)
    value = context(model, noise).evaluate(noise, (model,))
    assert bool(value.at_or_below((("iou", 0.3),)))

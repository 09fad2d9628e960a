"""The inner loops on models with known answers, in milliseconds."""

import math

import pytest
import torch

from gsn.attention.maps import AttentionMaps, MapProcessing
from gsn.interventions.context import Context, History
from gsn.interventions.guide import Guide
from gsn.interventions.refine import Refine
from gsn.losses.objective import PAPER, Evaluation
from gsn.trace import StepInfo, Trace


class Quadratic:
    """Loss 0.5 * |z - target|^2 per image, as objective and forward at once."""

    subjects = None
    terms = ()

    def __init__(self, target):
        self.target = target
        self.history = History()

    def __call__(self, latent, rows):
        return AttentionMaps(latent)

    def evaluate(self, attention, subjects, processing, earlier):
        loss = 0.5 * (attention.probabilities - self.target).square().flatten(1).sum(1)
        return Evaluation(loss, {"quadratic": loss}, attention.probabilities.abs())


def context(model, **options):
    return Context(StepInfo(3, 5.6, 0.2), 50, model, MapProcessing(), Trace(), **options)


def test_adam_walks_the_known_way():
    model, z0 = Quadratic(1.0), torch.zeros(2, 1, 2, 2)
    refined = Refine(iterations=7, lr=0.02).apply(z0, (model,), context(model))
    x, m, v = 0.0, 0.0, 0.0
    for t in range(1, 8):
        g = x - 1.0
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x -= 0.02 * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-3)
    assert torch.allclose(refined, torch.full_like(z0, x), atol=1e-6)


def test_momentum_walks_the_known_way():
    model, z0 = Quadratic(1.0), torch.zeros(2, 1, 2, 2)
    refined = Refine(7, 0.1, "sgd", momentum=0.6).apply(z0, (model,), context(model))
    x, speed = 0.0, 0.0
    for _ in range(7):
        speed = 0.6 * speed + (x - 1.0)
        x -= 0.1 * speed
    assert torch.allclose(refined, torch.full_like(z0, x), atol=1e-6)


@pytest.mark.parametrize("optimiser, momentum", [("sgd", 0.9), ("adam", 0.0)])
def test_momentum_does_not_move_an_image_that_has_stopped(optimiser, momentum):
    """Adam has its own."""
    z0 = torch.stack([torch.full((1, 2, 2), 0.5), torch.full((1, 2, 2), -40.0)])
    model = Quadratic(1.0)
    refine = Refine(8, 0.1, optimiser, momentum, stop=(("total", 0.1),))
    opened = context(model)
    together = refine.apply(z0, (model,), opened)
    first, second = opened.trace.stops[0].iterations
    assert 1 < first < second == 8
    assert torch.equal(together[:1], refine.apply(z0[:1], (model,), context(model)))
    assert opened.trace.records[-1].loss[0] == opened.trace.records[first].loss[0] <= 0.1


def test_a_batch_is_its_single_images():
    torch.manual_seed(0)
    z0, model = torch.randn(3, 1, 2, 2), Quadratic(1.0)
    together = Refine(5).apply(z0, (model,), context(model))
    alone = torch.cat([Refine(5).apply(z, (model,), context(model)) for z in z0.split(1)])
    assert torch.allclose(together, alone, atol=1e-7)


def test_threshold_stops_one_image_and_not_the_other():
    z0 = torch.stack([torch.full((1, 2, 2), 0.99), torch.zeros(1, 2, 2)])
    model = Quadratic(1.0)
    opened = context(model)
    refined = Refine(6, 0.05, stop=(("total", 0.01),)).apply(z0, (model,), opened)
    assert torch.equal(refined[0], z0[0]) and not torch.equal(refined[1], z0[1])
    assert opened.trace.stops[0].iterations == [0, 6]


def test_patience_stops_the_image_whose_loss_no_longer_falls():
    z0 = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), -9.0)])  # the first is there already
    opened = context(Quadratic(1.0))
    refined = Refine(12, 0.1, patience=3).apply(z0, (opened.objective,), opened)
    assert opened.trace.stops[0].iterations == [3, 12]
    assert "no lower loss for 3" in opened.trace.stops[0].reasons[0]
    assert torch.equal(refined[0], z0[0])


def test_overshoot_takes_one_update_more():
    z0, model = torch.full((1, 1, 2, 2), 0.9), Quadratic(1.0)
    for overshoot, updates in ((False, 1), (True, 2)):
        opened = context(model)
        Refine(9, 0.5, "sgd", stop=(("total", 0.01),), overshoot=overshoot).apply(z0, (model,), opened)
        assert opened.trace.stops[0].iterations == [updates]


def test_a_threshold_out_of_reach_is_refused():
    for stop, said in ((("total", -0.1), "cannot reach"), (("tv", 0.1), "names the loss 'tv'")):
        with pytest.raises(ValueError, match=said):
            Refine(stop=(stop,)).check(PAPER)


class Breaks(Quadratic):
    """Gives NaN for the second image once it has moved past 0.05."""

    def evaluate(self, attention, subjects, processing, earlier):
        value = super().evaluate(attention, subjects, processing, earlier)
        bad = attention.probabilities.flatten(1).amax(1) > 0.05
        bad &= torch.arange(len(bad)) == 1
        return Evaluation(value.total + torch.where(bad, math.nan, 0.0), value.terms, value.maps)


def test_an_image_that_turns_nan_keeps_its_last_finite_latent_and_says_so():
    model, z0 = Breaks(1.0), torch.zeros(2, 1, 2, 2)
    opened = context(model)
    refined = Refine(10, 0.02).apply(z0, (model,), opened)
    assert torch.isfinite(refined).all()
    assert float(refined[1].max()) <= 0.05 < float(refined[0].min())
    assert "not finite" in opened.trace.stops[0].reasons[1] and "not finite" not in opened.trace.stops[0].reasons[0]


def test_rate_zero_returns_the_latent_itself():
    z0, model = torch.randn(2, 1, 2, 2), Quadratic(1.0)
    assert torch.equal(Refine(3, 0.0).apply(z0, (model,), context(model)), z0)


def test_guidance_is_one_plain_gradient_step_on_the_schedule():
    z0, model = torch.zeros(1, 1, 2, 2), Quadratic(1.0)
    shifted = Guide(0.5).apply(z0, (model,), context(model))
    eta = 0.5 * math.sqrt(1 - 0.5 * 3 / 49)
    assert torch.allclose(shifted, torch.full_like(z0, eta), atol=1e-6)


def test_out_of_memory_goes_on_one_image_at_a_time():
    class Full(Quadratic):
        def __call__(self, latent, rows):
            if len(latent) > 1:
                raise MemoryError
            return super().__call__(latent, rows)

    freed, model, z0 = [], Full(1.0), torch.zeros(3, 1, 2, 2)
    opened = context(model, out_of_memory=lambda e: isinstance(e, MemoryError), release=lambda: freed.append(True))
    refined = Refine(4).apply(z0, (model,), opened)
    plain = Quadratic(1.0)
    assert torch.equal(refined, Refine(4).apply(z0, (plain,), context(plain)))
    assert freed == [True] and "one image at a time" in opened.trace.notes[0]


def test_adam_takes_no_momentum():
    with pytest.raises(ValueError, match="momentum is 0.4, but adam has its own"):
        Refine(momentum=0.4).check(PAPER)
    Refine(optimiser="sgd", momentum=0.4).check(PAPER)


@pytest.mark.parametrize("bad", [Refine(-1), Refine(lr=math.nan), Refine(lr=-1.0), Guide(math.inf), Guide(-1.0)])
def test_impossible_numbers_are_refused(bad):
    with pytest.raises(ValueError):
        bad.check(PAPER)


def test_loss_scale_is_divided_out_and_halved_on_overflow():
    class Half(Quadratic):
        def evaluate(self, attention, subjects, processing, earlier):
            small = attention.probabilities.half().float()
            value = super().evaluate(AttentionMaps(small), subjects, processing, earlier)
            return value

    model, z0 = Half(300.0), torch.zeros(1, 1, 2, 2)
    opened = context(model, loss_scale=2.0**16)
    value = opened.evaluate(z0, (model,))
    assert torch.isfinite(value.gradient).all() and opened.loss_scale < 2.0**16
    assert torch.allclose(value.gradient, torch.full_like(z0, -300.0), rtol=1e-2)

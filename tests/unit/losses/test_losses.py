"""Losses against values computed with the reference implementations."""

import pytest
import torch

from gsn.attention.maps import MapProcessing, SubjectMaps, smooth, subject_maps
from gsn.losses import LOSSES
from gsn.losses.objective import PAPER, objective

from .golden import attention, of_two_encoders, subjects

PADDED, WORDS = MapProcessing(), MapProcessing(columns="words")


def terms(groups, processing):
    value = PAPER.evaluate(attention(), subjects(*groups), processing)
    return [float(value.terms["attend_excite"]), float(value.terms["iou"]), float(value.total)]


@pytest.mark.parametrize(
    "groups, processing, expected",
    [
        ([[5], [8]], PADDED, [0.8000530, 0.0483342, 0.4241936]),
        ([[5], [8]], MapProcessing(blur=0), [0.6175747, 0.0108730, None]),
        ([[5], [8]], WORDS, [0.0854325, 0.1331269, None]),
        ([[5], [8], [11]], PADDED, [0.8044756, 0.0411991, None]),
        ([[5, 6], [8]], PADDED, [0.8509905, 0.0413446, None]),
    ],
)
def test_golden_vectors(groups, processing, expected):
    for got, want in zip(terms(groups, processing), expected, strict=True):
        assert want is None or got == pytest.approx(want, abs=1e-5)


def test_golden_sum_of_the_papers_losses():
    """The paper's text leaves open whether it adds them up or takes their mean."""
    added = objective("attend_excite") + objective("iou")
    for groups, expected in (([[5], [8]], 0.8000530 + 0.0483342), ([[5], [8], [11]], 0.8044756 + 0.0411991)):
        total = float(added.evaluate(attention(), subjects(*groups), PADDED).total)
        assert total == pytest.approx(expected, abs=1e-5)
        assert total == pytest.approx(2 * terms(groups, PADDED)[2], abs=1e-6)


def test_golden_vectors_of_two_encoders():
    """SD 3: each encoder's words are stretched by themselves, and a subject's two maps averaged."""
    seen, prompt = of_two_encoders()
    value = PAPER.evaluate(seen, prompt, WORDS)
    assert float(value.terms["attend_excite"]) == pytest.approx(0.8509220, abs=1e-5)
    assert float(value.terms["iou"]) == pytest.approx(0.4843528, abs=1e-5)
    alone = [PAPER.evaluate(seen, prompt, MapProcessing("words", stream=name)) for name in ("clip", "t5")]
    peaks = [float(one.terms["attend_excite"]) for one in alone]
    assert sum(peaks) / 2 == pytest.approx(0.8140860, abs=1e-5)


def test_golden_maxima():
    maxima = subject_maps(attention(), subjects([5], [8]), PADDED).maxima()[0]
    assert maxima.tolist() == pytest.approx([0.2133053, 0.1999470], abs=1e-5)


def test_blur_of_one_pixel_and_at_a_corner():
    maps = torch.zeros(1, 2, 5, 7)
    maps[0, 0, 2, 3] = maps[0, 1, 0, 0] = 1
    blurred = smooth(maps, 0.5)
    assert float(blurred[0, 0].max()) == pytest.approx(0.3319107, abs=1e-6)
    assert float(blurred[0, 1].sum()) == pytest.approx(0.6210362, abs=1e-6)


def test_one_image_does_not_change_another():
    single = PAPER.evaluate(attention(), subjects([5], [8]), PADDED).total
    batch = PAPER.evaluate(attention(3), subjects([5], [8]), PADDED).total
    assert torch.equal(batch, single.expand(3))


def test_maps_that_are_zero_do_not_divide_by_zero():
    zero = torch.zeros(2, 3, 4, 4, requires_grad=True)
    value = LOSSES["iou"].function(SubjectMaps(zero, attention(2)), subjects([5], [8], [11]))
    assert value.tolist() == [0.0, 0.0]
    assert torch.isfinite(torch.autograd.grad(value.sum(), zero)[0]).all()


def test_overlap_alone_refuses_one_subject_and_the_paper_does_not():
    with pytest.raises(ValueError, match="at least 2"):
        objective("iou").check(subjects([5]), (16, 16))
    PAPER.check(subjects([5]), (16, 16))
    assert float(PAPER.evaluate(attention(), subjects([5]), PADDED).total) > 0


def test_loss_gradient_by_finite_differences():
    torch.manual_seed(0)
    logits = torch.randn(1, 4, 5, 77, dtype=torch.float64)

    def loss(z):
        return PAPER.evaluate(type(attention())(z.softmax(-1)), subjects([5], [8]), PADDED).total.sum()

    assert torch.autograd.gradcheck(loss, logits.requires_grad_(True), eps=1e-6, atol=1e-6)


def test_every_setting_of_a_loss_is_explained():
    for name, loss in LOSSES.items():
        assert set(loss.explains) == set(loss.settings()), name

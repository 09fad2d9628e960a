"""Intervals and tests of rates, against published values and closed forms."""

import math

import numpy as np
import pytest

from gsn.metrics.stats import bootstrap_mean, sign_test, wilson


def test_wilson_of_published_examples():
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    published = [((81, 263), (0.2553, 0.3662)), ((15, 148), (0.0624, 0.1605)), ((0, 20), (0, 0.1611))]
    for counts, interval in [*published, ((1, 29), (0.0061, 0.1718))]:
        assert wilson(*counts) == pytest.approx(interval, abs=5e-5)


def test_wilson_solves_the_score_equation():
    """Its ends are the rates p for which the observed one lies z standard errors of p away."""
    z = 1.959963984540054
    for k, n in ((3, 7), (41, 96), (1, 1000)):
        for p in wilson(k, n):
            assert abs(k / n - p) / math.sqrt(p * (1 - p) / n) == pytest.approx(z, abs=1e-9)


def test_wilson_at_the_ends():
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == 1 and wilson(0, 0) == (0, 1)
    assert wilson(5, 10, 0.5)[0] > wilson(5, 10, 0.95)[0]


@pytest.mark.parametrize("counts", [(-1, 5), (6, 5), (1, 0)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="no fewer than 0 and no more than all"):
        wilson(*counts)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_is_a_fraction(confidence):
    for call in (lambda: wilson(1, 2, confidence), lambda: bootstrap_mean([1.0], confidence)):
        with pytest.raises(ValueError, match="between 0 and 1"):
            call()


def test_the_bootstrap_of_a_large_sample_is_the_normal_interval():
    values = np.random.default_rng(1).normal(3, 2, 400)
    mean, low, high = bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert mean == pytest.approx(values.mean(), abs=1e-12)
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.02)


def test_the_bootstrap_of_two_values_is_exact():
    """Of two values, the resampled mean is either one with probability 1/4 each: the ends are the values."""
    assert bootstrap_mean([0.0, 1.0]) == (0.5, 0.0, 1.0)
    assert bootstrap_mean([0.0, 1.0], confidence=0.4) == (0.5, 0.5, 0.5)


def test_the_bootstrap_repeats_itself_and_its_parts_do_not_show():
    values = np.random.default_rng(2).random(3000).tolist()  # several parts of resamples
    assert bootstrap_mean(values, resamples=3000) == bootstrap_mean(values, resamples=3000)
    assert bootstrap_mean(values, resamples=3000) != bootstrap_mean(values, resamples=3000, seed=1)


@pytest.mark.parametrize("values", [[], [0.5, float("nan")], [[1.0, 2.0]]])
def test_what_has_no_mean_is_refused(values):
    with pytest.raises(ValueError, match="a mean needs"):
        bootstrap_mean(values)


def test_the_sign_test_by_hand():
    assert sign_test(0, 0) == 1 and sign_test(3, 3) == 1
    assert sign_test(5, 0) == sign_test(0, 5) == 2 / 32
    assert sign_test(8, 2) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert 0 < sign_test(900, 300) < 1e-60  # no overflow

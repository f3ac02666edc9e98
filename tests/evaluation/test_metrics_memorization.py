"""Copies are caught, honest samplers are not, at the stated rate; missing classes are named."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from undiffuse.evaluation.metrics import (
    frechet_figure,
    manifold_figures,
    match_features,
    memorization,
    modes,
)
from undiffuse.evaluation.metrics.figure import auroc, share
from undiffuse.evaluation.metrics.memorization import detectable, nearest_tail, power, z_score


def normal(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_sampler_that_copies_is_caught_while_its_quality_looks_perfect():
    training, held_out = normal(300, 4, 0), normal(600, 4, 1)
    copies = training[torch.randperm(300, generator=torch.Generator().manual_seed(2))]
    found = memorization(training, held_out, copies + 1e-4 * normal(300, 4, 3))
    assert found.caught
    assert found.z < -5
    assert found.closer.low > 0.9
    assert found.copies.low > 0.9 > 0.3 > found.copies.floor
    sets = match_features(held_out, copies)
    assert frechet_figure(sets).low <= frechet_figure(sets).floor
    figures = manifold_figures(sets)
    assert figures.precision.high > figures.precision.floor
    assert figures.coverage.high > figures.coverage.floor


def test_a_few_copies_among_honest_samples_are_caught_and_come_first():
    training, held_out, honest = normal(400, 4, 0), normal(400, 4, 1), normal(400, 4, 2)
    samples = honest.clone()
    samples[100:116] = training[50:66]
    found = memorization(training, held_out, samples)
    assert found.caught
    assert abs(found.z) < 3  # which ranks alone would not see
    assert {(pair.sample, pair.training) for pair in found.pairs} == {
        (100 + i, 50 + i) for i in range(16)
    }
    assert all(pair.distance == pair.ratio == 0 for pair in found.pairs)


def test_an_honest_sampler_is_accused_at_the_stated_rate():
    """300 runs: p below 0.1 in at most one of ten, and z a standard normal."""
    drawn = [memorization(*normal(140, 3, i).split([40, 50, 50])) for i in range(300)]
    p, z = np.array([found.p for found in drawn]), np.array([found.z for found in drawn])
    assert np.mean(p < 0.1) <= 0.1 + 3 * (0.09 / 300) ** 0.5
    assert np.mean(p < 0.1) >= 0.03
    assert z.mean() == pytest.approx(0, abs=4 / 300**0.5)
    assert z.std() == pytest.approx(1, abs=4 * 0.5**0.5 / 300**0.5)
    held = np.mean([found.closer.low <= 0.5 <= found.closer.high for found in drawn])
    assert held >= 0.95 - 0.05


def test_the_p_value_is_twice_the_smaller_of_both_tests():
    """Blurs are nearer to all rows, and none is a copy; what lies far away is no copy either."""
    from scipy.stats import norm

    training, held_out, honest = normal(150, 3, 0), normal(200, 3, 1), normal(200, 3, 2)
    for samples, caught in ((0.5 * honest, True), (2 * honest, False), (honest, False)):
        found = memorization(training, held_out, samples)
        assert found.p == pytest.approx(min(1, 2 * min(norm.cdf(found.z), found.p_nearest)))
        assert found.caught == caught
        assert found.least <= found.p
    # what the first test would give if every sample were nearer than every held-out row
    farthest = norm.cdf(-0.5 / (401 / (12 * 200 * 200)) ** 0.5)
    assert memorization(training, held_out, honest).least == pytest.approx(2 * farthest, rel=1e-6)
    most = torch.cat([training, honest[:2]])
    assert memorization(training, held_out, most).copies.value > 0.95
    assert memorization(training, held_out, most).copies.high == 1
    assert memorization(training, held_out, 0.5 * honest).z < -4
    assert memorization(training, held_out, 2 * honest).z > 4


def test_rows_that_occur_twice_are_no_proof():
    """Data of ten distinct rows: every sample is a copy, and so is every held-out row."""
    rows = normal(10, 2, 0)[torch.randint(10, (300,), generator=torch.Generator().manual_seed(1))]
    assert not memorization(rows[:100], rows[100:200], rows[200:]).caught


def test_ranks_are_those_of_scipy():
    from scipy.stats import mannwhitneyu, norm

    a, b = normal(40, 1, 0)[:, 0].numpy().round(1), normal(60, 1, 1)[:, 0].numpy().round(1) + 0.2
    theirs = mannwhitneyu(a, b, method="asymptotic", use_continuity=False, alternative="less")
    theta = auroc(a, b).value
    assert theta == pytest.approx(theirs.statistic / 2400, rel=1e-12)
    assert norm.cdf(z_score(theta, a, b)) == pytest.approx(theirs.pvalue, rel=1e-9)


@pytest.mark.parametrize(("count", "n"), [(0, 9), (3, 9), (9, 9), (40, 100)])
def test_a_share_is_inside_its_interval_and_the_ends_are_wilsons(count, n):
    """At either end p the score test is on its edge: |count/n - p| = z sqrt(p (1 - p)/n)."""
    found = share(count, n)
    assert found.low <= found.value <= found.high
    for p in (found.low, found.high):
        error = abs(found.value - p) - 1.959964 * (p * (1 - p) / n) ** 0.5
        assert error == pytest.approx(0, abs=1e-6)
    assert 2 * 1.959964 * found.stderr == pytest.approx(found.high - found.low)


def test_classes_that_are_not_reached_are_named():
    generator = torch.Generator().manual_seed(0)
    real, fake = (
        torch.randint(5, (600,), generator=generator),
        torch.randint(3, (300,), generator=generator),
    )
    found = modes(real, fake, classes=6)
    assert found.missing == (3, 4)
    assert (found.reached.value, found.reached.floor) == (3, 5)
    assert found.variation.value == pytest.approx(0.4, abs=0.05)
    assert found.variation.low > found.variation.floor
    same = modes(real[:300], real[300:], classes=6)
    assert same.missing == ()
    assert same.variation.low <= same.variation.floor <= same.variation.high


def planted(n, share, seed, samples=1000):
    """Honest normal rows, `share` of the samples replaced by training rows, at random places."""
    training, held_out, made = normal(60 + n + samples, 2, seed).split([60, n, samples])
    made = made.clone()
    rng = np.random.default_rng(seed)
    place = torch.from_numpy(rng.random(samples) < share)
    made[place] = training[torch.from_numpy(rng.integers(60, size=int(place.sum())))]
    return memorization(training, held_out, made, seed=seed)


@pytest.mark.parametrize("n", [8, 28, 100, 300])
def test_a_detectable_share_of_copies_is_caught_in_nine_of_ten_cases(n):
    """With 1,000 samples, however few rows are held out."""
    share = detectable(n)
    assert share is not None
    assert power(n, share) >= 0.9 > power(n, share - 0.01)
    caught = np.mean([planted(n, share, seed).caught for seed in range(30)])
    assert caught >= 0.9 - 3 * (0.09 / 30) ** 0.5


@pytest.mark.parametrize(("n", "share"), [(28, 0.4), (100, 0.1), (300, 0.03)])
def test_the_stated_power_is_the_rate_of_alarms_of_the_second_test(n, share):
    rng, expected = np.random.default_rng(0), power(n, share)
    drawn = [(rng.random(n) * (rng.random(n) >= share), rng.random(n)) for _ in range(200)]
    rate = np.mean([2 * nearest_tail(*distances) < 0.001 for distances in drawn])
    assert 0.2 < expected < 0.8
    assert rate == pytest.approx(expected, abs=3 * (expected * (1 - expected) / 200) ** 0.5)


def test_honest_samples_are_accused_at_no_more_than_the_level():
    """At every level up to 0.1, with ten times as many samples as held-out rows."""
    p = np.array([planted(28, 0.0, seed, samples=280).p for seed in range(200)])
    for level in (0.001, 0.01, 0.1):
        assert np.mean(p < level) <= level + 3 * (level * (1 - level) / 200) ** 0.5


def test_where_no_test_has_power_that_is_said():
    """Ten distinct rows: whatever is drawn from them, and whatever is not, is a copy."""
    rows = normal(10, 2, 0)[torch.randint(10, (300,), generator=torch.Generator().manual_seed(1))]
    found = memorization(rows[:100], rows[100:200], rows[200:])
    assert found.powerless
    assert found.detectable is None
    assert not planted(8, 0.0, 0).powerless

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
from undiffuse.evaluation.metrics.memorization import z_score


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

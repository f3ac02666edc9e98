"""The distances against closed forms, their variances and intervals against many fresh draws."""

from __future__ import annotations

import math
from importlib import import_module
from itertools import product

import numpy as np
import pytest
import torch

from undiffuse.errors import InputError
from undiffuse.evaluation.metrics import (
    frechet,
    frechet_figure,
    kernel_distance,
    kernel_figure,
)
from undiffuse.evaluation.metrics import match_features as match
from undiffuse.evaluation.metrics.frechet import between, gaussian

MODULE = import_module("undiffuse.evaluation.metrics.frechet")  # its name is the function's too


def normal(n, d, seed, *, mean=0.0, scale=1.0):
    return mean + scale * torch.randn(
        n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def covariance(d, seed):
    a = normal(d, d, seed)
    return a @ a.T / d + 0.1 * torch.eye(d).double()


def test_frechet_distance_of_commuting_covariances_is_that_of_their_roots():
    """S_a and S_b with the same axes: |mu_a - mu_b|^2 + sum (sqrt(a) - sqrt(b))^2."""
    axes, _ = torch.linalg.qr(normal(6, 6, 0))
    a, b = torch.tensor([[4.0, 1, 9, 0, 0, 2], [1.0, 1, 0, 0, 5, 3]]).double()
    shift = normal(1, 6, 1)[0]
    cov_a, cov_b = (axes @ values.diag() @ axes.T for values in (a, b))
    expected = shift.square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    found = between((shift, cov_a), (torch.zeros(6).double(), cov_b))
    assert found == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("d", [2, 9])
def test_frechet_distance_of_any_covariances_is_that_of_scipys_matrix_root(d):
    from scipy.linalg import sqrtm

    a, b = covariance(d, 0), covariance(d, 1)
    root = np.real(np.trace(np.asarray(sqrtm((a @ b).numpy()))))
    expected = float(a.trace() + b.trace()) - 2 * root
    zero = torch.zeros(d).double()
    assert between((zero, a), (zero, b)) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_with_fewer_rows_than_features_is_exact():
    """Rows in a plane of 300 dimensions have the distance that they have in the plane."""
    plane, _ = torch.linalg.qr(normal(300, 2, 0))
    a, b = normal(20, 2, 1), normal(30, 2, 2, scale=2.0) + 1
    assert frechet(a @ plane.T, b @ plane.T) == pytest.approx(frechet(a, b), rel=1e-12)
    assert frechet(a @ plane.T, a @ plane.T) <= 1e-12


def test_moments_do_not_depend_on_the_block():
    x = normal(50, 5, 0)
    mean, cov = gaussian(x, block=7, panel=2)
    np.testing.assert_allclose(cov, np.cov(x.numpy().T), rtol=1e-12)
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-12)
    mean, cov = gaussian(x.float())
    assert (mean.dtype, cov.dtype) == (torch.float64, torch.float64)
    np.testing.assert_allclose(cov, np.cov(x.float().double().numpy().T), rtol=1e-12)


@pytest.mark.parametrize("small", [1e-4, 1e-9, 1e-13, 0.0])
@pytest.mark.parametrize("large", [1.0, 1e8])
def test_frechet_distance_of_narrow_gaussians_is_that_of_their_widths(small, large):
    """Turned Gaussians with one axis of variance `small`, or none: (sqrt a - sqrt b)^2 summed."""
    axes, _ = torch.linalg.qr(normal(3, 3, 0))
    a, b = torch.tensor([[1.0, 2.0, small], [4.0, 2.0, small]]).double() * large
    cov_a, cov_b = (axes @ values.diag() @ axes.T for values in (a, b))
    zero = torch.zeros(3).double()
    assert between((zero, cov_a), (zero, cov_b)) == pytest.approx(large, rel=1e-5)
    assert between((zero, cov_a), (zero, cov_a)) <= 1e-5 * large


@pytest.mark.parametrize("n", [100, 150, 151, 99, 20])
@pytest.mark.parametrize(("theta", "c"), [(5.0, 300.0), (5.0, 1200.0), (5.0, 0.0), (1.0, -50.0)])
def test_the_bias_of_the_frechet_distance_is_taken_out_of_its_interval(monkeypatch, n, theta, c):
    """A distance of theta + c/n exactly: the interval is theta alone, and reaches to the value."""
    monkeypatch.setattr(MODULE, "frechet", lambda a, b: theta + c / len(a))
    value = theta + c / n
    found = frechet_figure(match(normal(n, 2, 0), normal(n, 2, 1)))
    assert found.value == pytest.approx(value)
    assert found.low == pytest.approx(max(0.0, min(theta, value)))
    assert found.high == pytest.approx(max(theta, value))
    assert found.stderr == pytest.approx(0, abs=1e-6)
    assert found.n == n
    assert found.floor == pytest.approx((theta + c / (n // 2)) * (n // 2) / n)
    share = min(1.0, c / n / value)
    said = f"about {share:.0%} of it is due to there being only {n} rows"
    assert (said in found.warning) == (n >= 100 and share > 0.5)
    few = f"only {n} rows: too few for the interval to be trusted"
    assert (few in found.warning) == (n < 100)


def test_the_interval_of_the_frechet_distance_is_as_wide_as_its_halves_say(monkeypatch):
    """A distance that is a mean over rows: no bias but chance, and the spread over halves."""

    def mean(a, b):
        return 3 + float(b[:, 0].mean() - a[:, 0].mean())

    monkeypatch.setattr(MODULE, "frechet", mean)
    sets = match(normal(401, 2, 0), normal(201, 2, 1))
    found = frechet_figure(sets)
    each = np.array([mean(sets.reference[a], sets.fake[b]) for a, b in sets.subsets()])
    error = each.std(ddof=1) * math.sqrt(100 / 101)
    corrected = found.value - (each.mean() - found.value) * 100 / 101
    assert found.stderr == pytest.approx(error)
    assert found.low == pytest.approx(corrected - 2.0930240544 * error)
    assert found.high == pytest.approx(corrected + 2.0930240544 * error)
    assert found.warning.startswith("the floor is that of 200 real rows")


@pytest.mark.parametrize(("n", "features", "few"), [(20, 11, True), (20, 10, False)])
def test_rows_are_few_for_a_frechet_distance_below_two_a_feature(n, features, few):
    warning = frechet_figure(match(normal(2 * n, features, 0), normal(n, features, 1))).warning
    assert (f"{n} rows for {features} features: too few" in warning) == few


@pytest.mark.parametrize(("d", "n", "mean"), [(2, 150, 0.7), (8, 60, 0.5)])
def test_frechet_interval_holds_the_distance_of_the_laws(d, n, mean):
    """Truth d (mean^2 + (1.5 - 1)^2); the figure of 60 rows is too large by more than its error."""
    truth, repeats = d * (mean**2 + 0.25), 120
    figures = [
        frechet_figure(
            match(normal(2 * n, d, 2 * i), normal(n, d, 2 * i + 1, mean=mean, scale=1.5), seed=i)
        )
        for i in range(repeats)
    ]
    held = np.mean([figure.low <= truth <= figure.high for figure in figures])
    assert held >= 0.95 - 3 * (0.95 * 0.05 / repeats) ** 0.5
    errors = np.array([figure.stderr for figure in figures])
    values = np.array([figure.value for figure in figures])
    assert errors.mean() == pytest.approx(values.std(), rel=0.25)
    middle = np.array([(figure.low + figure.high) / 2 for figure in figures])
    if d == 8:
        assert values.mean() - truth > values.std()  # or the correction would not be tested
        assert abs(middle.mean() - truth) < abs(values.mean() - truth)
    below = np.mean([figure.low > truth for figure in figures])
    assert below <= 0.025 + 3 * (0.025 * 0.975 / repeats) ** 0.5


@pytest.mark.parametrize(("n", "m"), [(4, 4), (5, 4)])
def test_kernel_distance_and_its_variance_are_unbiased(n, m):
    """Exactly: over all samples of two laws of two points each, weighted by their probabilities."""
    (a, p), (b, q) = ((-1.0, 0.5), (0.3, 0.7)), ((0.0, 2.0), (0.6, 0.4))
    values, variances, weights = [], [], []
    for ours, theirs in product(product((0, 1), repeat=n), product((0, 1), repeat=m)):
        x, y = (
            torch.tensor([[points[i]] for i in places]).double()
            for points, places in ((a, ours), (b, theirs))
        )
        value, variance = kernel_distance(x, y)
        values.append(value)
        variances.append(variance)
        weights.append(np.prod([p[i] for i in ours]) * np.prod([q[i] for i in theirs]))

    def expected(one, other):
        """E (xy + 1)^3 over independent draws of two laws."""
        (points, shares), (others, theirs) = one, other
        return sum(
            s * t * (u * v + 1) ** 3 for u, s in zip(points, shares) for v, t in zip(others, theirs)
        )

    one, other = (a, p), (b, q)
    truth = expected(one, one) + expected(other, other) - 2 * expected(one, other)
    assert sum(weights) == pytest.approx(1)
    assert np.average(values, weights=weights) == pytest.approx(truth, rel=1e-10)
    spread = np.average((np.array(values) - truth) ** 2, weights=weights)
    assert np.average(variances, weights=weights) == pytest.approx(spread, rel=1e-10)


def test_kernel_distance_does_not_depend_on_the_block_and_is_symmetric():
    a, b = normal(40, 3, 0), normal(30, 3, 1) + 1
    whole = kernel_distance(a, b)
    assert kernel_distance(a, b, block=7) == pytest.approx(whole, rel=1e-9)
    assert kernel_distance(b, a, block=1) == pytest.approx(whole, rel=1e-9)


def test_the_error_of_the_kernel_distance_is_that_of_chance_between_sets_of_one_law():
    """There its variance is of second order, and the unbiased estimate is often negative."""
    repeats, n, d = 120, 40, 4
    sets = [match(normal(n, d, 2 * i), normal(n, d, 2 * i + 1), seed=i) for i in range(repeats)]
    figures = [kernel_figure(pair) for pair in sets]
    values, errors = (
        np.array([getattr(figure, name) for figure in figures]) for name in ("value", "stderr")
    )
    assert sum(kernel_distance(pair.reference, pair.fake)[1] < 0 for pair in sets) > repeats / 10
    assert errors.min() > values.std() / 3
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.25)


def degenerate(a, b):
    """The terms of second order by their definition, from the whole kernel matrix."""
    k = (a @ b.T / a.shape[1] + 1) ** 3
    kept = torch.ones_like(k) if a is not b else 1 - torch.eye(len(a)).double()
    h, g = ((k * kept).sum(axis) / kept.sum(axis) for axis in (1, 0))
    mean, square = ((k**power * kept).sum() / kept.sum() for power in (1, 2))
    v = square - h.square().mean() - g.square().mean() + mean**2
    return max(0.0, float(v / kept.sum()))


def test_the_error_of_the_kernel_distance_is_the_larger_of_its_two_variances():
    larger = set()
    for seed, n, shift in product(range(6), (11, 40), (0.0, 4.0)):
        x, y = normal(n, 4, 2 * seed), normal(n, 4, 2 * seed + 1) + shift
        second = 2 * degenerate(x, x) + 2 * degenerate(y, y) + 4 * degenerate(x, y)
        sets = match(x, y)
        found, (value, variance) = kernel_figure(sets), kernel_distance(sets.reference, sets.fake)
        larger.add(second > variance)
        assert found.value == value
        assert found.stderr == pytest.approx(math.sqrt(max(second, variance)), rel=1e-9)
        assert found.floor == kernel_distance(*sets.halves)[0]
    assert larger == {True, False}


def expected_kernel(a, b):
    """E (x.y/d + 1)^3 for x of N(a, I) and y of N(b, I): by Isserlis, with s = a.b,

    E x.y = s,   E (x.y)^2 = s^2 + |a|^2 + |b|^2 + d,   E (x.y)^3 = s^3 + 3 (|a|^2 + |b|^2 + d + 2)
    s
    """
    d, s, squares = len(a), float(a @ b), float(a @ a + b @ b)
    return (
        1 + 3 * s / d + 3 * (s**2 + squares + d) / d**2 + (s**3 + 3 * (squares + d + 2) * s) / d**3
    )


def test_kernel_interval_holds_the_distance_of_the_laws():
    repeats, n, d = 100, 150, 8
    sets = [
        match(normal(n, d, 2 * i), normal(n, d, 2 * i + 1) + 0.5, seed=i) for i in range(repeats)
    ]
    figures = [kernel_figure(pair) for pair in sets]
    one, other = torch.zeros(d).double(), torch.full((d,), 0.5).double()
    truth = (
        expected_kernel(one, one) + expected_kernel(other, other) - 2 * expected_kernel(one, other)
    )
    values = np.array([figure.value for figure in figures])
    assert values.mean() == pytest.approx(truth, abs=4 * values.std() / repeats**0.5)
    held = np.mean([figure.low <= truth <= figure.high for figure in figures])
    assert abs(held - 0.95) <= 3 * (0.95 * 0.05 / repeats) ** 0.5


@pytest.mark.parametrize("of", [frechet_figure, kernel_figure])
def test_half_of_the_data_sits_at_its_floor(of):
    """Real rows as samples: figure and floor have one law, and differ by as much as they err."""
    gaps, errors = [], []
    for i in range(20):
        rows = normal(450, 8, i)
        figure = of(match(rows[:300], rows[300:], seed=i))
        gaps.append(figure.value - figure.floor)
        errors.append(np.hypot(figure.stderr, figure.stderr))
        assert figure.n == 150
    assert abs(np.mean(gaps)) <= 4 * np.std(gaps) / 20**0.5
    assert np.std(gaps) <= 1.3 * np.mean(errors)


def test_figures_say_when_there_are_too_few_rows():
    few = frechet_figure(match(normal(60, 40, 0), normal(30, 40, 1)))
    assert "30 rows for 40 features: too few" in few.warning
    assert few.low <= few.value <= few.high
    biased = frechet_figure(match(normal(400, 30, 0), normal(200, 30, 1)))
    assert "due to there being only 200 rows" in biased.warning
    assert "only 50 rows" in kernel_figure(match(normal(100, 2, 0), normal(50, 2, 1))).warning
    assert (
        "floor is that of 100 real rows"
        in kernel_figure(match(normal(200, 2, 0), normal(200, 2, 1))).warning
    )
    assert kernel_figure(match(normal(400, 2, 0), normal(200, 2, 1))).warning == ""


def test_features_that_cannot_be_compared_are_refused():
    good = normal(20, 3, 0)
    for bad, words in [
        (normal(20, 2, 0), "2 features, and the real rows have 3"),
        (normal(5, 3, 0), "5 rows are too few"),
        (good[:, 0], "give a matrix"),
        (torch.full((20, 3), torch.nan).double(), "20 of 20 rows are not finite"),
    ]:
        with pytest.raises(InputError, match=words):
            match(good, bad)

"""Neighbours against brute force; the four figures on planted cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from undiffuse.errors import InputError
from undiffuse.evaluation.metrics import (
    density_coverage,
    manifold,
    manifold_figures,
    nearest,
    precision_recall,
)
from undiffuse.evaluation.metrics import (
    match_features as match,
)
from undiffuse.evaluation.metrics.neighbours import (
    nearest_within,
    squared_distances,
    squared_radii,
)


def normal(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def modes(n, seed, *, of=6, noise=0.0, dropped=0):
    """`of` tight clusters on a circle, the last ones dropped."""
    generator = torch.Generator().manual_seed(seed)
    angle = torch.randint(of - dropped, (n,), generator=generator) * (2 * torch.pi / of)
    centre = 5 * torch.stack([angle.cos(), angle.sin()], 1).double()
    return centre + (0.3**2 + noise**2) ** 0.5 * torch.randn(
        n, 2, generator=generator, dtype=torch.float64
    )


@pytest.mark.parametrize("block", [1, 7, 100])
def test_nearest_is_that_of_the_full_matrix(block):
    a, b = normal(23, 4, 0), normal(31, 4, 1)
    full = (a[:, None] - b).norm(dim=2)
    distance, index = nearest(a, b, 3, block=block)
    expected = full.sort(1)
    np.testing.assert_allclose(distance, expected.values[:, :3], rtol=1e-12)
    assert index.equal(expected.indices[:, :3])


def test_a_copy_is_at_distance_zero_wherever_it_lies():
    x = normal(50, 30, 0) + 1e4
    distance, index = nearest(x, x.clone())
    assert distance.eq(0).all()
    assert index[:, 0].equal(torch.arange(50))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_copy_is_at_distance_zero_and_its_neighbours_are_not(scale):
    """Rows near and far from the mean, each twice; the nearest other row is a 1000th as far."""
    x = normal(6, 30, 0) * torch.tensor([1e-3, 1, 1, 30, 30, 1000])[:, None]
    x = (torch.cat([x, x, x + 1e-3 * normal(6, 30, 1)]) + 5) * scale
    squared, index = nearest_within(x, 3, block=4)
    exact = (x[:, None] - x).square().sum(2).sort(1).values[:, :3]
    assert squared[:12, :2].eq(0).all()
    assert squared[:12, 2].gt(0).all()
    np.testing.assert_allclose(squared, exact, rtol=1e-3)
    np.testing.assert_allclose((x - x[index[:, 2]]).square().sum(1), exact[:, 2], rtol=1e-9)
    for first, blocked in squared_distances(x, x, block=5):
        assert blocked.shape == (min(5, 18 - first), 18)
        ours = (x[first : first + 5, None] - x).square().sum(2)
        assert blocked[ours == 0].eq(0).all()
        assert blocked[ours > 0].gt(0).all()


def test_distances_are_as_exact_far_from_the_origin():
    """All rows lie a million away, a little apart: what is lost of it must not be of them."""
    x = (1e6 * (1 + normal(1, 4, 0)) + normal(20, 4, 1).round(decimals=3)).round(decimals=3)
    exact = (x[:, None] - x).square().sum(2)
    squared, index = nearest_within(x, 4, block=7)
    np.testing.assert_allclose(squared, exact.sort(1).values[:, :4], rtol=1e-6)
    assert index.equal(exact.sort(1).indices[:, :4])
    blocks = torch.cat([part for _, part in squared_distances(x, x, block=7)])
    np.testing.assert_allclose(blocks, exact, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("block", [1, 5, 30])
@pytest.mark.parametrize("k", [1, 3])
def test_radii_in_subsets_are_those_of_the_subset_alone(k, block):
    """Small ones too, whose rows are seldom among the nearest that are kept."""
    x = normal(30, 2, 0)
    x[10:20] = x[:10]  # copies
    subsets = [torch.arange(30), torch.arange(0, 30, 2), torch.arange(k + 1), torch.arange(7, 30)]
    found = squared_radii(x, k, subsets, block=block)
    assert found.shape == (4, 30)
    for own, rows in zip(found, subsets):
        inside = (x[rows, None] - x[rows]).square().sum(2).sort(1).values[:, k]
        expected = torch.full((30,), -1.0).double()
        expected[rows] = inside
        np.testing.assert_allclose(own, expected, atol=1e-12)


def by_hand(real, fake, k):
    """The four definitions, one comparison at a time."""

    def radius(x, i):
        return sorted(float((x[i] - other).norm()) for j, other in enumerate(x) if j != i)[k - 1]

    def holds(x, radii, y):
        return [float((centre - y).norm()) <= r * (1 + 1e-9) for centre, r in zip(x, radii)]

    ours, theirs = ([radius(x, i) for i in range(len(x))] for x in (real, fake))
    balls = np.array([holds(real, ours, y) for y in fake])
    recall = np.mean([any(holds(fake, theirs, y)) for y in real])
    return balls.any(1).mean(), recall, balls.sum(1).mean() / k, balls.any(0).mean()


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("sort", ["general", "grid", "copies"])
def test_the_four_figures_are_their_definitions(sort, k):
    """On a grid most distances are tied; with copies most radii are zero."""
    real, fake = normal(25, 2, 0), normal(18, 2, 1)
    if sort == "grid":
        real, fake = real.round() / 3, fake.round() / 3
    if sort == "copies":
        real, fake = real[torch.arange(25) % 4], torch.cat([real[:3].repeat(5, 1), fake[:3]])
    found = manifold(real, fake, k, block=4)[0].tolist()
    assert found == pytest.approx(by_hand(real, fake, k), abs=1e-12)
    assert (*precision_recall(real, fake, k), *density_coverage(real, fake, k)) == tuple(found)


@pytest.mark.parametrize(
    ("n", "step"), [(40, 2), (400, 20)]
)  # a twentieth is seldom among the nearest rows kept
def test_subsets_are_served_as_if_they_were_all_there_is(n, step):
    real, fake = normal(n, 3, 0), normal(30, 3, 1)
    a, b = torch.arange(0, n, step), torch.arange(1, 30, 3)
    found = manifold(real, fake, 2, halves=[(a, b)], block=7)
    assert found[1].equal(manifold(real[a], fake[b], 2)[0])
    assert found[0].equal(manifold(real, fake, 2)[0])


def test_a_copy_of_the_data_is_perfect_even_where_the_data_is_a_few_points():
    few = normal(3, 2, 0)[torch.arange(30) % 3]
    precision, recall, _, coverage = manifold(few, few.clone(), 5)[0].tolist()
    assert (precision, recall, coverage) == (1, 1, 1)


def test_a_perfect_sampler_has_density_1_and_coverage_1_minus_2_to_the_minus_k():
    """Naeem et al. 2020, section 3.2: coverage follows from exchangeability."""
    k = 3
    found = torch.stack(
        [manifold(normal(200, 2, 2 * i), normal(200, 2, 2 * i + 1), k)[0] for i in range(60)]
    )
    mean, error = found.mean(0), found.std(0) / 60**0.5
    expected = 1 - np.prod([(200 - j) / (400 - j) for j in range(1, k + 1)])
    assert float(mean[2]) == pytest.approx(1, abs=4 * float(error[2]))
    assert float(mean[3]) == pytest.approx(expected, abs=4 * float(error[3]))
    assert expected == pytest.approx(1 - 2**-k, abs=0.01)


def test_dropped_modes_cost_coverage_and_recall_and_not_precision():
    figures = manifold_figures(match(modes(800, 0), modes(400, 1, dropped=3)))
    for figure in (figures.recall, figures.coverage):
        assert figure.high < figure.floor - 0.2
    for figure in (figures.precision, figures.density):
        assert figure.high > figure.floor - 0.03


def test_noise_costs_precision_and_density():
    figures = manifold_figures(match(modes(800, 0), modes(400, 1, noise=1.5)))
    for figure in (figures.precision, figures.density):
        assert figure.high < figure.floor - 0.2


def test_half_of_the_data_sits_at_its_floor():
    rows = modes(1200, 0)
    for name, figure in vars(manifold_figures(match(rows[:800], rows[800:]))).items():
        assert abs(figure.value - figure.floor) <= 4 * 2**0.5 * figure.stderr, name
        assert figure.warning == ""


@pytest.mark.parametrize("worse", [False, True])
def test_errors_are_those_of_fresh_draws(worse):
    """The standard error from halves of one draw, against the standard deviation over 60 draws."""

    def sampler(seed):
        return 1.5 * normal(120, 2, seed) + 0.5 if worse else normal(120, 2, seed)

    figures = [
        manifold_figures(match(normal(240, 2, 2 * i), sampler(2 * i + 1), seed=i))
        for i in range(60)
    ]
    for name in ("precision", "recall", "density", "coverage"):
        truth = np.std([getattr(figure, name).value for figure in figures])
        mean = np.mean([getattr(figure, name).stderr for figure in figures])
        assert 0.8 <= mean / truth <= 1.6, (name, mean / truth)


def test_intervals_hold_what_is_known_of_a_perfect_sampler():
    """Density is 1 on average, coverage what exchangeability gives, whole and for halves."""
    n, k, repeats = 150, 3, 80
    figures = [
        manifold_figures(match(normal(2 * n, 2, 2 * i), normal(n, 2, 2 * i + 1), seed=i), k)
        for i in range(repeats)
    ]
    chance = 1 - np.prod([(n - j) / (2 * n - j) for j in range(1, k + 1)])
    for name, truth in {"density": 1.0, "coverage": chance}.items():
        found = [getattr(figure, name) for figure in figures]
        held = np.mean([figure.low <= truth <= figure.high for figure in found])
        assert held >= 0.95 - 3 * (0.95 * 0.05 / repeats) ** 0.5, (name, held)
        assert np.mean([figure.high - figure.low for figure in found]) < 0.5


@pytest.mark.parametrize("k", [0, 20])
def test_neighbours_that_are_not_there_are_refused(k):
    with pytest.raises(InputError, match="fewer than the 20 rows"):
        manifold(normal(30, 2, 0), normal(20, 2, 1), k)


def test_neighbours_are_three_five_and_one_as_published():
    """Kynkaanniemi et al. take 3, Naeem et al. 5; as many as there are if they are fewer."""
    real, fake = normal(20, 2, 0), normal(20, 2, 1)
    precision, recall, *_ = manifold(real, fake, 3)[0].tolist()
    *_, density, coverage = manifold(real, fake, 5)[0].tolist()
    assert precision_recall(real, fake) == (precision, recall)
    assert density_coverage(real, fake) == (density, coverage)
    assert manifold(real, fake).equal(manifold(real, fake, 5))
    assert manifold(real, fake, 19).shape == (1, 4)  # all others


@pytest.mark.parametrize(
    ("real", "fake", "k"), [(8, 60, 1), (56, 28, 1), (149, 149, 1), (160, 160, 2), (700, 600, 5)]
)
def test_figures_take_a_hundredth_of_the_rows_as_neighbours(real, fake, k):
    """From 1 to 5: five of 28 rows would make balls that hold a fifth of them."""
    sets = match(normal(real, 2, 0), normal(fake, 2, 1))
    found = manifold_figures(sets)
    assert found == manifold_figures(sets, k)
    assert found != manifold_figures(sets, k + 1)
    halves = manifold(sets.reference, sets.fake, k, halves=sets.subsets())[1:]
    n = len(sets.fake)
    for i, name in enumerate(("precision", "recall", "density", "coverage")):
        figure = getattr(found, name)
        error = float(halves[:, i].std()) * ((n // 2) / (n - n // 2)) ** 0.5
        assert figure.value == manifold(sets.reference, sets.fake, k)[0, i]
        assert figure.floor == manifold(*sets.halves, k)[0, i]
        assert figure.stderr == pytest.approx(error)
        assert figure.low == pytest.approx(max(0.0, figure.value - 2.0930240544 * error), abs=1e-9)
        most = np.inf if name == "density" else 1.0
        assert figure.high == pytest.approx(min(most, figure.value + 2.0930240544 * error))
        assert (f"only {n} rows" in figure.warning) == (n < 100)
        assert ("the floor is that of" in figure.warning) == (real < 2 * n)

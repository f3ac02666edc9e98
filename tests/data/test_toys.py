"""Toys: their points follow from the seed and their density is that of the points."""

import numpy as np
import pytest

from undiffuse.data import load
from undiffuse.data.toys import DENSITIES, TOY_ROWS, TOYS, draw_toy, toy_log_density


def points_follow_from_the_seed(name):
    np.testing.assert_array_equal(draw_toy(name, 100, seed=3), draw_toy(name, 100, seed=3))
    assert not np.array_equal(draw_toy(name, 100, seed=3), draw_toy(name, 100, seed=4))


def cells(width):
    """Centres of squares of this width on [-3.5, 3.5]^2."""
    ticks = np.arange(-3.5, 3.5, width) + width / 2
    return np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)


def density_integrates_to_one(name):
    assert np.exp(toy_log_density(name, cells(0.01))).sum() * 0.01**2 == pytest.approx(1, abs=1e-3)


def points_follow_the_density(name):
    """Chi-squared of 200,000 points in squares of width 1/2, against counts by the density."""
    points = draw_toy(name, 200_000, seed=0)
    fine = cells(0.02)
    edges = np.arange(-3.5, 3.6, 0.5)
    expected, *_ = np.histogram2d(
        *fine.T, bins=edges, weights=np.exp(toy_log_density(name, fine)) * 0.02**2 * 200_000
    )
    counts, *_ = np.histogram2d(*points.T, bins=edges)
    common = expected > 20
    freedom = common.sum() - 1
    chi_squared = ((counts - expected) ** 2 / np.maximum(expected, 1))[common].sum()
    assert abs(chi_squared - freedom) < 6 * np.sqrt(2 * freedom)
    assert counts[~common].sum() < 0.002 * 200_000


@pytest.mark.parametrize("name", TOYS)
def test_toys_are_data_sets(name):
    points_follow_from_the_seed(name)
    data = load(name)
    held_out = data.held_out
    assert (len(data) + len(held_out), data.shape) == (TOY_ROWS, (2,))
    assert held_out.dtype == np.float32
    assert load(name, seed=1).fingerprint != data.fingerprint


@pytest.mark.parametrize("name", DENSITIES)
def test_densities_are_those_of_the_points(name):
    density_integrates_to_one(name)
    points_follow_the_density(name)


@pytest.mark.parametrize(
    ("law", "points", "density"),
    [
        (points_follow_from_the_seed, lambda rng, n: np.random.default_rng().random((n, 2)), None),
        (points_follow_from_the_seed, lambda rng, n: np.zeros((n, 2)), None),
        (density_integrates_to_one, TOYS["rings"], lambda x: DENSITIES["rings"](x) + 0.01),
        (
            points_follow_the_density,
            lambda rng, n: 1.02 * TOYS["rings"](rng, n),
            DENSITIES["rings"],
        ),
        (
            points_follow_the_density,
            TOYS["checkerboard"],
            lambda x: DENSITIES["checkerboard"](x * [1, -1]),
        ),
    ],
)
def test_a_wrong_toy_breaks_a_law(law, points, density, monkeypatch):
    monkeypatch.setitem(TOYS, "wrong", points)
    monkeypatch.setitem(DENSITIES, "wrong", density)
    with pytest.raises(AssertionError):
        law("wrong")


def test_moons_are_two_half_circles_and_normal_noise():
    """Upper: around (-1/2, -1/4), angles from 0 to pi. Lower: around (1/2, 1/4), turned about."""
    n = 100_000
    points = draw_toy("moons", n).astype(float)
    upper = np.hypot(points[:, 0] + 0.5, points[:, 1] + 0.25) - 1
    lower = np.hypot(points[:, 0] - 0.5, points[:, 1] - 0.25) - 1
    distance = np.minimum(np.abs(upper), np.abs(lower))
    assert distance.max() < 6 * 0.06
    # the mean and covariance of both together, of angles uniform on [0, pi]
    half = 1 / np.pi * 2 - 0.25  # E sin - 1/4
    np.testing.assert_allclose(points.mean(0), [0, 0], atol=5 * 1.0 / n**0.5)
    expected = [0.5 + 0.25 + 0.06**2, 0.5 - 0.5 * 2 / np.pi + 0.0625 + 0.06**2]
    np.testing.assert_allclose(points.var(0), expected, rtol=0.02)
    cross = -0.5 * half  # x is -1/2 on average in the upper one, 1/2 in the lower one
    assert np.cov(points.T)[0, 1] == pytest.approx(cross, abs=0.01)
    for side in (1, -1):  # the middle third of either, where the other is far
        x, y = (side * points + [0.5, 0.25]).T
        middle = (np.abs(x) < y / 3**0.5) & (np.hypot(x, y) > 0.75)
        assert np.hypot(x, y)[middle].mean() == pytest.approx(1, abs=0.005)
        assert np.hypot(x, y)[middle].std() == pytest.approx(0.06, rel=0.03)
        assert middle.sum() == pytest.approx(n / 6, rel=0.03)


def test_toys_have_the_sizes_that_are_published():
    """Rings of radius 1/2, 5/4 and 2 and noise 0.06; eight Gaussians of 0.2 around radius 2."""
    assert TOY_ROWS == 20_000
    rings = np.hypot(*draw_toy("rings", 90_000).T.astype(float))
    for radius in (0.5, 1.25, 2.0):
        near = rings[abs(rings - radius) < 0.3]
        assert near.mean() == pytest.approx(radius, abs=0.003)
        assert near.std() == pytest.approx(0.06, rel=0.03)
        assert len(near) == pytest.approx(30_000, rel=0.03)
        peak = toy_log_density("rings", np.array([[radius, 0.0]]))[0]
        assert peak == pytest.approx(-np.log(3 * 2 * np.pi * radius * 0.06 * (2 * np.pi) ** 0.5))
    angles = np.arange(8) * np.pi / 4
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], 1)
    points = draw_toy("gaussians8", 80_000).astype(float)
    distances = np.linalg.norm(points[:, None] - centres, axis=2)
    nearest = distances.argmin(1)
    apart = points - centres[nearest]
    np.testing.assert_allclose(apart.std(0), [0.2, 0.2], rtol=0.02)
    np.testing.assert_allclose(np.bincount(nearest), 10_000, rtol=0.05)
    at_centres = toy_log_density("gaussians8", centres)
    np.testing.assert_allclose(at_centres, -np.log(8 * 2 * np.pi * 0.2**2), rtol=1e-3)
    assert np.isfinite(toy_log_density("rings", np.zeros((1, 2)))).all()

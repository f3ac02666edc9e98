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


def test_moons_lie_on_their_arcs():
    x, y = draw_toy("moons", 5000).T.astype(float)
    upper = np.hypot(x + 0.5, y + 0.25) - 1
    lower = np.hypot(x - 0.5, y - 0.25) - 1
    distance = np.minimum(np.abs(upper), np.abs(lower))
    assert distance.max() < 6 * 0.06
    assert distance.std() < 0.06

"""Forecasts of series: scores in closed form, bands that hold what they say, a process that is
Gaussian.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ndtr

from undiffuse.data import load
from undiffuse.evaluation.forecast import (
    DRAWS,
    conditional,
    crps,
    forecast,
    gaussian_crps,
    in_band,
    season,
    seasonal,
)
from undiffuse.evaluation.references import refer

R = 0.8


def flat(x):
    """Features that take no time to fit."""
    return x.flatten(1)


def process(n, length, seed):
    """Rows (n, 1, length) of x_i = R x_(i - 1) + sqrt(1 - R^2) z_i."""
    z = np.random.default_rng(seed).normal(size=(n, length))
    rows = [z[:, 0]]
    for i in range(1, length):
        rows.append(R * rows[-1] + math.sqrt(1 - R**2) * z[:, i])
    return np.stack(rows, 1)[:, None]


@pytest.mark.parametrize(("mean", "std", "truth"), [(0.0, 1.0, 0.0), (0.5, 2.0, -3.0)])
def test_the_score_of_a_gaussian_is_the_integral_of_the_squared_distance(mean, std, truth):
    """Of distribution functions (Gneiting and Raftery 2007, Eq. 20); that of draws in the mean."""

    def squared(x):
        return (ndtr((x - mean) / std) - (x >= truth)) ** 2

    integral = quad(squared, -40, truth)[0] + quad(squared, truth, 40)[0]
    found = gaussian_crps(np.array([mean]), np.array([std]), np.array([truth]))
    assert float(found[0]) == pytest.approx(integral, rel=1e-6)
    draws = mean + std * np.random.default_rng(0).normal(size=(20_000, 5))
    each = crps(draws, np.full(20_000, truth))
    assert each.mean() == pytest.approx(integral, abs=4 * each.std() / math.sqrt(20_000))


@pytest.mark.parametrize(("k", "rate"), [(10, 0.5), (2, 0.9)])
def test_bands_of_a_right_forecast_hold_the_truth_as_often_as_they_say(k, rate):
    n, rng = 20_000, np.random.default_rng(0)
    found = in_band(rng.normal(size=(n, DRAWS)), rng.normal(size=n), k).mean()
    assert found == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / n))


def test_the_gaussian_forecasts_a_gaussian_process_as_bayes_rule_does():
    training, rows = process(4000, 8, 0), process(5, 8, 1)
    mean, std = conditional(rows, training, np.arange(8) < 6)
    ahead = np.arange(1, 3)
    np.testing.assert_allclose(mean[:, 0], rows[:, 0, 5:6] * R**ahead, atol=0.15)
    np.testing.assert_allclose(std[:, 0], np.sqrt(1 - R ** (2 * ahead)) + 0 * mean[:, 0], rtol=0.05)


def test_a_season_is_found_and_repeated():
    place = np.arange(16)
    rows = np.sin(2 * np.pi * place / 5) * np.ones((6, 1, 1)) + np.arange(6)[:, None, None]
    assert season(rows, 12) in (5, 10)
    np.testing.assert_allclose(seasonal(rows, 12, 5), rows[..., 12:], atol=1e-12)
    assert np.array_equal(seasonal(rows, 12, 1), rows[..., [11] * 4])


class Knowing:
    """It completes series by the law of the process, and says what it was given."""

    completes, scale = True, 1.0

    def sample_rows(self, n, *, given, seed, **options):
        self.given = given
        rng, rows = np.random.default_rng(seed), given.rows.repeat(n, 0).astype(np.float64)
        for i in range(1, rows.shape[1]):
            new = R * rows[:, i - 1] + math.sqrt(1 - R**2) * self.scale * rng.normal(
                size=rows[:, 0].shape
            )
            rows[:, i] = np.where(given.known.repeat(n, 0)[:, i], rows[:, i], new)
        return rows.astype(given.rows.dtype)


def test_a_model_that_knows_the_process_scores_as_the_gaussian_and_better_than_the_last_value():
    rows = process(400, 12, 0).swapaxes(1, 2).astype(np.float32)
    reference = refer(load(rows, axes="NTC"), features=flat)
    model = Knowing()
    found = forecast(model, reference)
    assert not model.given.known[:, 9:].any()
    assert model.given.known[:, :9].all()
    figures = found.figures
    own, gaussian = figures["crps"], figures["crps_of_gaussian"]
    assert own.value == pytest.approx(gaussian.value, abs=0.05)
    assert own.value < figures["crps_of_last_value"].value
    assert figures["covered_50"].value == pytest.approx(0.5, abs=4 * figures["covered_50"].stderr)
    assert figures["covered_90"].value > 0.7
    assert found.picture is not None
    assert found.picture.size[0] > 100


def test_scores_are_in_deviations_of_each_channel():
    """The mean over horizons h of the closed form, sqrt(1 - R^2h)/sqrt(pi) (Gneiting et al.)."""
    parts = [process(300, 8, seed).swapaxes(1, 2) for seed in (0, 1)]
    rows = np.concatenate([parts[0], 100 * parts[1]], 2).astype(np.float32)
    model = Knowing()
    model.scale = np.array([1.0, 100.0])
    figures = forecast(model, refer(load(rows, axes="NTC"), features=flat)).figures
    wanted = np.sqrt((1 - R ** (2 * np.arange(1, 3))) / math.pi).mean()
    for name in ("crps", "crps_of_gaussian"):
        assert figures[name].value == pytest.approx(wanted, abs=0.08), figures[name]


def test_rows_that_are_no_series_are_not_forecast():
    rows = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    assert forecast(Knowing(), refer(load(rows), features=flat)) is None
    video = np.random.default_rng(0).normal(size=(60, 8, 4, 4)).astype(np.float32)
    assert forecast(Knowing(), refer(load(video, axes="NTHW"), features=flat)) is None
    series = process(60, 12, 0).swapaxes(1, 2).astype(np.float32)
    model = Knowing()
    model.completes = False
    assert forecast(model, refer(load(series, axes="NTC"), features=flat)) is None

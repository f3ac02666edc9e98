"""Laws of the denoising autoencoder: one level of noise, the score there, and Langevin
dynamics along it.
"""

from __future__ import annotations

import math

import pytest
import torch
from model_cases import Exact, Rows

import undiffuse as ud
from undiffuse.diffusion import METHODS
from undiffuse.errors import InputError
from undiffuse.models.likelihood import Bound, Density

SIGMA, S = 0.5, 1.2


def exact(columns=2):
    """A model that has met rows from N(0, s^2), with the exact network in place of a
    trained one.
    """
    model = ud.dae(sigma=SIGMA, width=8, depth=1)
    model.meet(
        Rows(S * torch.randn(8000 // columns, columns, generator=torch.Generator().manual_seed(0)))
    )
    network = Exact(
        model.schedule, model.target, model.sigma_data, torch.tensor([0.0]), torch.tensor([1.0]), S
    )
    model.denoiser.network = network
    return model


def test_training_draws_the_one_level_only_and_its_best_loss_is_known():
    """E|x_hat - x|^2 = s^2 sigma^2 / (s^2 + sigma^2) for N(0, s^2), here in units of
    the network.
    """
    model = exact()
    t = model.objective.sample_times(model.schedule, 100)
    assert model.schedule(t)[1].tolist() == [SIGMA] * 100
    x = S * torch.randn(20_000, 2, generator=torch.Generator().manual_seed(1))
    best = S**2 * SIGMA**2 / (S**2 + SIGMA**2)
    weight = 1 / SIGMA**2 + 1 / model.sigma_data**2
    assert model.diagnostics(x)["loss"] == pytest.approx(weight * best, rel=0.03)


def test_its_error_is_the_score_at_its_level():
    """(x_hat - x_t) / sigma^2 = -x_t / (s^2 + sigma^2) (Alain and Bengio 2014, Theorem 1; Kim and
    Lee 2024, Eq. 43).
    """
    model, x_t = exact(), torch.randn(50, 2, generator=torch.Generator().manual_seed(2))
    level = torch.tensor(1.0, dtype=torch.float64)
    error = (model.denoiser(x_t, level) - x_t) / SIGMA**2
    torch.testing.assert_close(error, -x_t / (S**2 + SIGMA**2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.denoiser.score(x_t, level), error, rtol=1e-4, atol=1e-5)


def test_samples_are_what_is_left_of_the_blurred_data_after_one_denoising():
    """Steps of e settle at the variance c / (1 - e/2c), c = s^2 + sigma^2; x_hat of that is
    s^2/c times as wide.
    """
    model, n = exact(columns=400), 40  # long rows: as many numbers, and fewer streams of noise
    x = torch.from_numpy(model.sample_rows(n, steps=20, seed=3, batch=n)).double()
    c, e = S**2 + SIGMA**2, 0.1 * SIGMA**2
    variance = (S**2 / c) ** 2 * c / (1 - e / (2 * c))
    assert float(x.var()) == pytest.approx(variance, abs=5 * variance * math.sqrt(2 / x.numel()))
    assert float(x.mean()) == pytest.approx(0, abs=5 * math.sqrt(variance / x.numel()))


def test_the_chain_forgets_where_it_was_started():
    """From a start ten deviations away, the mean decays by (1 - e/c) with each update."""
    model, n = exact(columns=400), 40
    model.prior.mean.fill_(10.0)
    c, e = S**2 + SIGMA**2, 0.1 * SIGMA**2
    for steps in (5, 15):
        x = torch.from_numpy(model.sample_rows(n, steps=steps, seed=1, batch=n)).double()
        expected = 10 * S**2 / c * (1 - e / c) ** (10 * steps)
        assert float(x.mean()) == pytest.approx(expected, abs=5 * math.sqrt(c / x.numel()))


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_go_from_noise_to_data_are_refused(method):
    with pytest.raises(InputError, match=f"method {method}: .*one level of noise; leave it out"):
        exact().sample_rows(2, method=method)


@pytest.mark.parametrize("how", [None, Bound(), Density()])
def test_it_has_a_score_and_no_density(how):
    with pytest.raises(InputError, match="one noise level knows the slope of the density"):
        exact().likelihood_rows(torch.zeros(2, 2), how=how)


def test_a_level_without_noise_is_refused():
    for sigma in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="the noise level must be a number above 0"):
            ud.dae(sigma=sigma)

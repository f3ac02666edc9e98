"""The prior's covariances, what it leaves out, and the error that a density states."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch

from undiffuse.diffusion import EDM, LinearVP
from undiffuse.diffusion.likelihood.density import Adaptive, RungeKutta, log_density
from undiffuse.diffusion.likelihood.elbo import prior_term
from undiffuse.diffusion.linear import LinearDenoiser
from undiffuse.diffusion.oracle import Mixture
from undiffuse.diffusion.prior import Prior
from undiffuse.diffusion.schedules.learned import end_terms
from undiffuse.diffusion.schedules.process import LEAST_SCORED, as_times

SCHEDULES = {"edm": EDM(), "vp": LinearVP()}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def correlated(d: int) -> torch.Tensor:
    """Covariance (d, d) of neighbours that resemble each other, with unequal variances."""
    place = torch.arange(d).double()
    std = 1 + 0.5 * torch.sin(place)
    return 0.9 ** (place - place[:, None]).abs() * std * std[:, None]


def normal(covariance: torch.Tensor, alpha: float = 1.0, sigma: float = 0.0):
    d = len(covariance)
    mean = alpha * torch.linspace(-1, 1, d).double()
    noised = alpha**2 * covariance + sigma**2 * torch.eye(d).double()
    return torch.distributions.MultivariateNormal(mean, noised)


def prior_of(schedule, covariance: torch.Tensor, *, full: bool, shape=None) -> Prior:
    std = covariance.diagonal().sqrt()
    left_out = covariance - torch.diag(covariance.diagonal())
    shape = shape or std.shape
    return Prior(
        schedule,
        normal(covariance).mean.reshape(shape),
        std.reshape(shape),
        correlation=covariance / std / std[:, None] if full else None,
        lack=torch.tensor([0.0, 0.0 if full else float(left_out.square().sum()), 0.0]),
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_up_to_64_numbers_it_is_the_noised_normal_of_all_covariances(name):
    schedule, covariance = SCHEDULES[name], correlated(6)
    prior = prior_of(schedule, covariance, full=True, shape=(2, 3))
    alpha, sigma = (float(c) for c in schedule(as_times(1.0)))
    exact = normal(covariance, alpha, sigma)
    x_1 = exact.sample((5,)).reshape(5, 2, 3)
    torch.testing.assert_close(prior.log_prob(x_1), exact.log_prob(x_1.flatten(1)))
    units = prior.draw(torch.eye(6).double().reshape(6, 2, 3)).flatten(1) - exact.mean
    torch.testing.assert_close(units @ units.T, exact.covariance_matrix)
    x = normal(covariance).sample((4,))
    eye = torch.eye(6).double()
    noised = torch.distributions.MultivariateNormal(alpha * x, sigma**2 * eye)
    kl = torch.distributions.kl_divergence(noised, exact)
    torch.testing.assert_close(prior_term(schedule, x.reshape(4, 2, 3), prior), kl)
    first = end_terms(schedule, prior, 0 * x.reshape(4, 2, 3)) * 6 - prior_term(
        schedule, 0 * x.reshape(4, 2, 3), prior
    )
    torch.testing.assert_close(end_terms(schedule, prior, x.reshape(4, 2, 3)) * 6 - first, kl)


@pytest.mark.parametrize("d", [3, 64])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_density_of_correlated_rows_is_exact_to_its_stated_error(name, d):
    """With the diagonal alone it was off by 2e-3 nats at 64 numbers."""
    schedule, covariance = SCHEDULES[name], correlated(d)
    values, vectors = torch.linalg.eigh(covariance)
    oracle = LinearDenoiser(schedule, normal(covariance).mean, vectors, values)
    x = normal(covariance).sample((6,))
    prior = prior_of(schedule, covariance, full=True).settled()
    found = log_density(oracle, x, prior, solver=Adaptive(1e-6))
    least = float(torch.exp(-schedule.log_snr(schedule.last_time(LEAST_SCORED)) / 2))
    error = (found.nats - normal(covariance, 1.0, least).log_prob(x)).abs()
    assert (error <= found.stderr).all()
    assert float(error.max()) < 1e-4


def test_measured_on_rows_it_has_their_covariance_and_what_is_left_out():
    covariance = correlated(70)
    x = normal(covariance).sample((3000,))
    few, many = (Prior.measured(EDM(), x[:, :d]) for d in (5, 70))
    assert many.correlation is None
    std = few.std.double()
    torch.testing.assert_close(
        few.correlation.double() * std * std[:, None],
        torch.cov(x[:, :5].T, correction=0),
        rtol=1e-5,
        atol=1e-5,
    )
    square = float((covariance - torch.diag(covariance.diagonal())).square().sum())
    assert float(many.lack[1]) == pytest.approx(square, rel=0.15)
    assert float(few.lack[1]) == 0
    assert float(few.lack[0]) == pytest.approx(float(std.square().sum()) / 3000)
    skewed = torch.distributions.Exponential(torch.ones(4).double()).sample((3000,)) - 1
    assert float(Prior.measured(EDM(), skewed).lack[2]) == pytest.approx(4 * 2.0**2, rel=0.4)


@pytest.mark.parametrize("ratio", [0.02, 0.05])
def test_the_stated_error_is_that_of_the_covariances_left_out(ratio):
    covariance = correlated(100)
    prior = prior_of(EDM(), covariance, full=False)
    prior.time = EDM().inverse(as_times(2 * math.log(ratio)))
    sigma = 1 / ratio  # alpha = 1
    exact = normal(covariance, 1.0, sigma)
    x_1 = exact.sample((2000,))
    error = prior.log_prob(x_1) - exact.log_prob(x_1)
    assert float(error.std()) == pytest.approx(prior.stderr(), rel=0.1)


def test_the_stated_error_is_that_of_the_third_moments():
    """A mixture of two normals; where alpha s / sigma is a tenth."""
    mean, weight = torch.tensor([[-0.5], [2.0]]).double(), torch.tensor([0.8, 0.2]).double()
    oracle = Mixture(EDM(), mean, torch.tensor(0.3).double(), weight.log())
    third = float((weight * (mean[:, 0] ** 3 + 3 * mean[:, 0] * 0.09)).sum())  # their mean is 0
    x, std = oracle.draw(20_000), (weight @ (mean**2 + 0.09)).sqrt()
    prior = Prior(EDM(), torch.zeros(1).double(), std, lack=torch.tensor([0.0, 0.0, third**2]))
    prior.time = EDM().inverse(as_times(2 * math.log(0.1)))
    x_1 = x + 10 * torch.randn_like(x)
    error = prior.log_prob(x_1) - oracle.log_prob(x_1, prior.time)
    assert prior.stderr() == pytest.approx(1e-3 * third / 6**0.5, rel=1e-5)
    assert float(error.std()) == pytest.approx(prior.stderr(), rel=0.3)
    measured = Prior.measured(EDM(), x)
    assert float(measured.lack[2]) == pytest.approx(third**2, rel=0.3)
    measured.time = prior.time
    assert measured.stderr() == pytest.approx(
        (prior.stderr() ** 2 + 0.01 * float(std) ** 2 / 20_000) ** 0.5, rel=0.1
    )


@pytest.mark.parametrize("solver", [Adaptive(1e-4), Adaptive(1e-5), RungeKutta(12)], ids=repr)
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_solvers_error_is_stated(name, solver):
    """In at least 95 % of rows it is no smaller than the error, and at most 200 times that."""
    oracle = Mixture(SCHEDULES[name], torch.randn(4, 2).double(), torch.tensor(0.3).double())
    x = oracle.draw(40)

    class AtOne:
        time = 1.0

        def log_prob(self, x_1):
            return oracle.log_prob(x_1, 1.0)

    found = log_density(oracle, x, AtOne(), solver=solver)
    truth = log_density(oracle, x, AtOne(), solver=Adaptive(1e-9)).nats
    error = (found.nats - truth).abs()
    assert float((error <= found.stderr).double().mean()) >= 0.95
    assert float(found.stderr.mean()) <= 200 * float(error.mean())


@pytest.mark.parametrize(("d", "kept"), [(64, True), (65, False)])
def test_all_covariances_are_kept_of_64_numbers_and_of_no_more(d, kept):
    for prior in (Prior.measured(EDM(), torch.randn(3, d)), Prior.standard(EDM(), (d,))):
        assert (prior.correlation is not None) == kept


@pytest.mark.parametrize("n", [5, 40])
def test_what_is_left_out_is_averaged_over_the_pairs_of_different_rows(n):
    """E (y . y')^2 = |C|^2 and E (y . y')^3 = |k|^2, neither of them taken as negative."""
    x = torch.distributions.Exponential(torch.ones(70).double()).sample((n,))
    x[: n // 8] += 3  # a small mode apart
    y = x - x.mean(0)
    square, cube = (
        sum(float(one @ other) ** k for one, other in permutations(y, 2)) / (n * (n - 1))
        for k in (2, 3)
    )
    square -= float(x.var(0, correction=0).square().sum())
    lack = Prior.measured(EDM(), x).lack
    assert lack[1:].tolist() == pytest.approx([max(square, 0), max(cube, 0)], rel=1e-5)
    assert (cube > 0) == (n == 40)


def test_a_few_rows_leave_out_no_less_than_nothing():
    line = torch.linspace(-1, 1, 70).double()
    three = Prior.measured(EDM(), torch.stack([2 * line, -line, -line])).lack
    assert float(three[2]) == 0  # one pair in three alike: less than nothing
    assert float(three[1]) > 0
    alike = Prior.measured(EDM(), torch.ones(4, 70))
    assert alike.lack.tolist() == [0, 0, 0]
    assert Prior.measured(EDM(), torch.ones(1, 70)).lack.tolist() == [0, 0, 0]


def test_a_number_that_never_varies_is_a_point_beside_the_others():
    x = torch.cat([torch.randn(50, 2).double() * 0.4, torch.full((50, 1), 3.0).double()], 1)
    prior, (alpha, sigma) = Prior.measured(EDM(), x), EDM()(as_times(1.0))
    alone = Prior.measured(EDM(), x[:, :2])
    x_1 = torch.randn(4, 3).double() * 80
    point = torch.distributions.Normal(alpha * 3.0, sigma).log_prob(x_1[:, 2])
    torch.testing.assert_close(
        prior.log_prob(x_1), alone.log_prob(x_1[:, :2]) + point, rtol=1e-6, atol=1e-6
    )


def test_covariances_of_independent_numbers_change_no_start():
    """The root of the covariance is the symmetric one, which is the deviations themselves."""
    std, z = torch.tensor([0.3, 5.0]).double(), torch.randn(4, 2).double()
    mean, eye = torch.tensor([1.0, -1.0]).double(), torch.eye(2).double()
    schedule = LinearVP(high=4.0)
    starts = [Prior(schedule, mean, std, correlation=c).draw(z) for c in (None, eye)]
    torch.testing.assert_close(*starts)
    prior = prior_of(schedule, correlated(5), full=True)
    root = prior.draw(torch.eye(5).double()) - prior.draw(torch.zeros(5, 5).double())
    torch.testing.assert_close(root, root.T)
    assert float(torch.linalg.eigvalsh(root).min()) > 0


def test_points_have_a_prior_that_stands_where_they_begin():
    """Of data that never vary nothing is left at any time: the settled prior is at the first."""
    settled = Prior.measured(EDM(), torch.ones(4, 3)).settled()
    assert 0 <= float(settled.time) < 1e-20

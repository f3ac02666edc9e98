"""The bound: below the exact log-density, as near as theory says, its estimates unbiased and
honestly uncertain.
"""

from __future__ import annotations

import math

import pytest
import torch
from cases import SCHEDULE_CASES, times

from undiffuse.diffusion import EDM, DiscreteVP, Levels, LinearVP, LogSNR, Prior, linear_betas
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate, expand
from undiffuse.diffusion.likelihood.decoder import log_mass
from undiffuse.diffusion.likelihood.elbo import elbo, prior_term
from undiffuse.diffusion.oracle import Gaussian, Mixture
from undiffuse.diffusion.schedules.process import LEAST_SCORED
from undiffuse.diffusion.steps.moves import Beta, BetaTilde, Learned
from undiffuse.errors import InputError
from undiffuse.selfcheck import expected_gap, open_bins

FAST = {name: schedule for name, schedule in SCHEDULE_CASES.items() if schedule.module is None}
MEAN, STD = (
    torch.tensor([0.4, -1.0, 0.0, 2.0]).double(),
    torch.tensor([0.5, 0.9, 0.3, 1.0]).double(),
)


def exact(schedule, mean=MEAN, std=STD):
    return Gaussian(schedule, mean, std), Prior(schedule, mean, std)


def drawn(oracle, n, seed=0):
    return oracle.draw(n, torch.Generator().manual_seed(seed))


def noise(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda like: torch.randn(like.shape, dtype=like.dtype, generator=generator)


def close(a, b, sigmas=4.5):
    """Whether the mean of differences a - b (N,) is zero within its own standard error."""
    difference = a - b
    return (
        abs(float(difference.mean())) <= sigmas * float(difference.std()) / len(difference) ** 0.5
    )


X = torch.tensor([[-0.9], [-0.1], [0.4], [0.8], [1.9]], dtype=torch.float64)


@pytest.mark.parametrize(
    "schedule", [LinearVP(t_min=1e-5), EDM(sigma_min=1e-3)], ids=["linear_vp", "edm"]
)
def test_the_gap_is_never_negative_and_a_quarter_at_four_times_the_steps(schedule):
    gaps = [expected_gap(schedule, steps, X) for steps in (64, 256)]
    assert (torch.stack(gaps) > 0).all()
    assert float(gaps[0].mean() / gaps[1].mean()) == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("name", FAST)
def test_the_continuous_bound_of_an_exact_denoiser_is_the_exact_log_density(name):
    """On every schedule, hence also the same on all with the same ends; what is left is the
    decoder's (r/s)^4 / 4.
    """
    schedule = FAST[name]
    oracle, prior = exact(schedule)
    x = drawn(oracle, 600)
    bound = elbo(oracle, x, prior, evaluations=12, noise=noise())
    alpha, sigma = schedule(schedule.last_time(LEAST_SCORED))
    slack = float(((sigma / alpha) ** 2 / STD.min() ** 2) * len(STD))
    gap = oracle.log_prob(x) - bound.nats
    assert abs(float(gap.mean())) <= 4.5 * float(gap.std()) / len(gap) ** 0.5 + slack


def test_the_bound_of_a_mixture_is_below_its_log_density_even_with_a_gaussian_prior():
    schedule = EDM()
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5]]).double()
    oracle = Mixture(schedule, means, torch.full((2, 2), 0.2).double())
    prior = Prior(schedule, means.mean(0), (means.var(0, correction=0) + 0.04).sqrt())
    x = drawn(oracle, 800)
    gap = oracle.log_prob(x) - elbo(oracle, x, prior, evaluations=24, noise=noise()).nats
    assert float(gap.mean()) > -4.5 * float(gap.std()) / len(gap) ** 0.5
    assert close(
        gap, torch.zeros_like(gap)
    )  # and in continuous time it is tight, for the mixture too


@pytest.mark.parametrize("variance", [Beta(), BetaTilde()], ids=["beta", "beta_tilde"])
def test_the_estimate_of_the_sum_is_unbiased(variance):
    schedule = DiscreteVP(betas=linear_betas(60))
    oracle, prior = exact(schedule)
    x, grid = drawn(oracle, 1).expand(2000, -1), Levels()(schedule, 60)
    every = elbo(oracle, x, prior, grid=grid, variance=variance, noise=noise(1))
    few = elbo(oracle, x, prior, grid=grid, variance=variance, evaluations=6, noise=noise(2))
    assert every.terms.shape == (2000, 59)
    torch.testing.assert_close(every.terms.sum(1), every.diffusion)
    assert (every.evaluations, few.evaluations) == (240, 10)
    assert close(every.nats, few.nats)


class Sure(AbstractDenoiser):
    """Another denoiser, which says of the variance that it lies three quarters up."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule

    def estimate(self, x_t, t, **cond):
        return self.denoiser.estimate(x_t, t)._replace(v=torch.full_like(x_t, 0.75))


def test_the_estimate_of_the_sum_under_a_learned_variance_is_unbiased():
    schedule = DiscreteVP(betas=linear_betas(40))
    oracle, prior = exact(schedule)
    x, grid = drawn(oracle, 1).expand(600, -1), Levels()(schedule, 40)
    every, few = (
        elbo(Sure(oracle), x, prior, grid=grid, variance=Learned(), evaluations=n, noise=noise(i))
        for i, n in enumerate((None, 6))
    )
    assert close(every.diffusion, few.diffusion)
    assert close(every.decoder, few.decoder)
    assert few.evaluations == 10


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("shape", [(4,), (1, 8, 8)], ids=str)
def test_the_standard_error_is_what_repetition_shows(discrete, shape):
    schedule = DiscreteVP(betas=linear_betas(60)) if discrete else EDM()
    oracle, prior = exact(schedule, torch.zeros(shape).double(), torch.full(shape, 0.5).double())
    x = drawn(oracle, 1).expand(1500, *shape)
    bound = elbo(
        oracle,
        x,
        prior,
        grid=Levels()(schedule, 60) if discrete else None,
        evaluations=16,
        noise=noise(),
    )
    said = float(bound.stderr.square().mean().sqrt())
    assert said == pytest.approx(float(bound.nats.std()), rel=0.12)


@pytest.mark.parametrize("std", [1.0, 0.3])
@pytest.mark.parametrize(("levels", "draws"), [(2, 4), (5, 4), (5, 6), (30, 4)])
def test_the_standard_error_over_every_level_is_that_of_repetition(levels, draws, std):
    """Within 3 %: no smoothness is assumed of a chain, whose last level varies most."""
    schedule, d = DiscreteVP(betas=linear_betas(levels)), 4
    oracle, prior = exact(schedule, torch.zeros(d).double(), torch.full((d,), std).double())
    x = (std * torch.tensor([1.0, -0.5, 0.3, 1.2]).double()).expand(8_000, d)
    grid, evaluations = Levels()(schedule, levels), draws * (levels - 1)
    bound = elbo(oracle, x, prior, grid=grid, evaluations=evaluations, noise=noise())
    assert bound.evaluations == draws * levels
    said = float(bound.stderr.square().mean().sqrt())
    assert said == pytest.approx(float(bound.nats.std()), rel=0.03)


def test_in_many_dimensions_the_noise_s_own_spread_is_taken_out():
    """Without the control 16 points would be off by (G_1 - G_0)/2 sqrt(2 d / 16) nats and more."""
    schedule, shape = EDM(), (400,)
    oracle, prior = exact(schedule, torch.zeros(shape).double(), torch.full(shape, 0.5).double())
    bound = elbo(oracle, drawn(oracle, 1).expand(200, -1), prior, evaluations=16, noise=noise())
    plain = math.log(0.5 / 0.002) * (2 * 400 / 16) ** 0.5
    assert float(bound.nats.var()) < plain**2 / 6


def test_beta_is_the_better_variance_for_a_standard_normal_and_beta_tilde_for_a_narrow_one():
    """Ho et al. (2020), section 3.2: each is optimal at one end; the term of v to beta-tilde
    makes the difference.
    """
    schedule = DiscreteVP(betas=linear_betas(40))
    grid, better = Levels()(schedule, 40), []
    for std in (1.0, 1e-3):
        oracle, prior = exact(schedule, MEAN * 0, torch.full_like(MEAN, std))
        x = drawn(oracle, 400)
        beta, tilde = (
            elbo(oracle, x, prior, grid=grid, variance=v, noise=noise()).diffusion.mean()
            for v in (Beta(), BetaTilde())
        )
        better.append(float(tilde - beta))
    assert better[0] > 0 > better[1]


def test_l_t_is_the_divergence_from_the_prior_and_belongs_to_the_bound():
    """On a chain that keeps signal to its end, a bound without L_T lies above the
    log-density: it is none.
    """
    schedule = DiscreteVP(betas=linear_betas(50)[:12])
    oracle, _ = exact(schedule)
    wrong = Prior.standard(schedule, (4,))
    x, grid = drawn(oracle, 2000), Levels()(schedule, 12)
    alpha, sigma = schedule(times(1.0))
    p = torch.distributions.Normal(alpha * x, sigma.expand_as(x))
    q = torch.distributions.Normal(torch.zeros_like(x), (alpha**2 + sigma**2).sqrt().expand_as(x))
    torch.testing.assert_close(
        prior_term(schedule, x, wrong), torch.distributions.kl_divergence(p, q).sum(1)
    )
    bound = elbo(oracle, x, wrong, grid=grid, variance=Beta(), noise=noise())
    log_p = oracle.log_prob(x).mean()
    assert bound.nats.mean() < log_p < (bound.nats + bound.prior).mean()


def test_all_terms_of_a_chain_are_counted():
    """A sum over 20 of 300 terms is another number: in nats per dimension the two are far apart."""
    schedule = DiscreteVP(betas=linear_betas(300))
    d = 64
    oracle, prior = exact(schedule, torch.zeros(d).double(), torch.full((d,), 0.3).double())
    x = drawn(oracle, 4)
    estimate = elbo(
        oracle,
        x,
        prior,
        grid=Levels()(schedule, 300),
        evaluations=20,
        variance=Beta(),
        noise=noise(),
    )
    every = elbo(oracle, x, prior, grid=Levels()(schedule, 300), variance=Beta(), noise=noise(1))
    kept = every.terms[:, ::15].sum(1) / d
    assert every.terms.shape[1] == 299
    assert float((every.diffusion - estimate.diffusion).abs().max() / d) < 0.3
    assert float((every.diffusion / d - kept).min()) > 1.5
    assert (every.nats < oracle.log_prob(x) + 4 * every.stderr).all()


def binned(levels):
    """Whole numbers 0 .. levels - 1 in bins on [-1, 1], the first and the last open:
    x (K, 1) and cells.
    """
    k = torch.arange(levels, dtype=torch.float64)[:, None]
    edges = open_bins(levels)[:, None]
    return (2 * k + 1) / levels - 1, (edges[:-1], edges[1:])


@pytest.mark.parametrize("schedule", [DiscreteVP(betas=linear_betas(20)), EDM(sigma_min=0.05)])
def test_the_decoder_of_every_value_is_the_integral_over_the_noise(schedule):
    """L_0 = -E log P(bin | x_hat(x_t)), the two open bins included, by quadrature over z."""
    x, cells = binned(16)
    mean, std = torch.full((1,), 0.2).double(), torch.full((1,), 0.4).double()
    oracle, prior = exact(schedule, mean, std)
    grid = Levels()(schedule, 20) if schedule.levels else LogSNR()(schedule, 20)
    alpha, sigma = schedule(grid[-2])
    z = torch.linspace(-9, 9, 2001, dtype=torch.float64)
    weight = (-z.square() / 2).exp() / (-z.square() / 2).exp().sum()
    k = (alpha * std) ** 2 + sigma**2
    x_hat = mean + alpha * std**2 / k * (alpha * x + sigma * z - alpha * mean)
    normal = torch.distributions.Normal(x_hat, sigma / alpha)
    truth = -((normal.cdf(cells[1]) - normal.cdf(cells[0])).log() * weight).sum(1)
    n = 4000
    rows, *edges = (part.repeat_interleave(n, 0) for part in (x, *cells))
    bound = elbo(oracle, rows, prior, grid=grid, cells=tuple(edges), noise=noise())
    found = bound.decoder.reshape(16, n)
    error = found.std(1) / n**0.5
    assert bool(((found.mean(1) - truth).abs() < 4.5 * error + 1e-9).all())


class Bins(AbstractDenoiser):
    """The exact denoiser of independent values at the centres of their bins, with masses P (K,)."""

    def __init__(self, schedule, masses):
        super().__init__()
        self.schedule, self.masses = schedule, masses
        self.centres = (2 * torch.arange(len(masses)).double() + 1) / len(masses) - 1

    def estimate(self, x_t, t, **cond):
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        away = (x_t / alpha)[..., None] - self.centres
        ratio = (sigma / alpha)[..., None] if sigma.ndim else sigma / alpha
        x_hat = (self.masses.log() - (away / ratio).square() / 2).softmax(-1) @ self.centres
        return Estimate(x_hat, (x_t - alpha * x_hat) / sigma)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize(
    "schedule", [EDM(sigma_min=0.12), LinearVP(t_min=0.02)], ids=["edm", "linear_vp"]
)
def test_the_bounds_of_all_values_sum_to_at_most_1(schedule, d):
    """Most of the mass at either end: exp(mean bound) over every row there is, and
    the mean bound.
    """
    k = torch.arange(16).double()
    masses = torch.exp(-k / 2) + torch.exp(-(15 - k) / 2)
    masses /= masses.sum()
    centres, cells = binned(16)
    pick = torch.cartesian_prod(*[torch.arange(16)] * d).reshape(-1, d)
    x, low, high = (part[:, 0][pick] for part in (centres, *cells))
    denoiser = Bins(schedule, masses)
    mean = (masses @ denoiser.centres).expand(d)
    std = ((masses @ denoiser.centres.square()) - mean.square()).sqrt()
    n = 600 // d**3
    bound = elbo(
        denoiser,
        x.repeat(n, 1),
        Prior(schedule, mean, std),
        evaluations=24,
        cells=(low.repeat(n, 1), high.repeat(n, 1)),
        noise=noise(),
    )
    nats = bound.nats.reshape(n, -1)
    mass, error = nats.mean(0).exp(), nats.std(0) / n**0.5
    assert float(mass.sum()) <= 1 + 3 * float((mass * error).square().sum().sqrt())
    log_p = masses.log()[pick].sum(1)
    weight = log_p.exp()
    gap = float((weight * (log_p - nats.mean(0))).sum())
    assert gap >= -3 * float((weight * error).square().sum().sqrt())


def test_bins_make_it_a_bound_on_the_probability_of_whole_numbers():
    """And what it loses where bins are wide is log(w / (sigma sqrt(2 pi e))), no more."""
    levels, schedule = 16, EDM(sigma_min=0.02)
    mean, std = torch.full((1,), 0.1).double(), torch.full((1,), 0.4).double()
    oracle, prior = exact(schedule, mean, std)
    x, (low, high) = binned(levels)
    bound = [
        elbo(oracle, x, prior, evaluations=32, cells=(low, high), noise=noise(i)).nats
        for i in range(16)
    ]
    bound = torch.stack(bound).mean(0)
    log_p = log_mass(mean, (std**2 + 0.02**2).sqrt(), low, high)[:, 0]
    assert float(bound.exp().sum()) < 1.05
    gap = (log_p - bound)[2:-2]
    # x at the centre of a bin of width w much wider than sigma: the bound ends at log
    # p(x) + log(sigma sqrt(2 pi e))
    lost = math.log(0.125 / (0.02 * math.sqrt(2 * math.pi * math.e)))
    assert float(gap.mean()) == pytest.approx(lost, abs=4 * float(gap.std()) / len(gap) ** 0.5)


def test_what_cannot_be_bounded_is_refused():
    oracle, prior = exact(EDM())
    x = drawn(oracle, 2)
    with pytest.raises(InputError, match="say at how many points"):
        elbo(oracle, x, prior)
    with pytest.raises(InputError, match="at least 1"):
        elbo(oracle, x, prior, evaluations=0)
    for grid in (times(0.9, 0.1), times(1.0, 0.2, 0.3), times(1.0, 1.0)):
        with pytest.raises(InputError, match="descend from 1"):
            elbo(oracle, x, prior, grid=grid)
    one = elbo(oracle, x, prior, evaluations=2, noise=noise())
    assert one.stderr.isnan().all()  # nothing can be known from two strata


def test_a_bound_may_end_before_the_schedule_does():
    """At `least`, as on a schedule that ends there: the same draws, the same bound."""
    short, (oracle, prior) = EDM(sigma_min=0.05), exact(EDM())
    x = drawn(oracle, 20)
    for least, schedule in ((0.05, short), (1.5, EDM(sigma_min=1.5)), (1e-9, EDM())):
        ended = elbo(oracle, x, prior, evaluations=5, least=least, noise=noise())
        other, same = exact(schedule)
        own = elbo(other, x, same, evaluations=5, noise=noise())
        torch.testing.assert_close(ended.nats, own.nats, rtol=1e-7, atol=1e-7)


def test_three_points_tell_a_standard_error_and_a_single_step_leaves_the_decoder():
    oracle, prior = exact(EDM())
    x = drawn(oracle, 5)
    assert elbo(oracle, x, prior, evaluations=3, noise=noise()).stderr.isfinite().all()
    for evaluations in (None, 1, 4, 9):
        only = elbo(oracle, x, prior, grid=times(1.0, 0.0), evaluations=evaluations, noise=noise())
        assert only.diffusion.tolist() == [0] * 5
        assert only.evaluations == 4  # of the decoder
        # of x_1 hardly anything is known: N(0, 80^2), as the decoder's variance is
        wide = torch.distributions.Normal(MEAN, torch.tensor(80.0).double())
        assert float((only.decoder + wide.log_prob(x).sum(1)).abs().max()) < 8


def test_the_last_draw_of_all_falls_on_the_last_level():
    """At u = 1 a sum of chances that is rounded to less than 1 has no further level."""
    for levels in (11, 22, 31):
        schedule = DiscreteVP(betas=linear_betas(levels))
        oracle, prior = exact(schedule)
        bound = elbo(
            oracle,
            drawn(oracle, 2),
            prior,
            grid=Levels()(schedule, levels),
            evaluations=1,
            noise=lambda like: torch.full_like(like, 40.0),
        )
        assert bound.nats.isfinite().all()

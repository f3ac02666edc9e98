"""Laws of the bound as a loss.

Full KLs, what a learned variance is taught, and Algorithms 1 and 2 as printed.
"""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from undiffuse.diffusion import (
    Ancestral,
    Beta,
    BetaTilde,
    Denoiser,
    DiscreteVP,
    Learned,
    Levels,
    linear_betas,
    sample,
    target,
)
from undiffuse.diffusion.objectives import (
    VLB,
    DiscreteTimes,
    Hybrid,
    Objective,
    Simple,
    VariationalBound,
)
from undiffuse.diffusion.objectives.bound import level_terms
from undiffuse.errors import InputError

LEVELS = 20
SCHEDULE = DiscreteVP(betas=linear_betas(LEVELS))


def chain():
    """(beta, alpha-bar, alpha-bar one level down), each (T,), from the table alone."""
    beta = torch.tensor(SCHEDULE.betas, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - beta, 0)
    return beta, alpha_bar, torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])


def textbook(i, x, x_t, x_hat, variance):
    """The KL of level i (from 1) written with betas and products (Ho et al. 2020, Eq. 6-8)."""
    beta, alpha_bar, before = (c[i - 1] for c in chain())
    tilde = beta * (1 - before) / (1 - alpha_bar)
    on_x, on_x_t = (
        before.sqrt() * beta / (1 - alpha_bar),
        (1 - beta).sqrt() * (1 - before) / (1 - alpha_bar),
    )
    q, p = (
        Normal(on_x * mean + on_x_t * x_t, v.sqrt())
        for mean, v in ((x, tilde), (x_hat, variance(beta, tilde)))
    )
    return kl_divergence(q, p)


@pytest.mark.parametrize(
    "variance", [Beta(), BetaTilde(), Learned()], ids=["beta", "beta_tilde", "learned"]
)
@pytest.mark.parametrize("i", [2, 3, 11, 20])
def test_each_term_is_the_kl_of_two_gaussians(variance, i):
    x, x_hat, z = torch.randn(
        3, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(i)
    )
    v = torch.rand(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.full((4,), i / LEVELS, dtype=torch.float64)
    alpha, sigma = (c[:, None] for c in SCHEDULE(t))
    denoiser = Denoiser(torch.nn.Identity(), SCHEDULE, target.data)
    found = level_terms(denoiser, variance, LEVELS, x, x_hat, v, t)
    expected = textbook(
        i, x, alpha * x + sigma * z, x_hat, lambda beta, tilde: variance(beta, tilde, v)
    )
    torch.testing.assert_close(found, LEVELS * expected.mean(1), rtol=1e-9, atol=1e-12)


def test_the_first_term_is_a_gaussian_decoder():
    x, x_hat = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    t = torch.full((4,), 1 / LEVELS, dtype=torch.float64)
    denoiser = Denoiser(torch.nn.Identity(), SCHEDULE, target.data)
    found = level_terms(denoiser, Beta(), LEVELS, x, x_hat, None, t)
    expected = -Normal(x_hat, math.sqrt(SCHEDULE.betas[0])).log_prob(x).mean(1)
    torch.testing.assert_close(found, LEVELS * expected, rtol=1e-9, atol=0)


def test_under_beta_tilde_it_is_the_weighted_error():
    """VLB's weights are these KLs, levels 2 to T."""
    x, z = torch.randn(
        2, LEVELS - 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    t = torch.arange(2, LEVELS + 1, dtype=torch.float64) / LEVELS
    denoiser = Denoiser(lambda x, c_noise: 0.3 * x, SCHEDULE, target.noise)
    weighted = Objective(weighting=VLB(), times=DiscreteTimes()).losses(denoiser, x, z, t)
    torch.testing.assert_close(
        VariationalBound().losses(denoiser, x, z, t), weighted, rtol=1e-8, atol=0
    )


class Two(torch.nn.Module):
    """A network whose two outputs are numbers: the noise's factor and the logit of v."""

    def __init__(self):
        super().__init__()
        self.mean = torch.nn.Parameter(torch.tensor(0.2).double())
        self.logit = torch.nn.Parameter(torch.tensor(0.0).double())

    def forward(self, x, c_noise):
        return torch.cat([self.mean * x, self.logit.expand_as(x)], dim=1)


def gradients(objective):
    network = Two()
    denoiser = Denoiser(
        network, SCHEDULE, target.noise, learned_variance=objective.learned_variance
    )
    x, z = torch.randn(
        2, LEVELS, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    t = torch.arange(1, LEVELS + 1, dtype=torch.float64) / LEVELS
    losses = objective.losses(denoiser, x, z, t)
    losses.sum().backward()
    return losses.detach(), network.mean.grad, network.logit.grad


def test_hybrid_is_the_sum_and_its_bound_trains_the_variance_alone():
    """Nichol and Dhariwal (2021), Eq. 16 and the paragraph below it."""
    bound, _, on_logit = gradients(VariationalBound(variance=Learned()))
    hybrid, mean, logit = gradients(Hybrid())
    large, same_mean, more = gradients(Hybrid(scale=0.1))
    torch.testing.assert_close((large - hybrid) / 0.099, bound, rtol=1e-9, atol=0)
    torch.testing.assert_close(same_mean, mean)  # however large its scale
    torch.testing.assert_close(more, 100 * logit)
    torch.testing.assert_close(logit, 0.001 * on_logit)
    assert float(mean.abs()) > 0


def test_the_best_learned_variance_is_the_mean_square_error_of_the_posterior_mean():
    """d KL/dv = 0 at v = beta-tilde + b^2 E(x - x_hat)^2.

    The minimum over the logit, against that closed form.
    """
    i, n, levels = 12, 20_000, torch.tensor(12 / LEVELS, dtype=torch.float64)
    x, z = torch.randn(2, n, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    x, (alpha, sigma) = 0.6 * x, SCHEDULE(levels)
    x_hat = alpha * 0.36 / (alpha**2 * 0.36 + sigma**2) * (alpha * x + sigma * z)
    denoiser = Denoiser(torch.nn.Identity(), SCHEDULE, target.data)
    logits = torch.linspace(-3, 3, 301, dtype=torch.float64)  # one row for each, of n coordinates
    x, x_hat, v = (a.expand(301, n) for a in (x, x_hat, torch.sigmoid(logits)[:, None]))
    terms = level_terms(denoiser, Learned(), LEVELS, x, x_hat, v, levels.expand(301))
    beta, alpha_bar, before = (c[i - 1] for c in chain())
    tilde, b = beta * (1 - before) / (1 - alpha_bar), before.sqrt() * beta / (1 - alpha_bar)
    best = tilde + b**2 * (x[0] - x_hat[0]).square().mean()
    found = Learned()(beta, tilde, v[int(terms.argmin()), 0])
    assert float(found) == pytest.approx(float(best), rel=2e-3)
    known = tilde + b**2 * 0.36 * sigma**2 / (alpha**2 * 0.36 + sigma**2)
    assert float(best) == pytest.approx(float(known), rel=0.02)


def test_algorithm_1_as_printed():
    """Kim and Lee (2024), Algorithm 1, lines 2 to 5; their alpha_t is the cumulative product."""
    network = torch.nn.Linear(4, 3).double()

    def epsilon(x_t, i):
        return network(torch.cat([x_t, i[:, None] / LEVELS], dim=1))

    denoiser = Denoiser(
        lambda x, c_noise: epsilon(x, level), SCHEDULE, target.noise
    )  # on a VP chain with sigma_data = 1 the network sees x_t itself
    objective = Objective(weighting=Simple(), times=DiscreteTimes())
    torch.manual_seed(0)
    t = objective.sample_times(SCHEDULE, 32)
    level = (t * LEVELS).round()
    x, z = torch.randn(2, 32, 3, dtype=torch.float64)

    _, alpha, _ = chain()
    alpha_t = alpha[level.long() - 1][:, None]
    printed = (z - epsilon(alpha_t.sqrt() * x + (1 - alpha_t).sqrt() * z, level)).square().mean(1)
    torch.testing.assert_close(objective.losses(denoiser, x, z, t), printed, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variance", [Beta(), BetaTilde()], ids=["beta", "beta_tilde"])
def test_algorithm_2_as_printed(variance):
    """Ho et al. (2020), Algorithm 2.

    x_{t-1} = (x_t - beta / sqrt(1 - abar) eps) / sqrt(1 - beta) + sigma_t z; no noise at the last
    step. The same network and the same noise, level by level.
    """
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)
    ).double()
    denoiser = Denoiser(lambda x, c_noise: network(x), SCHEDULE, target.noise)
    torch.manual_seed(1)
    start, *noises = torch.randn(LEVELS, 5, 3, dtype=torch.float64).unbind()
    drawn = iter(noises)
    beta, alpha_bar, before = chain()
    x = start
    with torch.no_grad():
        found = sample(
            denoiser,
            start,
            Levels()(SCHEDULE, LEVELS),
            Ancestral(variance=variance),
            noise=lambda like: next(drawn),
        )
        for i in range(LEVELS, 0, -1):
            z = noises[LEVELS - i] if i > 1 else torch.zeros_like(x)
            tilde = beta[i - 1] * (1 - before[i - 1]) / (1 - alpha_bar[i - 1])
            spread = variance(beta[i - 1], tilde, None).sqrt()
            noise = network(x)
            x = (x - beta[i - 1] / (1 - alpha_bar[i - 1]).sqrt() * noise) / (
                1 - beta[i - 1]
            ).sqrt() + spread * z
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "objective", [VariationalBound(), Hybrid(variance=Beta())], ids=["bound", "hybrid"]
)
def test_a_chain_of_one_level_has_no_bound(objective):
    denoiser = Denoiser(lambda x, c_noise: x, DiscreteVP(betas=(0.5,)), target.noise)
    x = torch.zeros(2, 1)
    with pytest.raises(InputError, match="takes 2 levels or more"):
        objective.losses(denoiser, x, x, torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("v", [0.0, 0.4, 1.0])
def test_the_first_term_s_learned_variance_is_between_beta_and_the_second_beta_tilde(v):
    """Nichol and Dhariwal (2021), section 3.1: the first beta-tilde is zero, the second is not."""
    x, x_hat = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    t = torch.full((4,), 1 / LEVELS, dtype=torch.float64)
    denoiser = Denoiser(torch.nn.Identity(), SCHEDULE, target.data)
    found = level_terms(denoiser, Learned(), LEVELS, x, x_hat, torch.full_like(x, v), t)
    beta, alpha_bar, before = chain()
    tilde = beta[1] * (1 - before[1]) / (1 - alpha_bar[1])
    assert tilde < beta[0]
    variance = beta[0] ** v * tilde ** (1 - v)
    expected = -Normal(x_hat, variance.sqrt()).log_prob(x).mean(1)
    torch.testing.assert_close(found, LEVELS * expected, rtol=1e-9, atol=0)


def test_a_chain_of_two_levels_has_a_bound():
    denoiser = Denoiser(lambda x, c_noise: x, DiscreteVP(betas=(0.3, 0.5)), target.noise)
    x, t = torch.zeros(2, 1).double(), torch.tensor([0.5, 1.0]).double()
    for objective in (VariationalBound(), Hybrid(variance=Beta())):
        assert objective.losses(denoiser, x, x + 1, t).isfinite().all()

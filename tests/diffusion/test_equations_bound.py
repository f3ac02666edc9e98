"""The bound of a whole chain is what its definition says: integrated over both latents of a
chain of two levels.
"""

import math

import pytest
import torch
from torch.distributions import Normal

from undiffuse.diffusion import Beta, BetaTilde, DiscreteVP, Learned, Prior
from undiffuse.diffusion.denoiser import AbstractDenoiser
from undiffuse.diffusion.likelihood.decoder import log_mass
from undiffuse.diffusion.likelihood.elbo import elbo
from undiffuse.diffusion.oracle import Gaussian

MEAN, STD, BETA_1, BETA_2 = 0.4, 0.8, 0.3, 0.5
SCHEDULE = DiscreteVP(betas=(BETA_1, BETA_2))
LINE = torch.linspace(-11, 11, 1101, dtype=torch.float64)


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


ORACLE = Gaussian(SCHEDULE, f64([MEAN]), f64([STD]))
STANDARD = Prior(SCHEDULE, f64([0.0]), f64([1.0]))


def x_hat(x_t, product):
    """E[x | x_t] of Gaussian data, `product` the share of signal: written out, not
    asked of the oracle.
    """
    return MEAN + math.sqrt(product) * STD**2 / (product * STD**2 + 1 - product) * (
        x_t - math.sqrt(product) * MEAN
    )


def plane(x, v_1, decoder):
    """log p(x, x_1, x_2) and log q(x_1, x_2 | x) on a grid of the plane, from the
    chain's own transitions.
    """
    x_1, x_2 = LINE[:, None], LINE[None, :]
    one, two = 1 - BETA_1, (1 - BETA_1) * (1 - BETA_2)
    log_q = Normal(math.sqrt(one) * x + 0 * x_1, math.sqrt(BETA_1)).log_prob(x_1)
    log_q = log_q + Normal(math.sqrt(1 - BETA_2) * x_1, math.sqrt(BETA_2)).log_prob(x_2)
    a, b = math.sqrt(1 - BETA_2) * (1 - one) / (1 - two), math.sqrt(one) * BETA_2 / (1 - two)
    log_p = Normal(0 * x_2, 1.0).log_prob(x_2) + Normal(
        a * x_2 + b * x_hat(x_2, two), math.sqrt(v_1)
    ).log_prob(x_1)
    return log_p + decoder(x_hat(x_1, one)), log_q


def integral(values):
    return float(torch.trapezoid(torch.trapezoid(values, LINE, dim=1), LINE, dim=0))


def averaged(x, variance, denoiser=ORACLE):
    """The library's bound in expectation: each term is quadratic in one draw z, so +1 and -1
    average it exactly.
    """
    grid, x, nats = f64([1.0, 0.5, 0.0]), f64([[x]]), []
    for sign in (1.0, -1.0):
        z = torch.full_like(x, sign)
        nats.append(
            elbo(
                denoiser, x, STANDARD, grid=grid, variance=variance, noise=lambda like, z=z: z
            ).nats
        )
    return float(sum(nats)) / 2


BETA_TILDE = BETA_2 * BETA_1 / (1 - (1 - BETA_1) * (1 - BETA_2))


@pytest.mark.parametrize(
    ("variance", "v_1"), [(Beta(), BETA_2), (BetaTilde(), BETA_TILDE)], ids=["beta", "beta_tilde"]
)
@pytest.mark.parametrize("x", [-1.5, 0.9])
def test_the_bound_is_its_definition_integrated(variance, v_1, x):
    """E_q log p(x, x_1, x_2) / q(x_1, x_2 | x), and below log p(x), which is integrated as well.

    Kim and Lee (2024), Eq. 24-33; Notes after Ho et al. (2020), Eq. 3, 5, 13; Malhotra
    (2024), Eq. 4.1-4.9.
    """
    v_0 = BETA_1 / (1 - BETA_1)
    log_p, log_q = plane(x, v_1, lambda mean: Normal(mean, math.sqrt(v_0)).log_prob(f64(x)))
    bound = averaged(x, variance)
    assert bound == pytest.approx(integral(log_q.exp() * (log_p - log_q)), abs=1e-9)
    assert bound < math.log(integral(log_p.exp())) - 0.01


class Sure(AbstractDenoiser):
    """The exact denoiser, which says of the variance that it lies at `v`."""

    schedule = SCHEDULE

    def __init__(self, v):
        super().__init__()
        self.v = v

    def estimate(self, x_t, t, **cond):
        return ORACLE.estimate(x_t, t)._replace(v=torch.full_like(x_t, self.v))


@pytest.mark.parametrize("v", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("x", [-1.5, 0.9])
def test_the_bound_of_a_learned_variance_is_its_definition_integrated(v, x):
    """exp(v log beta + (1 - v) log beta-tilde) at level 2; at the decoder between its own variance
    and the beta-tilde above, if that is smaller (Nichol and Dhariwal 2021, Eq. 15).
    """
    v_0 = BETA_1 / (1 - BETA_1)
    v_1 = BETA_2**v * BETA_TILDE ** (1 - v)
    least = v_0**v * min(BETA_TILDE, v_0) ** (1 - v)
    log_p, log_q = plane(x, v_1, lambda mean: Normal(mean, math.sqrt(least)).log_prob(f64(x)))
    bound = averaged(x, Learned(), Sure(v))
    assert bound == pytest.approx(integral(log_q.exp() * (log_p - log_q)), abs=1e-9)


def test_the_bound_on_a_whole_number_s_probability_is_its_definition_integrated():
    """With the discretized decoder in place of a density (handwritten notes, L_0): five
    values on [-1, 1].

    Its logarithm is not quadratic in the draw, so the expectation over it is a third integral.
    """
    values = torch.linspace(-1, 1, 5, dtype=torch.float64)
    low, high = values - 0.25, values + 0.25
    low[0], high[-1] = -math.inf, math.inf
    std, k = math.sqrt(BETA_1 / (1 - BETA_1)), 3

    def decoder(mean):
        mass = Normal(mean, std).cdf(high[k]) - Normal(mean, std).cdf(low[k])
        return mass.clamp(min=1e-12).log()  # as far out as this, q has no mass either

    log_p, log_q = plane(float(values[k]), BETA_TILDE, decoder)
    truth = integral(log_q.exp() * (log_p - log_q))
    z = torch.linspace(-9, 9, 721, dtype=torch.float64)[:, None]
    rows = elbo(
        ORACLE,
        values[k].expand(len(z), 1),
        STANDARD,
        grid=f64([1.0, 0.5, 0.0]),
        cells=(low[k].expand(1), high[k].expand(1)),
        noise=lambda like: z,
    )
    density = Normal(f64(0.0), 1.0).log_prob(z[:, 0]).exp()
    assert float(torch.trapezoid(density * rows.nats, z[:, 0])) == pytest.approx(truth, abs=1e-9)
    total = log_mass(f64(0.3), f64(std), low, high).exp()
    edges = Normal(f64(0.3), std).cdf(torch.cat([low, high[-1:]]))
    torch.testing.assert_close(total, edges.diff(), rtol=1e-12, atol=0)

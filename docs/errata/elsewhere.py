"""What papers' readers, blogs and repositories often get wrong."""

from __future__ import annotations

import math

import torch

from errata import ELSEWHERE, row, scalar, slip
from errata.chains import Thousand
from undiffuse.diffusion import LinearVP, SubVP, gaussian
from undiffuse.diffusion.likelihood.decoder import log_mass
from undiffuse.diffusion.oracle import Gaussian

Numbers = tuple[float, float, float]


def _rate(t: float) -> tuple[float, float]:
    """beta(t) and its integral B(t), linear from 0.1 to 20."""
    return 0.1 + 19.9 * t, 0.1 * t + 19.9 * t * t / 2


@slip(
    ELSEWHERE,
    "sub-VP",
    printed="sigma_t = sqrt(1 - exp(-B))",
    right="sigma_t = 1 - exp(-B)",
    decided="at t = 0.2, solving dv/dt = -beta v + beta (1 - exp(-2B)) for the variance by "
    "Runge-Kutta",
    bound=1e-8,
)
def root_of_sub_vp() -> Numbers:
    """The sub-VP standard deviation has no root

    In sub-VP the variance is the square of what it is in VP, and so smaller, hence the name. Song
    et al. (2021), Equation 29.
    """

    def slope(t: float, v: float) -> float:
        beta, B = _rate(t)
        return -beta * v + beta * (1 - math.exp(-2 * B))

    v, n = 0.0, 2000
    h = 0.2 / n
    for i in range(n):
        t = i * h
        k_1 = slope(t, v)
        k_2 = slope(t + h / 2, v + h / 2 * k_1)
        k_3 = slope(t + h / 2, v + h / 2 * k_2)
        v += h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + slope(t + h, v + h * k_3))
    _, B = _rate(0.2)
    return math.sqrt(1 - math.exp(-B)), float(SubVP()(scalar(0.2))[1]), math.sqrt(v)


@slip(
    ELSEWHERE,
    "sub-VP",
    printed="g² = beta (1 - exp(-B))",
    right="g² = beta (1 - exp(-2B))",
    decided="at t = 0.2, from d(sigma²)/dt = -beta sigma² + g² by central differences",
    bound=1e-5,
)
def diffusion_of_sub_vp() -> Numbers:
    """The sub-VP diffusion has twice the exponent

    g² has to produce the variance above: beta (1 - exp(-2B)).
    """
    t, h = 0.2, 1e-5
    beta, B = _rate(t)

    def variance(at: float) -> float:
        return (1 - math.exp(-_rate(at)[1])) ** 2

    truth = (variance(t + h) - variance(t - h)) / (2 * h) + beta * variance(t)
    return beta * (1 - math.exp(-B)), float(SubVP().sde(scalar(t))[1]), truth


@slip(
    ELSEWHERE,
    "the probability-flow ODE",
    printed="dx/dt = f x - g² score",
    right="dx/dt = f x - (g²/2) score",
    decided="dx/dt at x = 2, t = 0.5, data N(0.7, 0.36): the flow carries quantiles to quantiles",
    bound=1e-6,
)
def half_of_the_diffusion() -> Numbers:
    """The probability-flow drift has half of g²

    The reverse SDE has the whole of it, and noise to make up for it. The ODE has half and none.
    """
    schedule, mean, std, x, t, h = LinearVP(), 0.7, 0.6, 2.0, 0.5, 1e-5
    oracle = Gaussian(schedule, scalar(mean).reshape(1), scalar(std).reshape(1))
    f, g2 = schedule.sde(scalar(t))
    printed = f * x - g2 * oracle.score(row(x), scalar(t))

    def moments(at: float) -> tuple[float, float]:
        alpha, sigma = (float(c) for c in schedule(scalar(at)))
        return alpha * mean, math.sqrt((alpha * std) ** 2 + sigma**2)

    quantile = (x - moments(t)[0]) / moments(t)[1]
    (m_1, s_1), (m_0, s_0) = moments(t + h), moments(t - h)
    truth = ((m_1 + quantile * s_1) - (m_0 + quantile * s_0)) / (2 * h)
    return float(printed), float(oracle.velocity(row(x), scalar(t))), truth


@slip(
    ELSEWHERE,
    "sampling in fewer than T steps",
    printed="beta' = beta_i, the level's own",
    right="beta' = 1 - ᾱ_i / ᾱ_j from level j to level i",
    decided="variance of x_500 given x_400 in DDPM's chain of 1,000, carried through its 100 steps",
)
def beta_of_a_strided_chain() -> Numbers:
    """A strided chain has betas of its own

    Between levels j < i there is the noise of all the steps between them. With the level's own beta
    a strided sampler hardly adds noise at all.
    """
    variance = 0.0
    for beta in Thousand.betas[400:500].tolist():
        variance = (1 - beta) * variance + beta
    _, right = Thousand.schedule.transition(scalar(0.5), scalar(0.4))
    return float(Thousand.betas[499]), float(right), variance


@slip(
    ELSEWHERE,
    "the discretized decoder",
    printed="half a bin is 1/255, whatever the scale of the data",
    right="half a bin is half the distance of two values: 1/255 on [-1, 1], 1/510 on [0, 1]",
    decided="total probability of the 256 values under N(0.5, 0.1²) on [0, 1]; probabilities "
    "sum to 1",
)
def half_a_bin() -> Numbers:
    """Half a bin depends on how bytes are scaled

    Bins 1/255 to either side tile the line only where bytes were mapped to 2u/255 - 1. On [0, 1]
    they overlap, and every likelihood is too good by one bit per dimension.
    """
    u = torch.arange(256, dtype=torch.float64) / 255
    normal = torch.distributions.Normal(scalar(0.5), scalar(0.1))

    low, high = u - 1 / 510, u + 1 / 510
    low[0], high[-1] = -math.inf, math.inf
    right = log_mass(scalar(0.5), scalar(0.1), low, high).exp().sum()
    upper, lower = normal.cdf(u + 1 / 255), normal.cdf(u - 1 / 255)
    upper[-1], lower[0] = 1.0, 0.0
    return float((upper - lower).sum()), float(right), 1.0


@slip(
    ELSEWHERE,
    "reports of likelihood",
    printed="-L_simple, the mean error of the noise",
    right="-(L_T + sum L_(t-1) + L_0)",
    decided="E[log p(x)] in nats for data N(0, 0.25), exact reverse kernels, T = 100: minus "
    "the entropy",
)
def simple_loss_as_likelihood() -> Numbers:
    """L_simple is no likelihood

    It leaves out the weights of the bound, the prior term and the decoder, and is not even in nats.
    With the exact reverse kernels of Gaussian data the whole bound has no gap; L_simple says
    something else.
    """
    s2, levels = 0.25, 100
    schedule = LinearVP()
    t = torch.arange(1, levels + 1, dtype=torch.float64) / levels
    (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(t - 1 / levels)
    k, k_s = alpha**2 * s2 + sigma**2, alpha_s**2 * s2 + sigma_s**2
    simple = (alpha**2 * s2 / k).mean()  # E|z - z_hat|² of the exact denoiser
    prior = gaussian.kl(row(0.0), k[-1] - alpha[-1] ** 2 * s2, row(0.0), k[-1]) + alpha[
        -1
    ] ** 2 * s2 / (2 * k[-1])
    A, B = schedule.transition(t, t - 1 / levels)
    gain, v = gaussian.product(
        *gaussian.inverted(A, B, scalar(1.0)), scalar(0.0), k_s
    )  # p(x_s | x_t) = N(gain x_t, v)
    a, b, v_q = schedule.posterior(t[1:], t[:-1])
    # E over x and x_t of the squared difference of means, ((a - gain) x_t + b x)²
    off = (a - gain[1:]) ** 2 * k[1:] + 2 * (a - gain[1:]) * b * alpha[1:] * s2 + b**2 * s2
    middle = (v_q / v[1:] - 1 + off / v[1:] + (v[1:] / v_q).log()).sum() / 2
    decoder = (2 * math.pi * v[0]).log() / 2 + 0.5
    entropy = (1 + math.log(2 * math.pi * s2)) / 2
    return -float(simple), -float(prior + middle + decoder), -entropy

"""Liu, A Brief Introduction to Diffusion Models."""

from __future__ import annotations

import math

import torch

from errata import LIU, integral, line, log_normal, scalar, slip
from errata.chains import TwoLevels
from undiffuse.diffusion import VE
from undiffuse.diffusion.oracle import Gaussian
from undiffuse.diffusion.steps.langevin import Full

Numbers = tuple[float, float, float]


def settled_variance(drift: float, spread: float) -> float:
    """Variance at which x <- x + drift grad log p(x) + spread z settles for p = N(0, 1), by running
    the recursion.
    """
    variance = 0.0
    for _ in range(20_000):
        variance = (1 - drift) ** 2 * variance + spread**2
    return variance


@slip(
    LIU,
    "(1) mixed with Kim and Lee, (44)",
    printed="x + eps ∇log p + sqrt(eps) z: the drift of one, the noise of the other",
    right="x + eps ∇log p + sqrt(2 eps) z, or x + eta/2 ∇log p + sqrt(eta) z",
    decided="variance that the recursion settles at for p = N(0, 1), eps = 0.001; Langevin "
    "dynamics samples p",
    bound=1e-3,
)
def two_conventions() -> Numbers:
    """Two step conventions, each right, do not mix

    Liu steps by (eps, sqrt(2 eps)), Kim and Lee by (eta/2, sqrt(eta)): the same dynamics with eta =
    2 eps. Drift from one and noise from the other halve the stationary variance, or double it.
    """
    eps = 1e-3
    return settled_variance(eps, math.sqrt(eps)), settled_variance(*Full()(eps)), 1.0


@slip(
    LIU,
    "after (2)",
    printed="the score function ∇ p_σ(x)",
    right="the score function ∇ log p_σ(x)",
    decided="at x = 1 for data N(0, 1) and σ = 1, differentiating the logarithm of the "
    "integral (2)",
    bound=1e-6,
)
def gradient_of_the_density() -> Numbers:
    """The score loses its logarithm

    The network approximates the gradient of log p, as (1) and (3) have it.
    """
    oracle = Gaussian(VE(sigma_max=1.0), torch.zeros(1).double(), torch.ones(1).double())
    right = float(oracle.score(torch.ones(1, 1).double(), scalar(1.0)))
    y, h = line(), 1e-5

    def log_p(x: float) -> float:
        return math.log(
            integral((log_normal(y, 0.0, 1.0) + log_normal(scalar(x), y, 1.0)).exp(), y)
        )

    slope = (log_p(1 + h) - log_p(1 - h)) / (2 * h)
    return slope * math.exp(log_p(1.0)), right, slope


@slip(
    LIU,
    "(3)",
    printed="least value 0: the error of the score ∇log p_σ(x)",
    right="least value 1/σ² - 1/(s² + σ²) for data N(0, s²): what is trained has the target "
    "-(x̃ - x)/σ²",
    decided="least loss that training shows, data N(0, 1), σ = 1, integrating over x and x̃",
    bound=1e-6,
)
def explicit_for_denoising() -> Numbers:
    """The objective cannot be computed as it stands

    (3) asks for the score of the noisy data, which is what one wants to learn. Training uses its
    denoising form, with the score of the noise -(x̃ - x)/σ² as target: the same minimizer, but a
    least loss that is not zero.
    """
    x = line(points=801)[:, None]
    noisy = line(width=1.5, points=801)[None, :]
    joint = (log_normal(x, 0.0, 1.0) + log_normal(noisy, x, 1.0)).exp()
    error = (-(noisy - x) - (-noisy / 2)).square()
    truth = torch.trapezoid(torch.trapezoid(joint * error, noisy[0], dim=1), x[:, 0], dim=0)
    return 0.0, 1 / 1.0 - 1 / 2.0, float(truth)


@slip(
    LIU,
    "after (5)",
    printed="variational lower bound E_q[p(x_(0:K)) / q(x_(1:K) | x_0)]",
    right="E_q[log p(x_(0:K)) / q(x_(1:K) | x_0)]",
    decided="a chain with K = 2 at x = 1.2, in nats, by integrating over both latents",
)
def ratio_without_logarithm() -> Numbers:
    """The bound loses its logarithm

    The expectation of the ratio itself is the likelihood, no bound on it, and cannot be estimated
    from few samples. The bound is the expectation of the logarithm of the ratio.
    """
    return TwoLevels.integrated(log_ratio=False), TwoLevels.terms().bound, TwoLevels.integrated()

"""Handwritten notes on DDPM."""

from __future__ import annotations

import math

from errata import HANDWRITTEN, integral, integrated_kl, line, log_normal, row, scalar, slip
from errata.chains import Level
from undiffuse.diffusion import gaussian

Numbers = tuple[float, float, float]


@slip(
    HANDWRITTEN,
    "a), merging two Gaussians",
    printed="variance (alpha_t - alpha_t alpha_(t-1)) + (1 - alpha_t)²",
    right="variance (alpha_t - alpha_t alpha_(t-1)) + (1 - alpha_t) = 1 - alpha_t alpha_(t-1)",
    decided="variance of x_2 given x, betas 0.1, 0.2, carried through the chain step by step",
)
def variance_squared() -> Numbers:
    """A variance is squared

    1 - alpha_t is the variance of the second Gaussian already. The last line of the derivation is
    right.
    """
    b_1, b_2, _ = Level.betas
    printed = (1 - b_2) * b_1 + b_2**2
    right = float(Level.schedule(scalar(2 / 3))[1] ** 2)
    return printed, right, (1 - b_2) * b_1 + b_2


@slip(
    HANDWRITTEN,
    "b), the posterior mean",
    printed="sqrt(1 - ᾱ_(t-1)) beta_t / (1 - ᾱ_t) before x_0",
    right="sqrt(ᾱ_(t-1)) beta_t / (1 - ᾱ_t) before x_0",
    decided="mean of q(x_2 | x_3, x) at x_3 = -0.5, x = 0.8, betas 0.1, 0.2, 0.3, by "
    "integrating Bayes' rule",
)
def noise_rate_for_signal_rate() -> Numbers:
    """The noise rate stands for the signal rate in the posterior mean

    The exponent that the mean is read off has sqrt(ᾱ_(t-1)), and so has the noise form at the end.
    """
    a, b, _ = Level.coefficients()
    printed = a * Level.x_t + math.sqrt(1 - Level.before) * Level.beta / (1 - Level.bar) * Level.x
    return printed, a * Level.x_t + b * Level.x, Level.integrated_posterior()[0]


@slip(
    HANDWRITTEN,
    "c), before L_T is named",
    printed="E[log q(x_1 | x_0) / p(x_T)]",
    right="L_T = E[log q(x_T | x_0) / p(x_T)]",
    decided="L_T at x = 0.8, betas 0.1, 0.2, 0.3, in nats, by the trapezoid rule on its definition",
)
def first_level_for_last() -> Numbers:
    """The first level stands for the last in L_T

    The telescoping product leaves q(x_T | x_0), which the last line, with the divergence in it,
    does have.
    """
    alpha, sigma = Level.schedule(Level.t)
    right = float(gaussian.kl(alpha * row(Level.x), sigma**2, row(0.0), scalar(1.0)))
    x_1, x_T = line(), line()
    log_first = log_normal(x_1, math.sqrt(0.9) * Level.x, 0.1)
    log_last = log_normal(x_T, math.sqrt(Level.bar) * Level.x, 1 - Level.bar)
    printed = integral(log_first.exp() * log_first, x_1) - integral(
        log_last.exp() * log_normal(x_T, 0.0, 1.0), x_T
    )
    return printed, right, integrated_kl(math.sqrt(Level.bar) * Level.x, 1 - Level.bar, 0.0, 1.0)


@slip(
    HANDWRITTEN,
    "c), the divergence of two Gaussians",
    printed="quadratic form (μ_2 - μ_1)ᵀ Σ_1⁻¹ (μ_2 - μ_1)",
    right="quadratic form (μ_2 - μ_1)ᵀ Σ_2⁻¹ (μ_2 - μ_1)",
    decided="KL(N(1, 1) | N(0, 2)) in nats, by the trapezoid rule on its definition",
)
def inverse_of_the_wrong_covariance() -> Numbers:
    """The quadratic form has the inverse of the wrong covariance

    Distances are measured with the second Gaussian's covariance. With equal covariances, as in the
    line that uses it, the slip has no effect.
    """
    printed = (1 / 2 - 1 + 1 / 1 + math.log(2)) / 2
    right = float(gaussian.kl(row(1.0), scalar(1.0), row(0.0), scalar(2.0)))
    return printed, right, integrated_kl(1.0, 1.0, 0.0, 2.0)

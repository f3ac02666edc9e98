"""Denoising Diffusion Probabilistic Models, notes after Ho et al. (2020)."""

from __future__ import annotations

import math

from errata import HO_NOTES, integral, integrated_kl, line, row, scalar, slip
from errata.chains import Level
from undiffuse.diffusion import gaussian

Numbers = tuple[float, float, float]


@slip(
    HO_NOTES,
    "(7), (8d) and Appendix A",
    printed="sqrt(ᾱ_t) (1 - ᾱ_(t-1)) / (1 - ᾱ_t) before x_t",
    right="sqrt(1 - beta_t) (1 - ᾱ_(t-1)) / (1 - ᾱ_t) before x_t, as in Appendix D",
    decided="mean of q(x_2 | x_3, x) at x_3 = -0.5, x = 0.8, betas 0.1, 0.2, 0.3, by "
    "integrating Bayes' rule",
)
def product_for_factor() -> Numbers:
    """The product stands for the factor in the posterior mean

    What multiplies x_t is the root of the chain's own factor 1 - beta_t, not of the product of all
    of them. Appendix D has it right.
    """
    a, b, _ = Level.coefficients()
    printed = math.sqrt(Level.bar) * (1 - Level.before) / (1 - Level.bar) * Level.x_t + b * Level.x
    return printed, a * Level.x_t + b * Level.x, Level.integrated_posterior()[0]


@slip(
    HO_NOTES,
    "Reverse Process, the second choice of variance",
    printed="beta-tilde_t = beta_t (1 - ᾱ_t) / (1 - alpha_t)",
    right="beta-tilde_t = beta_t (1 - ᾱ_(t-1)) / (1 - ᾱ_t)",
    decided="variance of q(x_2 | x_3, x), betas 0.1, 0.2, 0.3, by integrating Bayes' rule",
)
def indices_of_beta_tilde() -> Numbers:
    """Beta-tilde has its indices one off

    Since 1 - alpha_t is beta_t, the printed variance is 1 - ᾱ_t: all the noise there is at level t,
    more than one step could ever add.
    """
    printed = Level.beta * (1 - Level.bar) / Level.beta
    return printed, Level.coefficients()[2], Level.integrated_posterior()[1]


@slip(
    HO_NOTES,
    "(8)",
    printed="L_(t-1) = |mu_tilde - mu|² / (2 v_t), for any v_t",
    right="the same + d/2 (beta-tilde/v_t - 1 + log(v_t/beta-tilde))",
    decided="KL in nats at v_t = beta_t = 0.3, means 0.2 apart, by the trapezoid rule on its "
    "definition",
)
def variance_replaced() -> Numbers:
    """The posterior's variance is replaced without a word

    The third line of (8) writes sigma_t² where q has beta-tilde. For the other choice, sigma_t² =
    beta_t, a term is lost: a constant for training, a part of the bound otherwise.
    """
    v, apart = Level.beta, 0.2
    right = gaussian.kl(row(apart), scalar(Level.beta_tilde), row(0.0), scalar(v))
    return apart**2 / (2 * v), float(right), integrated_kl(apart, Level.beta_tilde, 0.0, v)


@slip(
    HO_NOTES,
    "Appendix A, the three densities",
    printed="N(x; m, beta²) = exp(-(x - m)²/(2 beta)) / (sqrt(2 pi) beta)",
    right="N(x; m, beta) = exp(-(x - m)²/(2 beta)) / sqrt(2 pi beta)",
    decided="total probability at beta = 0.3; a density has 1",
)
def variances_squared() -> Numbers:
    """Variances are squared in the densities

    beta_t is a variance; the appendix squares it in the name and leaves it unrooted in the
    normalization, so the printed densities do not integrate to one, and the constant of the
    posterior after them is off in the same way.
    """
    beta, x = Level.beta, line()
    printed = (-x.square() / (2 * beta)).exp() / (math.sqrt(2 * math.pi) * beta)
    right = gaussian.log_prob(x[:, None], row(0.0), scalar(beta)).exp()
    return integral(printed, x), integral(right, x), 1.0


@slip(
    HO_NOTES,
    "Appendix B, the fourth line",
    printed="x_t = sqrt(ᾱ_t) x + [sqrt(beta_t) + sqrt(alpha_t beta_(t-1)) + ...] ε",
    right="variances add: sqrt(beta_t + alpha_t beta_(t-1) + ...) ε = sqrt(1 - ᾱ_t) ε",
    decided="variance of x_3 given x, betas 0.1, 0.2, 0.3, carried through the chain step by step",
)
def deviations_added() -> Numbers:
    """Standard deviations are added where variances are

    Independent Gaussians add in variance. The line after it does so, and ends at (4).
    """
    b_1, b_2, b_3 = Level.betas
    deviation = math.sqrt(b_3) + math.sqrt((1 - b_3) * b_2) + math.sqrt((1 - b_3) * (1 - b_2) * b_1)
    variance = 0.0
    for beta in Level.betas:
        variance = (1 - beta) * variance + beta
    return deviation**2, float(Level.schedule(Level.t)[1] ** 2), variance

"""Malhotra (2024)."""

from __future__ import annotations

import math

import torch

from errata import MALHOTRA, integrated_kl, least, slip
from errata.chains import Level, TwoLevels
from undiffuse.diffusion.objectives import VLB

Numbers = tuple[float, float, float]
GUESS = Level.noise + 0.4  # a network's noise, 0.4 off


def _data_from(noise: float) -> float:
    return (Level.x_t - math.sqrt(1 - Level.bar) * noise) / math.sqrt(Level.bar)


@slip(
    MALHOTRA,
    "(3.7)",
    printed="the variance of (3.6) is that of the forward process, beta_t",
    right="the variance of (3.6) is the posterior's, beta_t (1 - ᾱ_(t-1)) / (1 - ᾱ_t)",
    decided="variance of q(x_2 | x_3, x), betas 0.1, 0.2, 0.3, by integrating Bayes' rule",
)
def variance_of_which_process() -> Numbers:
    """The posterior's variance is called the forward one

    Both are published choices for the reverse process, but they are two: (3.6) is beta-tilde, and
    Algorithm 2 adds noise of variance beta_t.
    """
    return Level.beta, Level.coefficients()[2], Level.integrated_posterior()[1]


@slip(
    MALHOTRA,
    "(4.6)",
    printed="E[log p(x | z_1) + sum log p(z_(t-1) | z_t) / q(z_t | z_(t-1), x)]",
    right="E[log p(x | z_1) + sum log p(z_(t-1) | z_t) / q(z_(t-1) | z_t, x)] - L_T",
    decided="a chain with T = 2 at x = 1.2, in nats, by integrating definition (4.4) over "
    "both latents",
)
def transition_the_wrong_way() -> Numbers:
    """A transition stands the wrong way round in the bound

    The reverse step is compared with the forward transition q(z_t | z_(t-1)) instead of the
    posterior q(z_(t-1) | z_t, x). Going over from one to the other is what produces L_T.
    """
    terms = TwoLevels.terms()
    x_1, x_2, _, log_q = TwoLevels._plane()
    reverse = torch.distributions.Normal(TwoLevels.gain_1 * x_2[None, :], math.sqrt(TwoLevels.v_1))
    forward = torch.distributions.Normal(math.sqrt(0.5) * x_1[:, None], math.sqrt(0.5))
    ratio = reverse.log_prob(x_1[:, None]) - forward.log_prob(x_2[None, :])
    compared = torch.trapezoid(torch.trapezoid(log_q.exp() * ratio, x_2, dim=1), x_1, dim=0)
    return -terms.L_0 + float(compared), terms.bound, TwoLevels.integrated()


@slip(
    MALHOTRA,
    "(4.9)",
    printed="E[log p(x | z_1) - sum KL(q(z_(t-1) | z_t, x) | p(z_(t-1) | z_t))]",
    right="the same - KL(q(z_T | x) | p(z_T))",
    decided="the same chain, by integrating definition (4.4) over both latents",
)
def prior_term_lost() -> Numbers:
    """The bound loses its prior term, once more

    As in Kim and Lee, (30)-(31): with the posterior in its place, (4.9) is the bound but for L_T.
    """
    terms = TwoLevels.terms()
    return -terms.L_0 - terms.L_1, terms.bound, TwoLevels.integrated()


@slip(
    MALHOTRA,
    "(4.12)",
    printed="mu(z_t) = (z_t - sqrt(1 - ᾱ_t) g) / sqrt(ᾱ_t)",
    right="mu(z_t) = (z_t - beta_t g / sqrt(1 - ᾱ_t)) / sqrt(1 - beta_t), which is (3.11)",
    decided="mean of q(x_2 | x_3, x_hat) at x_3 = -0.5 and noise 0.4 off, by integrating "
    "Bayes' rule",
)
def data_for_mean() -> Numbers:
    """The predicted data is called the mean of the reverse step

    (4.12) is x_hat, the data that the predicted noise implies. The mean of p(z_(t-1) | z_t) is
    (3.11), a small step towards it; sampling with (4.12) would jump to the end at once.
    """
    printed = _data_from(GUESS)
    right = (Level.x_t - Level.beta * GUESS / math.sqrt(1 - Level.bar)) / math.sqrt(1 - Level.beta)
    return printed, right, Level.integrated_posterior(printed)[0]


@slip(
    MALHOTRA,
    "(4.15)",
    printed="KL = beta_t / (2 (1 - ᾱ_t) (1 - beta_t)) |g - ε|²",
    right="KL = beta_t / (2 (1 - ᾱ_(t-1)) (1 - beta_t)) |g - ε|² with the variance (3.6)",
    decided="the weight: KL of the two posteriors by the trapezoid rule, over |g - ε|² = 0.16",
)
def weight_of_another_variance() -> Numbers:
    """The weight belongs to another variance

    (4.15) holds for v_t = beta_t, up to a constant. With the variance (3.6) that it is stated for,
    the weight is that of beta-tilde, (SNR_(t-1)/SNR_t - 1)/2.
    """
    apart = (GUESS - Level.noise) ** 2
    printed = Level.beta / (2 * (1 - Level.bar) * (1 - Level.beta))
    snr = Level.schedule.log_snr(Level.t).exp()
    right = float(VLB()(Level.schedule, Level.t) / 3 / snr)
    (m_a, v), (m_b, _) = Level.integrated_posterior(), Level.integrated_posterior(_data_from(GUESS))
    return printed, right, integrated_kl(m_a, v, m_b, v) / apart


@slip(
    MALHOTRA,
    "(4.17), (4.18), (6.1)",
    printed="minimize -sum |g - ε|²",
    right="minimize +sum |g - ε|²",
    decided="the prediction in [-3, 3] of least loss, where the noise is 0.5",
    bound=1e-3,
)
def sign_of_the_objective() -> Numbers:
    """A loss with a minus sign is called minimized

    With the sign as printed the best network is as wrong as it can be. The chapter's Algorithm 1
    has the right sign.
    """
    g = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    loss = (g - 0.5).square()
    return least(-loss, g), least(loss, g), 0.5

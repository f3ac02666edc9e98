"""Kim and Lee (2024)."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from errata import KIM_LEE, integrated_kl, least, line, log_normal, moments, row, scalar, slip
from errata.chains import Level, TwoLevels
from undiffuse.diffusion import gaussian, target
from undiffuse.diffusion.steps.langevin import Half, langevin

Numbers = tuple[float, float, float]


@slip(
    KIM_LEE,
    "below (34)",
    printed="KL = 1/2 (|a - b|²/v_b + d (v_a/v_b - 1 + log(v_a/v_b)))",
    right="KL = 1/2 (|a - b|²/v_b + d (v_a/v_b - 1 + log(v_b/v_a)))",
    decided="KL(N(0, 1) | N(0, 2)) in nats, by the trapezoid rule on its definition",
)
def upside_down_logarithm() -> Numbers:
    """The logarithm of Lemma 3 stands upside down

    Equation (34) itself is right; its special case for multiples of the identity turns log(|B|/|A|)
    over. A divergence cannot be negative, and the printed one is.
    """
    v_a, v_b = 1.0, 2.0
    printed = (v_a / v_b - 1 + math.log(v_a / v_b)) / 2
    right = float(gaussian.kl(row(0.0), scalar(v_a), row(0.0), scalar(v_b)))
    return printed, right, integrated_kl(0.0, v_a, 0.0, v_b)


@slip(
    KIM_LEE,
    "(1)",
    printed="y = 0 for real, y = 1 for fake",
    right="y = 1 for real, y = 0 for fake, as (2) and (3) then use",
    decided="what the discriminator reports as the probability of real, where 8 of 10 "
    "observations are",
    bound=1e-3,
)
def labels_of_the_discriminator() -> Numbers:
    """The labels of real and fake are exchanged

    The discriminator returns the logit of the probability that an observation is real. Under the
    loss (1) with the labels as printed, the best it can do is to report the probability that it is
    fake.
    """
    logit, real = torch.linspace(-5, 5, 20_001, dtype=torch.float64), 0.8

    def best(label_of_real: float) -> float:
        of_real, of_fake = (
            binary_cross_entropy_with_logits(logit, torch.full_like(logit, y), reduction="none")
            for y in (label_of_real, 1 - label_of_real)
        )
        return 1 / (1 + math.exp(-least(real * of_real + (1 - real) * of_fake, logit)))

    return best(0.0), best(1.0), real


@slip(
    KIM_LEE,
    "(2)-(3)",
    printed="-log sign(f) for a real observation",
    right="-log sigmoid(f), that is log(1 + e^-f)",
    decided="slope of the loss in the logit at f = 1, differentiating a Bernoulli's "
    "log-probability",
)
def sign_for_sigmoid() -> Numbers:
    """`sign` stands for the sigmoid

    As printed, a real observation costs 0 at every positive logit and an undefined amount at the
    others: there is no slope to follow. The loss is binary cross-entropy on the sigmoid of the
    logit.
    """
    f = torch.ones((), dtype=torch.float64, requires_grad=True)
    log_probability = torch.distributions.Bernoulli(logits=f).log_prob(torch.ones_like(f))
    (slope,) = torch.autograd.grad(-log_probability, f)
    return 0.0, 1 / (1 + math.exp(-1.0)) - 1, float(slope)


@slip(
    KIM_LEE,
    "(5)",
    printed="minimize sum log |df/dz|",
    right="minimize sum (log |df/dz| - log f_Z(z_i))",
    decided="scale s of the flow x = s z fitted to data of standard deviation 2, s searched "
    "from 0.01 to 10",
    bound=1e-3,
)
def density_lost_from_the_flow() -> Numbers:
    """The second line of the flow's likelihood loses the base density

    Dropping log f_Z(z_i) is no constant, since z_i moves with the parameters. A linear flow would
    collapse: the smaller its scale, the better.
    """
    data = torch.tensor(
        [-3.0, -1.0, 1.0, 3.0, 0.0, 2.0, -2.0, 2.0, -2.0, 2.0, -2.0], dtype=torch.float64
    )
    data = 2 * data / data.square().mean().sqrt()
    s = torch.linspace(0.01, 10, 99_901, dtype=torch.float64)
    right = s.log() - torch.stack([log_normal(x / s, 0.0, 1.0) for x in data]).mean(0)
    return least(s.log(), s), least(right, s), float(data.square().mean().sqrt())


@slip(
    KIM_LEE,
    "(14)",
    printed="maximize sum q(x_i)",
    right="maximize sum log q(x_i)",
    decided="mean of N(m, 1) fitted to 0, 0.2 and 4; the joint density is largest at their average",
    bound=1e-3,
)
def densities_summed() -> Numbers:
    """Densities are summed where their logarithms are meant

    The probability of independent observations is the product of their densities. A sum of
    densities is largest where most observations crowd and does not mind the others at all.
    """
    data, m = (
        torch.tensor([0.0, 0.2, 4.0], dtype=torch.float64),
        torch.linspace(-2, 6, 80_001, dtype=torch.float64),
    )
    log_q = log_normal(data[:, None], m[None], 1.0)
    return least(-log_q.exp().sum(0), m), least(-log_q.sum(0), m), float(data.mean())


@slip(
    KIM_LEE,
    "(22a)",
    printed="N(A w, B) ∝ N((AᵀB⁻¹A)⁻¹AᵀB⁻¹v, (AᵀB⁻¹A)⁻¹), of no stated argument",
    right="N(v; A w, B) as a function of w ∝ N(w; (AᵀB⁻¹A)⁻¹AᵀB⁻¹v, (AᵀB⁻¹A)⁻¹)",
    decided="variance of w after seeing v = 1.5, for A = 0.5 and B = 0.3, normalizing over w",
)
def argument_left_out() -> Numbers:
    """Lemma 1 (a) leaves out what is the variable

    The left side is a density of v, the right side one of w. Read as a statement about one variable
    it is false; read as a change of which one varies it is what the proof of Theorem 2 needs.
    """
    a, variance, v = 0.5, 0.3, 1.5
    _, right = gaussian.inverted(scalar(a), scalar(variance), scalar(v))
    w = line(3.0, 1.1)
    return variance, float(right), moments(log_normal(scalar(v), a * w, variance), w)[1]


@slip(
    KIM_LEE,
    "(30)-(31)",
    printed="ELBO = -L_0 - sum L_(t-1)",
    right="ELBO = -L_T - L_0 - sum L_(t-1), L_T = KL(q(x_T | x) | p(x_T))",
    decided="a chain with T = 2 at x = 1.2, in nats, by integrating definition (28) over "
    "both latents",
)
def prior_term_dropped() -> Numbers:
    """The bound loses its prior term

    L_T does not depend on the parameters, so training may leave it out; a reported bound may not.
    Without it the number is larger than the bound, and nothing keeps it below the log-likelihood.
    """
    terms = TwoLevels.terms()
    return -terms.L_1 - terms.L_0, terms.bound, TwoLevels.integrated()


@slip(
    KIM_LEE,
    "(35)-(37)",
    printed="sqrt(ᾱ_(t-1) beta_t) / (1 - ᾱ_t) before x",
    right="sqrt(ᾱ_(t-1)) beta_t / (1 - ᾱ_t) before x, as in Theorem 2 and (39)",
    decided="mean of q(x_2 | x_3, x) at x_3 = -0.5, x = 0.8, betas 0.1, 0.2, 0.3, by "
    "integrating Bayes' rule",
)
def root_over_beta() -> Numbers:
    """The root reaches over beta in the posterior mean

    Theorem 2 and (39) have beta_t outside the root. As (35) to (37) are set, the network would be
    trained towards a mean that no chain has.
    """
    a, b, _ = Level.coefficients()
    printed = a * Level.x_t + math.sqrt(Level.before * Level.beta) / (1 - Level.bar) * Level.x
    return printed, a * Level.x_t + b * Level.x, Level.integrated_posterior()[0]


@slip(
    KIM_LEE,
    "(38), and the second line of (39)",
    printed="x = (z_t + sqrt(1 - ᾱ_t) ε) / sqrt(ᾱ_t)",
    right="x = (z_t - sqrt(1 - ᾱ_t) ε) / sqrt(ᾱ_t)",
    decided="x recovered from z_t and ε, where x = 0.8 went in",
)
def sign_of_the_noise() -> Numbers:
    """The noise is added a second time instead of being taken off

    Solving (19) for x subtracts the noise. The third line of (39) has the right sign again.
    """
    c_skip, c_out = target.noise.row(Level.schedule, Level.t)
    printed = (Level.x_t + math.sqrt(1 - Level.bar) * Level.noise) / math.sqrt(Level.bar)
    return printed, float(c_skip * Level.x_t + c_out * Level.noise), Level.x


@slip(
    KIM_LEE,
    "(44)",
    printed="x_t = x_(t-1) + eta/2 ∇log p(x_t) + sqrt(eta) z",
    right="x_t = x_(t-1) + eta/2 ∇log p(x_(t-1)) + sqrt(eta) z",
    decided="variance that the recursion settles at for p = N(0, 1), eta = 1, run with the "
    "gradient it has",
)
def gradient_of_what_is_not_there_yet() -> Numbers:
    """Langevin's gradient is taken at the point that is being computed

    As printed, x_t stands on both sides: an implicit step, which settles at the variance 1/(1 +
    eta/4). What is run, here and everywhere, takes the gradient at x_(t-1) and settles at 1/(1 -
    eta/4).
    """
    eta = 1.0
    at = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(log_normal(at, 0.0, 1.0), at, create_graph=True)
    (bend,) = torch.autograd.grad(slope, at)
    variance = 0.0
    for _ in range(200):
        variance = float(1 + eta / 2 * bend) ** 2 * variance + eta
    one = row(1.0)
    gain = float(
        langevin(lambda x: -x, one, size=eta, updates=1, convention=Half(), noise=torch.zeros_like)
    )
    spread = float(
        langevin(
            lambda x: -x, 0 * one, size=eta, updates=1, convention=Half(), noise=torch.ones_like
        )
    )
    return 1 / (1 + eta / 4), spread**2 / (1 - gain**2), variance

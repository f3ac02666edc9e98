"""Laws of the equations that every method rests on.

Gaussians, bounds, chains, changes of variable.

Truths here are the trapezoid rule on a definition, differentiation, torch.distributions, and exact
recursions.
"""

import math

import pytest
import torch
from cases import SCHEDULE_CASES, times
from torch.distributions import Laplace, MultivariateNormal, Normal, Uniform, kl_divergence

from undiffuse.diffusion import DDIM, DiscreteVP, LinearVP, gaussian, linear_betas
from undiffuse.diffusion.oracle import Mixture, Points

LINE = torch.linspace(-14, 14, 8001, dtype=torch.float64)
column = LINE[:, None]


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def integral(values, at=LINE):
    return float(torch.trapezoid(values, at))


def drawn(*shape, seed=0, positive=False):
    z = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return z.exp() if positive else z


@pytest.mark.parametrize("shape", [(3,), (2, 4, 5)], ids=str)
def test_density_divergence_and_entropy_are_torch_s(shape):
    """On vectors and images, with variances per coordinate, against torch.distributions."""
    (x, m_a, m_b), (v_a, v_b) = drawn(3, 6, *shape), drawn(2, 6, *shape, seed=1, positive=True)
    a, b = Normal(m_a, v_a.sqrt()), Normal(m_b, v_b.sqrt())
    torch.testing.assert_close(gaussian.log_prob(x, m_a, v_a), a.log_prob(x).flatten(1).sum(1))
    torch.testing.assert_close(
        gaussian.kl(m_a, v_a, m_b, v_b), kl_divergence(a, b).flatten(1).sum(1)
    )
    torch.testing.assert_close(gaussian.entropy(v_a), a.entropy().flatten(1).sum(1))
    assert bool((gaussian.kl(m_a, v_a, m_a, v_a) == 0).all())


def test_divergence_of_full_covariances_in_their_common_axes():
    """Lemma 3 is stated for any covariances.

    In axes that make both diagonal it is the sum over coordinates.
    """
    axes, _ = torch.linalg.qr(drawn(3, 3))
    (m_a, m_b), (v_a, v_b) = drawn(2, 1, 3, seed=2), drawn(2, 3, seed=3, positive=True)
    full = [
        MultivariateNormal((m @ axes.T)[0], axes @ torch.diag(v) @ axes.T)
        for m, v in ((m_a, v_a), (m_b, v_b))
    ]
    torch.testing.assert_close(gaussian.kl(m_a, v_a, m_b, v_b)[0], kl_divergence(*full))


def test_divergence_is_cross_entropy_less_entropy_and_the_limit_of_bins():
    """Malhotra (2024), Eq. 1.6-1.8: the integral, its split, and the sum over ever finer bins."""
    (m_a, v_a), (m_b, v_b) = (0.3, 0.8), (-0.5, 1.7)
    kl = float(gaussian.kl(*(f64([[c]]) for c in (m_a, v_a, m_b, v_b))))
    p, q = Normal(f64(m_a), v_a**0.5), Normal(f64(m_b), v_b**0.5)
    cross = -integral(p.log_prob(LINE).exp() * q.log_prob(LINE))
    assert kl == pytest.approx(cross - float(gaussian.entropy(f64([[v_a]]))), abs=1e-10)
    edges = torch.linspace(-5, 5, 2001, dtype=torch.float64)
    P, Q = p.cdf(edges).diff(), q.cdf(edges).diff()
    assert float((P * (P / Q).log()).sum()) == pytest.approx(kl, abs=1e-5)


def test_the_gaussian_has_the_largest_entropy():
    """Of all densities with its variance.

    Malhotra 2024, section 1.1, against Laplace and uniform of variance 2.
    """
    largest = float(gaussian.entropy(torch.tensor([[2.0]])))
    for other in (Laplace(0.0, 1.0), Uniform(-(6**0.5), 6**0.5)):
        assert float(other.variance) == pytest.approx(2.0)
        assert float(other.entropy()) < largest - 0.05


def test_lemma_1_by_normalizing():
    """Both parts of Kim and Lee (2024), Lemma 1, against the normalized products on a grid."""
    a, v, y = (f64(c) for c in (0.7, 0.5, 1.1))
    m_2, v_2 = f64(-0.4), f64(1.3)
    seen = Normal(a * LINE, v.sqrt()).log_prob(y).exp()
    both = seen * Normal(m_2, v_2.sqrt()).log_prob(LINE).exp()
    for density, (mean, variance) in (
        (seen, gaussian.inverted(a, v, y)),
        (both, gaussian.product(*gaussian.inverted(a, v, y), m_2, v_2)),
    ):
        total = integral(density)
        ours = Normal(mean, variance.sqrt()).log_prob(LINE).exp()
        torch.testing.assert_close(ours, density / total, rtol=1e-9, atol=1e-12)
    point = f64(0.0)
    assert [float(c) for c in gaussian.product(m_2, point, y, v)] == [pytest.approx(-0.4), 0.0]


def test_log_density_is_bound_plus_divergence():
    """log p(x) = ELBO(q) + KL(q | p(z | x)) for any q.

    The bound is tight at the posterior alone.

    One latent z ~ N(0, 1), x | z ~ N(a z + c, r): Kim and Lee (2024), Eq. 8-13; Malhotra (2024),
    Eq. 4.1-4.5.
    """
    a, c, r, x = 1.4, -0.3, 0.6, 1.7
    one, zero = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    evidence = gaussian.log_prob(x * one, c * one, (a**2 + r) * one)
    summed = integral(
        (
            Normal(a * LINE + c, r**0.5).log_prob(x * one[0]) + Normal(zero[0], 1.0).log_prob(LINE)
        ).exp()
    )
    assert float(evidence) == pytest.approx(math.log(summed), abs=1e-10)

    posterior = gaussian.product(*gaussian.inverted(a * one, r * one, (x - c) * one), zero, one)
    for m, v in ((0.2, 0.4), (-1.0, 2.0), (float(posterior[0]), float(posterior[1]))):
        rebuilt = gaussian.log_prob(x * one, (a * m + c) * one, r * one) - a**2 * v / (2 * r)
        q = Normal(f64(m), v**0.5)
        one_sample = Normal(a * LINE + c, r**0.5).log_prob(
            x * one[0]
        )  # log p(x | z) at one draw z of q (Eq. 12)
        assert float(rebuilt) == pytest.approx(
            integral(q.log_prob(LINE).exp() * one_sample), abs=1e-9
        )
        bound = rebuilt - gaussian.kl(m * one, v * one, zero, one)
        gap = gaussian.kl(m * one, v * one, *posterior)
        torch.testing.assert_close(bound + gap, evidence, rtol=0, atol=1e-12)


def test_the_optimal_discriminator_is_the_log_density_ratio():
    """It leaves the generator 2 log 2 - 2 JS(p_data, p_model), largest where the two agree.

    Kim and Lee, Eq. 1-3.
    """
    one = torch.ones(1, 1).double()
    log_p, log_q = (
        gaussian.log_prob(column, m * one, v * one) for m, v in ((0.0, 1.0), (1.0, 0.5))
    )
    p, q = log_p.exp(), log_q.exp()
    logit = (log_p - log_q).requires_grad_()
    softplus = torch.nn.functional.softplus
    loss = torch.trapezoid(p * softplus(-logit) + q * softplus(logit), LINE)
    (slope,) = torch.autograd.grad(loss, logit)
    assert float(slope.abs().max()) < 1e-15
    middle = ((p + q) / 2).log()
    jensen_shannon = (integral(p * (log_p - middle)) + integral(q * (log_q - middle))) / 2
    assert float(loss.detach()) == pytest.approx(2 * math.log(2) - 2 * jensen_shannon, abs=1e-10)
    assert 0.1 < jensen_shannon < math.log(2)


def test_change_of_variables_is_the_slope_of_the_distribution_function():
    """p_X(x) = p_Z(z) / |dx/dz| for x = f_2(f_1(z)), inverted in reverse order.

    Kim and Lee 2024, Eq. 4, 6, 7.
    """

    def inverse(x):
        return (torch.asinh(x) - 0.2) / 0.7

    z = torch.linspace(-3, 3, 61, dtype=torch.float64).requires_grad_()
    x = torch.sinh(0.7 * z + 0.2)
    (slope,) = torch.autograd.grad(x.sum(), z)
    x = x.detach()
    torch.testing.assert_close(inverse(x), z.detach(), rtol=1e-12, atol=1e-12)
    one = torch.ones(1, 1).double()
    log_p = gaussian.log_prob(z.detach()[:, None], 0 * one, one) - slope.log()
    h, Phi = 1e-5, Normal(torch.zeros(()).double(), 1.0).cdf
    torch.testing.assert_close(
        log_p.exp(), (Phi(inverse(x + h)) - Phi(inverse(x - h))) / (2 * h), rtol=1e-6, atol=0
    )


def test_the_probability_flow_is_an_invertible_composition():
    """The same steps taken up to noise and down again lead back, the better the shorter they are.

    Eq. 6-7.
    """
    oracle = Mixture(LinearVP(), *f64([[[-1.0], [1.0]], [[0.3], [0.5]]]))
    start = f64([[-1.3], [0.1], [0.8]])

    def error(n):
        grid, x = torch.linspace(0.05, 0.6, n + 1, dtype=torch.float64), start
        for way in (grid, grid.flip(0)):
            for i in range(n):
                x, _ = DDIM()(oracle, x, way[i], way[i + 1], None, torch.randn_like)
        return float((x - start).abs().max())

    coarse = error(60)
    assert coarse < 0.1
    assert error(120) == pytest.approx(coarse / 2, rel=0.15)


@pytest.mark.parametrize("t", [0.1, 0.6])
def test_marginal_and_estimate_are_integrals_over_the_data(t):
    """p_t(x_t) = ∫ q(x_t | x) p(x) dx and x_hat = ∫ x p(x | x_t) dx, by Bayes' rule.

    Kim and Lee (2024), Eq. 20; Malhotra (2024), Eq. 1.2-1.5; Liu, Eq. 2.
    """
    schedule = LinearVP()
    oracle = Mixture(schedule, *f64([[[-1.0], [1.5]], [[0.4], [0.7]]]), times(0.3, 0.7).log())
    alpha, sigma = schedule(times(t)[0])
    p = (
        0.3 * Normal(-1.0 + 0 * LINE, 0.4).log_prob(LINE).exp()
        + 0.7 * Normal(1.5 + 0 * LINE, 0.7).log_prob(LINE).exp()
    )
    for x_t in (-1.1, 0.4):
        joint = p * Normal(alpha * LINE, sigma).log_prob(times(x_t)).exp()
        at = f64([[x_t]])
        assert float(oracle.log_prob(at, t)) == pytest.approx(math.log(integral(joint)), abs=1e-9)
        assert float(oracle(at, t)) == pytest.approx(
            integral(LINE * joint) / integral(joint), abs=1e-9
        )


def test_score_of_one_point_is_the_kernel_s():
    """∇ log q(x_t | x) = (alpha x - x_t) / sigma², the conditional score.

    Kim and Lee 2024, Eq. 43.
    """
    schedule, point, t = LinearVP(), drawn(1, 2), times(0.3)[0]
    alpha, sigma = schedule(t)
    x_t = drawn(5, 2, seed=1).requires_grad_()
    (slope,) = torch.autograd.grad(Normal(alpha * point, sigma).log_prob(x_t).sum(), x_t)
    torch.testing.assert_close(Points(schedule, point).score(x_t.detach(), t), slope)


@pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)
def test_the_sdes_and_the_flow_have_the_marginals(schedule):
    """dp/dt from the forward SDE, from the reverse SDE run backwards and from the probability flow.

    Each by its Fokker-Planck equation, on a mixture (Liu, Eq. 7-8; Song et al. 2021, Eq. 5, 6, 13).
    """
    oracle, t, h = Mixture(schedule, *f64([[[-1.0], [1.5]], [[0.4], [0.7]]])), f64(0.6371), 1e-6
    x = torch.linspace(-3, 3, 25, dtype=torch.float64)[:, None].requires_grad_()

    def slope(values):
        return torch.autograd.grad(values.sum(), x, create_graph=True)[0]

    (f, g2), p = schedule.sde(t), oracle.log_prob(x, t).exp()[:, None]
    ahead, behind = (oracle.log_prob(x.detach(), t + step).exp()[:, None] for step in (h, -h))
    changes = (ahead - behind) / (2 * h)
    spread, score = g2 / 2 * slope(slope(p)), oracle.score(x, t)
    bound = {"rtol": 1e-5, "atol": 1e-6 * float(changes.abs().max())}
    torch.testing.assert_close(-slope(f * x * p) + spread, changes, **bound)
    torch.testing.assert_close(-slope((f * x - g2 * score) * p) - spread, changes, **bound)
    torch.testing.assert_close(-slope(oracle.velocity(x, t) * p), changes, **bound)


CHAIN = DiscreteVP(betas=(0.05, 0.1, 0.2, 0.3, 0.45))
KNOTS = torch.arange(6, dtype=torch.float64) / 5


def test_the_log_ratio_telescopes():
    """log p(x, x_1..x_T) - log q(x_1..x_T | x) in its two forms.

    Along any path and for any reverse kernels.

    Kim and Lee (2024), Eq. 25, 28-30; Notes after Ho et al. (2020), Eq. 2, 3, 5; Malhotra (2024),
    Eq. 2.3, 3.8.
    """
    path, log_density = drawn(6, 1, 1), gaussian.log_prob
    gain, variance = drawn(6, seed=4), drawn(6, seed=5, positive=True)
    zero, one = torch.zeros(1, 1).double(), torch.ones(1, 1).double()
    reverse = [log_density(path[i - 1], gain[i] * path[i], variance[i]) for i in range(1, 6)]
    forward, posterior = [], []
    for i in range(1, 6):
        a, b = CHAIN.transition(KNOTS[i], KNOTS[i - 1])
        forward.append(log_density(path[i], a * path[i - 1], b))
        if i > 1:
            a, b, v = CHAIN.posterior(KNOTS[i], KNOTS[i - 1])
            posterior.append(log_density(path[i - 1], a * path[i] + b * path[0], v))
    alpha, sigma = CHAIN(KNOTS[5])
    end = log_density(path[5], zero, one)
    defined = end + sum(reverse) - sum(forward)
    rewritten = (
        end - log_density(path[5], alpha * path[0], sigma**2) + sum(reverse) - sum(posterior)
    )
    torch.testing.assert_close(defined, rewritten, rtol=1e-12, atol=1e-10)


def test_integrating_the_chain_s_joint_density_gives_its_marginal():
    """p(x) = ∫ p(x_2) p(x_1 | x_2) p(x | x_1) d(x_1, x_2), in closed form for linear kernels.

    Kim and Lee, Eq. 26.
    """
    x, at = 0.7, LINE[::10]
    x_1, x_2 = at[:, None], at[None, :]
    joint = Normal(0.6 * x_2, 0.7).log_prob(x_1) + Normal(0.0 * x_2, 1.0).log_prob(x_2)
    joint = (joint + Normal(0.9 * x_1, 0.5).log_prob(times(x))).exp()
    summed = torch.trapezoid(torch.trapezoid(joint, at, dim=1), at, dim=0)
    variance = 0.9**2 * (0.6**2 + 0.7**2) + 0.5**2
    known = gaussian.log_prob(*f64([[[x]], [[0.0]], [[variance]]]))
    assert math.log(float(summed)) == pytest.approx(float(known), abs=1e-9)


def test_exact_reverse_kernels_carry_noise_to_the_data():
    """q(x_s | x_t) by Bayes' rule, chained from q(x_T), ends in the data's mean and variance.

    Eq. 15 and 21.
    """
    mean, v_data = f64([0.7]), f64([0.36])
    marginal = [(alpha * mean, alpha**2 * v_data + sigma**2) for alpha, sigma in map(CHAIN, KNOTS)]
    m, v = marginal[-1]
    for i in range(5, 0, -1):
        a, b = CHAIN.transition(KNOTS[i], KNOTS[i - 1])
        at_0, kept = gaussian.product(
            *gaussian.inverted(a, b, torch.zeros(1).double()), *marginal[i - 1]
        )
        at_1, _ = gaussian.product(
            *gaussian.inverted(a, b, torch.ones(1).double()), *marginal[i - 1]
        )
        gain = at_1 - at_0
        m, v = at_0 + gain * m, gain**2 * v + kept
        torch.testing.assert_close((m, v), marginal[i - 1], rtol=1e-12, atol=1e-13)


def test_beta_is_right_for_standard_normal_data_and_beta_tilde_for_a_point():
    """The variance of the exact q(x_s | x_t) (Notes after Ho et al. 2020, Reverse Process)."""
    for i in range(2, 6):
        a, b = CHAIN.transition(KNOTS[i], KNOTS[i - 1])
        alpha, sigma = CHAIN(KNOTS[i - 1])
        zero = torch.zeros(()).double()
        for v_data, expected in (
            (1.0, CHAIN.betas[i - 1]),
            (0.0, float(CHAIN.posterior(KNOTS[i], KNOTS[i - 1])[2])),
        ):
            _, v = gaussian.product(
                *gaussian.inverted(a, b, zero), zero, alpha**2 * v_data + sigma**2
            )
            assert float(v) == pytest.approx(expected, rel=1e-12)


def test_posterior_mean_in_terms_of_the_noise():
    """a x_t + b x = (x_t - beta z / sigma_t) / sqrt(1 - beta).

    Kim and Lee (2024), Eq. 39-40 and 45; Notes after Ho et al. (2020), Eq. 8d and 11; Malhotra
    (2024), Eq. 3.11.
    """
    x, z = drawn(2, 7)
    for i in range(1, 6):
        (alpha, sigma), beta = CHAIN(KNOTS[i]), CHAIN.betas[i - 1]
        a, b, _ = CHAIN.posterior(KNOTS[i], KNOTS[i - 1])
        x_t = alpha * x + sigma * z
        torch.testing.assert_close(a * x_t + b * x, (x_t - beta / sigma * z) / (1 - beta) ** 0.5)


def test_the_end_of_the_chain_is_nearly_the_prior():
    """KL(q(x_T | x) | N(0, I)) shrinks with T to 2e-5 nats for DDPM's table.

    Malhotra 2024, Eq. 2.7.
    """
    one, zero = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    nats = []
    for levels in (10, 100, 1000):
        alpha, sigma = DiscreteVP(betas=linear_betas(1000)[:levels])(times(1.0)[0])
        nats.append(float(gaussian.kl(alpha * one, sigma**2, zero, one)))
    assert nats[0] > nats[1] > nats[2]
    assert nats[2] == pytest.approx(
        math.exp(float((1 - f64(linear_betas(1000))).log().sum())) / 2, rel=1e-3
    )

"""Laws of the forward process, over every schedule."""

import math

import pytest
import torch
from cases import SCHEDULE_CASES, has_signal_at_the_end, times

from undiffuse.diffusion import (
    BETAS,
    SCHEDULES,
    VE,
    CosineVP,
    DiscreteVP,
    LearnedVP,
    LinearVP,
    SubVP,
    cosine_betas,
    linear_betas,
    sigmoid_betas,
)
from undiffuse.errors import InputError
from undiffuse.laws.schedule_laws import (
    inverse_undoes_log_snr,
    only_loses_signal,
    slopes_are_those_of_the_marginals,
    starts_at_the_data,
    trainable_times,
)

every_schedule = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)


@every_schedule
def test_starts_at_the_data_and_only_loses_signal(schedule):
    starts_at_the_data(schedule)
    only_loses_signal(schedule)


@every_schedule
def test_inverse_undoes_log_snr(schedule):
    inverse_undoes_log_snr(schedule)


@every_schedule
def test_beyond_its_range_the_inverse_is_an_end(schedule):
    """Less signal than at t = 1 is at t = 1, and without noise it is t = 0."""
    least = float(schedule.log_snr(times(1.0)))
    beyond = times(math.inf, 600.0, min(least, 0.0) - 1e-3, min(least, 0.0) - 50, -600.0)
    t = schedule.inverse(beyond)
    assert t.dtype == torch.float64
    assert float(t[0]) == 0
    assert 0 <= float(t[1]) < 1e-3
    if has_signal_at_the_end(schedule):
        assert t[2:].tolist() == [1.0] * 3
    else:
        assert float(t[-1]) == pytest.approx(1.0)
        assert float(t.max()) <= 1


@every_schedule
def test_sde_reproduces_the_marginals(schedule):
    """d alpha/dt = f alpha and d sigma^2/dt = 2 f sigma^2 + g^2, by central differences."""
    t, h = trainable_times(schedule, 11) * 0.9 + 0.013, 1e-6
    (alpha, sigma), (f, g2) = schedule(t), schedule.sde(t)
    (a_1, s_1), (a_0, s_0) = schedule(t + h), schedule(t - h)
    torch.testing.assert_close((a_1 - a_0) / (2 * h), f * alpha, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        (s_1**2 - s_0**2) / (2 * h), 2 * f * sigma**2 + g2, rtol=1e-5, atol=1e-7
    )
    assert bool((g2 >= 0).all())


@every_schedule
def test_derivatives_are_those_of_the_marginals(schedule):
    """Against automatic differentiation; at t_min the slope is that of the times above it."""
    slopes_are_those_of_the_marginals(schedule)


@every_schedule
def test_transitions_compose_to_the_kernel(schedule):
    """q(x_t | x_s) after q(x_s | x) is q(x_t | x): Kim and Lee, Eq. 17-19; Malhotra, Eq. 2.4."""
    s, t = times(0.2, 0.5, 0.8), times(0.5, 0.81, 0.99)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = schedule(s), schedule(t)
    a, b = schedule.transition(t, s)
    torch.testing.assert_close(a * alpha_s, alpha_t, rtol=1e-13, atol=0)
    torch.testing.assert_close(a**2 * sigma_s**2 + b, sigma_t**2, rtol=1e-13, atol=0)


@every_schedule
def test_posterior_is_bayes_rule(schedule):
    """The product of q(x_t | x_s) and q(x_s | x) (Kim and Lee 2024, Lemma 1 and Theorem 2)."""
    s, t = times(0.2, 0.5, 0.8), times(0.5, 0.81, 0.99)
    (alpha_s, sigma_s), (A, B) = schedule(s), schedule.transition(t, s)
    precision = A**2 / B + 1 / sigma_s**2
    a, b, v = schedule.posterior(t, s)
    torch.testing.assert_close(v, 1 / precision, rtol=1e-11, atol=0)
    torch.testing.assert_close(a, A / B / precision, rtol=1e-11, atol=0)
    torch.testing.assert_close(b, alpha_s / sigma_s**2 / precision, rtol=1e-11, atol=0)


def rate(t):
    """The integral of beta, linear from 0.1 to 20."""
    return 0.1 * t + 19.9 * t**2 / 2


def geometric(t, low, high, start):
    return torch.where(
        t < start, low * t / start, low * (high / low) ** ((t - start) / (1 - start))
    )


# (alpha, sigma) of the plain instance, as published
PUBLISHED = {
    "linear_vp": lambda t: (torch.exp(-rate(t) / 2), (1 - torch.exp(-rate(t))).sqrt()),
    "cosine_vp": lambda t: (torch.cos(math.pi * t / 2), torch.sin(math.pi * t / 2)),
    "discrete_vp": lambda t: chain(t, linear_betas(1000)),
    "subvp": lambda t: (torch.exp(-rate(t) / 2), 1 - torch.exp(-rate(t))),
    "ve": lambda t: (torch.ones_like(t), geometric(t, 0.01, 50.0, 1e-3)),
    "linear": lambda t: (1 - t, t),
    "edm": lambda t: (torch.ones_like(t), 80 * t),
    "learned_vp": lambda t: preserved_at(13.3 + (-5 - 13.3) * (t - 1e-3) / (1 - 1e-3)),
    "fitted_ve": lambda t: (torch.ones_like(t), geometric(t, 0.01, 50.0, 1 / 232)),
}


def chain(t, betas):
    """At its knots, the product of the square roots of 1 - beta."""
    kept = torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0)
    at = kept[(t * len(betas)).round().long() - 1]
    return at.sqrt(), (1 - at).sqrt()


def preserved_at(log_snr):
    return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()


@pytest.mark.parametrize("kind", SCHEDULES)
def test_alpha_and_sigma_are_the_published_ones(kind):
    """On its own terms; a learned one is a straight line to begin with, up to its sigmoids."""
    t = torch.arange(1, 1001, 37, dtype=torch.float64) / 1000
    exact = {"rtol": 1e-9, "atol": 1e-12} if kind != "learned_vp" else {"rtol": 0.2, "atol": 0}
    for ours, published in zip(SCHEDULES[kind]()(t), PUBLISHED[kind](t)):
        torch.testing.assert_close(ours, published, **exact)


# alpha-bar and beta as published: Ho et al. (2020), 4; Nichol and Dhariwal (2021), 17; Jabri et al.
def cosine_bar(t):
    return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2


def sigmoid_bar(t):
    def at(v):
        return 1 / (1 + math.exp(v))

    return (at(6 * t - 3) - at(3)) / (at(-3) - at(3))


TABLES = {
    "linear": lambda i, T: (1e-4 + (0.02 - 1e-4) * (i - 1) / (T - 1)) * 1000 / T,
    "cosine": lambda i, T: 1 - cosine_bar(i / T) / cosine_bar((i - 1) / T),
    "sigmoid": lambda i, T: 1 - sigmoid_bar(i / T) / sigmoid_bar((i - 1) / T),
}


@pytest.mark.parametrize("name", BETAS)
@pytest.mark.parametrize("levels", [30, 1000])
def test_tables_are_the_published_ones(name, levels):
    expected = [min(TABLES[name](i, levels), 0.999) for i in range(1, levels + 1)]
    assert BETAS[name](levels) == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert BETAS[name](10)[-1] == 0.999  # never 1, which would leave no signal


@pytest.mark.parametrize("name", BETAS)
@pytest.mark.parametrize("levels", [10, 1000])
def test_discrete_chain_is_the_cumulative_product_at_its_knots(name, levels):
    """alpha_{i/T}^2 = prod (1 - beta_s) to 4 eps sqrt(T) (Notes after Ho et al. 2020, Eq. 4)."""
    betas = BETAS[name](levels)
    alpha, sigma = DiscreteVP(betas=betas)(
        torch.arange(1, levels + 1, dtype=torch.float64) / levels
    )
    alpha_bar = torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0)
    bound = 4 * torch.finfo(torch.float64).eps * levels**0.5
    torch.testing.assert_close(alpha**2, alpha_bar, rtol=bound, atol=0)
    torch.testing.assert_close(sigma**2, 1 - alpha_bar, rtol=bound / betas[0], atol=0)


@pytest.mark.parametrize("levels", [2, 7, 100])
def test_discrete_posterior_is_the_textbook_s(levels):
    """Malhotra (2024), Eq. 3.5-3.6, written out with the products."""
    betas = torch.tensor(linear_betas(1000)[:levels], dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - betas, 0)
    before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    i = torch.arange(1, levels + 1, dtype=torch.float64)
    a, b, v = DiscreteVP(betas=tuple(betas.tolist())).posterior(i / levels, (i - 1) / levels)
    torch.testing.assert_close(
        a, (1 - betas).sqrt() * (1 - before) / (1 - alpha_bar), rtol=1e-9, atol=1e-15
    )
    torch.testing.assert_close(b, before.sqrt() * betas / (1 - alpha_bar), rtol=1e-9, atol=0)
    torch.testing.assert_close(v, betas * (1 - before) / (1 - alpha_bar), rtol=1e-9, atol=1e-15)


def test_variance_preserved_and_sub_preserved():
    t = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    for schedule in (LinearVP(), CosineVP(), DiscreteVP(betas=linear_betas(100))):
        alpha, sigma = schedule(t)
        torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t), rtol=1e-14, atol=0)
    B = 0.1 * t + 19.9 * t**2 / 2
    f, g2 = SubVP().sde(t)
    torch.testing.assert_close(SubVP()(t)[1], 1 - torch.exp(-B), rtol=1e-13, atol=0)  # no root
    beta = 0.1 + 19.9 * t
    torch.testing.assert_close(f, -beta / 2, rtol=1e-11, atol=0)
    torch.testing.assert_close(g2, beta * (1 - torch.exp(-2 * B)), rtol=1e-11, atol=0)


def test_ncsn_levels_are_geometric():
    sigma = VE(sigma_min=0.01, sigma_max=1.0, levels=5)(
        torch.arange(1, 6, dtype=torch.float64) / 5
    )[1]
    torch.testing.assert_close(
        sigma[1:] / sigma[:-1], torch.full((4,), 100**0.25, dtype=torch.float64)
    )


def test_a_table_may_end_in_one_and_nothing_else():
    schedule = SCHEDULE_CASES["discrete_vp_ending_in_1"]
    assert not has_signal_at_the_end(schedule)
    for betas in ((), (0.1, 1.0, 0.1), (0.0,), (0.5, 1.2)):
        with pytest.raises(InputError, match="betas"):
            DiscreteVP(betas=betas)


@pytest.mark.parametrize("levels", [7, 49, 100, 1000])
def test_at_a_knot_the_rate_is_that_of_the_interval_it_begins(levels):
    """alpha'/alpha = T log(1 - beta_{i+1}) / 2, whatever rounding makes of i/T."""
    betas = torch.linspace(0.001, 0.3, levels, dtype=torch.float64)
    schedule = DiscreteVP(betas=tuple(betas.tolist()))
    for t in (
        torch.arange(1, levels, dtype=torch.float64) / levels,
        1 - torch.arange(levels - 1, 0, -1, dtype=torch.float64) / levels,
        torch.full((levels - 1,), 1 / levels, dtype=torch.float64).cumsum(0),
    ):
        f, _ = schedule.sde(t)
        torch.testing.assert_close(f, levels * torch.log1p(-betas[1:]) / 2, rtol=1e-9, atol=0)


def test_one_noise_level_is_a_straight_line_up_to_it():
    schedule, t = VE(sigma_min=0.5, sigma_max=0.5, levels=1), times(0.0, 0.25, 1.0)
    alpha, sigma = schedule(t)
    assert (alpha.tolist(), sigma.tolist()) == ([1, 1, 1], [0.0, 0.125, 0.5])
    assert [slope.tolist() for slope in schedule.derivative(t)] == [[0.0] * 3, [0.5] * 3]


def test_a_learned_schedule_is_described_by_what_it_is_made_of():
    schedule = LearnedVP(log_snr_max=8.0, width=3, levels=5)
    assert eval(repr(schedule), {"LearnedVP": LearnedVP}) == schedule
    with pytest.raises(TypeError, match="module"):
        LearnedVP(module=schedule.module)


def test_a_chain_that_ends_in_one_falls_in_a_straight_line_on_its_last_interval():
    schedule, share = DiscreteVP(betas=(0.1, 0.2, 1.0)), times(0.0, 0.25, 0.5, 0.9, 1.0)
    t = (2 + share) / 3
    alpha, sigma = schedule(t)
    torch.testing.assert_close(alpha, (0.9 * 0.8) ** 0.5 * (1 - share), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(sigma, (1 - 0.72 * (1 - share) ** 2).sqrt(), rtol=1e-12, atol=0)
    d_alpha, d_sigma = schedule.derivative(t)
    torch.testing.assert_close(d_alpha, torch.full_like(t, -3 * 0.72**0.5), rtol=1e-12, atol=0)
    torch.testing.assert_close(d_sigma, 3 * 0.72 * (1 - share) / sigma, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(schedule.inverse(schedule.log_snr(t)), t, rtol=1e-12, atol=0)


def test_tables_follow_their_arguments():
    """Jabri et al. (2022), Algorithm 1, and the others, each with none of its own numbers."""

    def sigmoid(v):
        return 1 / (1 + math.exp(-v))

    def bar(t):
        start, end = sigmoid(-2 / 0.7), sigmoid(1 / 0.7)
        return (end - sigmoid((t * 3 - 2) / 0.7)) / (end - start)

    for got, alpha_bar in (
        (sigmoid_betas(5, low=-2.0, high=1.0, tau=0.7), bar),
        (cosine_betas(5, offset=0.3), lambda t: math.cos((t + 0.3) / 1.3 * math.pi / 2) ** 2),
    ):
        wanted = [1 - alpha_bar(i / 5) / alpha_bar((i - 1) / 5) for i in range(1, 5)]
        assert got == pytest.approx([*wanted, 0.999], rel=1e-9)
    assert cosine_betas(10, largest=0.4)[-1] == 0.4
    line = linear_betas(3, low=3e-4, high=9e-4)
    assert line == pytest.approx([0.1, 0.2, 0.3], rel=1e-9)

"""Laws of targets and denoisers, over every target on every schedule."""

import pytest
import torch
from cases import SCHEDULE_CASES, TARGET_CASES, has_signal_at_the_end, times

from undiffuse.diffusion import EDM, TARGETS, CosineVP, Denoiser, Linear, LinearVP, Prior
from undiffuse.diffusion import target as targets
from undiffuse.diffusion.denoiser import expand
from undiffuse.diffusion.oracle import Gaussian, Mixture
from undiffuse.diffusion.target import regression_target
from undiffuse.errors import InputError

every_schedule = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)
every_target = pytest.mark.parametrize("target", TARGET_CASES.values(), ids=TARGET_CASES)


def where_defined(schedule, target):
    t = times(0.02, 0.1, 0.34, 0.5, 0.77, 0.98, 1.0)
    return t if has_signal_at_the_end(schedule) or not target.needs_signal else t[:-1]


@every_schedule
@every_target
def test_any_target_reconstructs_x(schedule, target):
    """x_hat = c_skip x_t + c_out F* is x to 1e-13 of the two terms, where it is defined."""
    t = where_defined(schedule, target)
    generator = torch.Generator().manual_seed(0)
    x, z = torch.randn(2, len(t), 3, 4, 5, dtype=torch.float64, generator=generator)
    alpha, sigma = (expand(c, x) for c in schedule(t))
    c_skip, c_out = (expand(c, x) for c in target.row(schedule, t))
    c_x, c_z = (expand(c, x) for c in regression_target(schedule, target, t))
    x_t, F = alpha * x + sigma * z, c_x * x + c_z * z
    bound = 1e-13 * ((c_skip * x_t).abs() + (c_out * F).abs()) + 1e-15
    assert bool(((c_skip * x_t + c_out * F - x).abs() <= bound).all())


def posterior_mean(schedule, t):
    """a x_t + b x one level down, of 50 (Ho et al. 2020, Eq. 7)."""
    (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule((t - 1 / 50).clamp(min=0))
    beta = sigma**2 - (alpha / alpha_s * sigma_s) ** 2
    a, b = alpha / alpha_s * sigma_s**2 / sigma**2, alpha_s * beta / sigma**2
    return a * alpha + b, a * sigma


def slope(schedule, t, h=1e-6):
    return tuple(
        (after - before) / (2 * h) for after, before in zip(schedule(t + h), schedule(t - h))
    )


def unit_variance(schedule, t):
    """(x_t's own part subtracted from x) / c_out, at sigma_data = 1 (Karras et al. 2022, Eq. 8)."""
    alpha, sigma = schedule(t)
    n = (alpha**2 + sigma**2).sqrt()
    return sigma / n, -alpha / n


def bounded_data(schedule, t):
    """x_hat = (1 - b) E + b F, E the linear denoiser, b = 2 c_out of EDM's where that is < 1."""
    alpha, sigma = schedule(t)
    variance = alpha**2 + sigma**2
    b, linear = (2 * sigma / variance.sqrt()).clamp(max=1), alpha / variance
    return (1 - (1 - b) * linear * alpha) / b, -(1 - b) * linear * sigma / b


# F* = c_x x + c_z z of each, as published
MEANING = {
    "data": lambda schedule, t: (torch.ones_like(t), torch.zeros_like(t)),
    "noise": lambda schedule, t: (torch.zeros_like(t), torch.ones_like(t)),
    "score": lambda schedule, t: (torch.zeros_like(t), -torch.ones_like(t)),
    "v": lambda schedule, t: (-schedule(t)[1], schedule(t)[0]),
    "velocity": slope,
    "posterior_mean": posterior_mean,
    "preconditioned": unit_variance,
    "bounded": bounded_data,
}


@every_schedule
@pytest.mark.parametrize("kind", TARGETS)
def test_a_target_means_what_is_published(schedule, kind):
    t = times(0.0553, 0.4137, 0.9173)
    got = regression_target(schedule, TARGET_CASES[kind], t)
    close = {"rtol": 1e-4, "atol": 1e-6} if kind == "velocity" else {"rtol": 1e-9, "atol": 1e-9}
    for ours, published in zip(got, MEANING[kind](schedule, t)):
        torch.testing.assert_close(ours, published, **close)
    if kind == "velocity":  # by differences above, and by the schedule's own derivative
        for ours, exact in zip(got, schedule.derivative(t)):
            torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-9)


@every_schedule
def test_edm_row_gives_unit_variance_targets_and_least_amplification(schedule):
    """Var F* = 1, and c_out is the least std of x - c_skip x_t (Karras et al. 2022, B.6)."""
    t, d = times(0.02, 0.3, 0.9, 1.0), 0.7
    row = targets.Preconditioned(d)
    c_x, c_z = regression_target(schedule, row, t)
    torch.testing.assert_close((c_x * d) ** 2 + c_z**2, torch.ones_like(t), rtol=1e-10, atol=0)
    alpha, sigma = schedule(t)
    c_skip, c_out = row.row(schedule, t)

    def std_of_error(c):
        return (((1 - c * alpha) * d) ** 2 + (c * sigma) ** 2).sqrt()

    torch.testing.assert_close(std_of_error(c_skip), c_out, rtol=1e-10, atol=0)
    for nudge in (-0.01, 0.01):
        assert bool((std_of_error(c_skip + nudge) >= c_out).all())


@every_schedule
@every_target
def test_a_bounded_target_is_the_identity_without_noise_and_tame_with_it(schedule, target):
    """f(x_0, 0) = x_0 whatever the output; |c_out| <= 2 of EDM's; the other target where it is."""
    t = where_defined(schedule, target)
    (skip, out), edm = (one.row(schedule, t) for one in (target, targets.Preconditioned(0.7)))
    row = targets.Bounded(target, 0.7).row(schedule, t)
    assert bool((row[1].abs() <= 2 * edm[1] * (1 + 1e-12)).all())
    same = out.abs() <= 2 * edm[1]
    torch.testing.assert_close(row[0][same], skip[same])
    torch.testing.assert_close(row[1][same], out[same])
    near = schedule.inverse(times(24.0))  # sigma/alpha of 6e-6
    alpha, _ = schedule(near)
    c_skip, c_out = targets.Bounded(target, 0.7).row(schedule, near)
    assert float((c_skip * alpha - 1).abs()) < 1e-4
    assert float(c_out.abs()) < 1e-4


@every_schedule
@every_target
def test_views_agree_whatever_was_predicted(schedule, target):
    """A network that outputs the exact F makes every view the oracle's."""
    mean, std = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 1.5]).double()
    oracle = Gaussian(schedule, mean, std)
    if target.needs_signal and not has_signal_at_the_end(schedule):
        with pytest.raises(InputError, match="use v, data or velocity"):
            Denoiser(None, schedule, target)
        return
    x_t = torch.tensor([[0.3, -0.7], [4.0, 2.0]]).double()
    for t in times(0.03, 0.5, 0.97):
        x_hat, z_hat = oracle.split(x_t, t)
        c_x, c_z = regression_target(schedule, target, t)

        def network(x, c_noise, x_hat=x_hat, z_hat=z_hat, c_x=c_x, c_z=c_z):
            return c_x * x_hat + c_z * z_hat

        denoiser = Denoiser(network, schedule, target)
        close = {"rtol": 1e-8, "atol": 1e-8}
        torch.testing.assert_close(denoiser(x_t, t), x_hat, **close)
        torch.testing.assert_close(denoiser.noise(x_t, t), z_hat, **close)
        torch.testing.assert_close(denoiser.score(x_t, t), oracle.score(x_t, t), **close)
        torch.testing.assert_close(denoiser.velocity(x_t, t), oracle.velocity(x_t, t), **close)
        per_row = denoiser.split(x_t, t.expand(2))
        torch.testing.assert_close(per_row, (x_hat, z_hat), **close)


def test_small_noise_keeps_float32_accuracy():
    """At sigma = 0.002 z_hat of a noise network is the network's output to float32 rounding."""
    output = torch.randn(1, 1000)
    denoiser = Denoiser(lambda x, c: output, EDM(), targets.noise)
    z_hat = denoiser.noise(0.5 + 0.002 * output, times(0.002 / 80)[0])
    assert float((z_hat - output).abs().max()) < 1e-6


@every_schedule
def test_oracle_score_is_the_gradient_of_its_log_density(schedule):
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(3, 2, 4, dtype=torch.float64, generator=generator)
    oracle = Mixture(
        schedule,
        mean,
        torch.rand(3, 2, 4, generator=generator).double() + 0.2,
        torch.randn(3).double(),
    )
    for t in times(0.05, 0.5, 1.0):
        x_t = torch.randn(5, 2, 4, dtype=torch.float64, generator=generator, requires_grad=True)
        (gradient,) = torch.autograd.grad(oracle.log_prob(x_t, t).sum(), x_t)
        torch.testing.assert_close(oracle.score(x_t, t), gradient, rtol=1e-9, atol=1e-10)
        x_hat, z_hat = oracle.split(x_t, t)
        alpha, sigma = schedule(t)
        torch.testing.assert_close(alpha * x_hat + sigma * z_hat, x_t, rtol=1e-9, atol=1e-10)


def test_oracle_density_integrates_to_one():
    oracle = Mixture(
        LinearVP(), torch.tensor([[-1.0], [2.0]]).double(), torch.tensor([[0.3], [0.7]]).double()
    )
    x = torch.linspace(-12, 12, 20001, dtype=torch.float64)[:, None]
    for t in (0.0, 0.3, 1.0):
        assert float(torch.trapezoid(oracle.log_prob(x, t).exp(), x[:, 0])) == pytest.approx(
            1, abs=1e-10
        )


@pytest.mark.parametrize("schedule", [EDM(sigma_min=0.02, sigma_max=50.0), Linear(t_min=1e-4)])
def test_reexpressed_oracle_is_the_other_schedule_s_oracle(schedule):
    """E[x | x_t] depends on the log-SNR alone, on any schedule inside the trained range."""
    mean, std = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 1.5]).double()
    moved = Gaussian(CosineVP(t_min=1e-6), mean, std).on(schedule)
    exact = Gaussian(schedule, mean, std)
    x_t = torch.randn(4, 2, dtype=torch.float64)
    for t in times(0.01, 0.4, 1.0):
        torch.testing.assert_close(moved.split(x_t, t), exact.split(x_t, t), rtol=1e-7, atol=1e-8)


def test_reexpressing_outside_the_trained_range_is_refused():
    trained = Gaussian(EDM(sigma_min=0.02, sigma_max=10.0), torch.zeros(2), torch.ones(2))
    with pytest.raises(InputError, match="log-SNR runs from"):
        trained.on(EDM(sigma_min=0.02, sigma_max=80.0))
    with pytest.raises(InputError, match="log-SNR runs from"):
        trained.on(EDM(sigma_min=0.002, sigma_max=10.0))


def test_at_zero_noise_the_denoiser_returns_the_data():
    def never(x, c_noise):
        raise AssertionError("the network is not asked at sigma = 0")

    x = torch.randn(3, 2)
    x_hat, z_hat = Denoiser(never, EDM(), targets.Preconditioned(0.5)).split(x, 0.0)
    assert bool((x_hat == x).all())
    assert bool((z_hat == 0).all())


@every_schedule
def test_prior_is_the_oracle_s_marginal_for_gaussian_data(schedule):
    mean, std = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 1.5]).double()
    x = torch.randn(6, 2, dtype=torch.float64)
    exact = Gaussian(schedule, mean, std).log_prob(x, 1.0)
    torch.testing.assert_close(
        Prior(schedule, mean, std).log_prob(x), exact, rtol=1e-12, atol=1e-12
    )

"""Laws of a learned log-SNR.

A schedule like any other, a bound that only its ends can move, a variance that falls.
"""

import json
import math
from unittest.mock import Mock

import pytest
import torch

from undiffuse import parts
from undiffuse.diffusion import SCHEDULES, LearnedVP, Prior, target
from undiffuse.diffusion.denoiser import Denoiser
from undiffuse.diffusion.objectives import LikelihoodWeight, Objective, UniformTimes
from undiffuse.diffusion.schedules.learned import end_terms, schedule_loss
from undiffuse.errors import InputError

OBJECTIVE = Objective(weighting=LikelihoodWeight(), times=UniformTimes())


def shaken(seed=0, **arguments):
    """A schedule as far from its start as training takes it."""
    schedule, generator = LearnedVP(**arguments), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in schedule.module.inner():
            p.add_(torch.randn(p.shape, generator=generator))
        schedule.module.weights.add_(2.0)
    return schedule


CASES = [
    LearnedVP(),
    shaken(1),
    shaken(2, levels=10, width=5),
    shaken(3, log_snr_max=8.0, log_snr_min=-2.0),
]


@pytest.mark.parametrize("schedule", CASES)
def test_it_is_a_schedule(schedule):
    """alpha^2 + sigma^2 = 1, from the data to less and less signal, inverse, slope."""
    t = torch.linspace(0, 1, 501, dtype=torch.float64)
    alpha, sigma = schedule(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t), rtol=1e-14, atol=0)
    assert (float(alpha[0]), float(sigma[0])) == (1.0, 0.0)
    log_snr = schedule.log_snr(t)
    assert bool((log_snr.diff()[1:] < 0).all())
    torch.testing.assert_close(schedule.inverse(log_snr[1:]), t[1:], rtol=1e-11, atol=1e-14)
    ends = schedule.log_snr(torch.tensor([schedule.t_min, 1.0], dtype=torch.float64))
    expected = torch.tensor([schedule.log_snr_max, schedule.log_snr_min], dtype=torch.float64)
    torch.testing.assert_close(ends, expected, rtol=1e-6, atol=1e-9)
    at, h = torch.tensor([0.153, 0.5, 0.977], dtype=torch.float64), 1e-6
    (a_1, s_1), (a_0, s_0) = schedule(at + h), schedule(at - h)
    d_alpha, d_sigma = schedule.derivative(at)
    torch.testing.assert_close(d_alpha, (a_1 - a_0) / (2 * h), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(d_sigma, (s_1 - s_0) / (2 * h), rtol=1e-5, atol=1e-7)


def test_it_starts_as_a_straight_line():
    t = torch.linspace(1e-3, 1, 50, dtype=torch.float64)
    line = 13.3 + (-5.0 - 13.3) * (t - 1e-3) / (1 - 1e-3)
    assert float((LearnedVP().log_snr(t) - line).abs().max()) < 0.3


def test_coefficients_follow_the_parameters():
    """What is remembered for a grid must not outlive a step of training."""
    schedule, t = LearnedVP(), torch.tensor(0.5, dtype=torch.float64)
    denoiser = Denoiser(torch.nn.Identity(), schedule, target.noise)
    before = float(schedule(t)[1]), float(denoiser.row(t).c_out)
    with torch.no_grad():
        schedule.module.ends += 1.0
    assert float(schedule(t)[1]) > before[0]
    assert float(denoiser.row(t).c_out) != before[1]
    assert not schedule(t)[1].requires_grad
    with schedule.module.learns():
        assert schedule(t)[1].requires_grad
    assert not schedule(t)[1].requires_grad


def test_the_slope_of_the_curve_is_its_derivative():
    """Against reverse-mode differentiation, for a curve that bends; Newton's method needs it."""
    curve = LearnedVP().module
    with torch.no_grad():
        curve.weights.copy_(torch.linspace(-4, 2, len(curve.weights)))
    u = torch.linspace(0, 1, 33).double().requires_grad_()
    (slope,) = torch.autograd.grad(curve(u).sum(), u)
    assert float(slope.max() / slope.min()) > 1.5
    torch.testing.assert_close(curve.slope(u.detach()), slope, rtol=1e-12, atol=0)


def test_it_is_rebuilt_with_its_weights():
    schedule = shaken(4)
    again = parts.rebuild(json.loads(json.dumps(parts.describe(schedule, SCHEDULES))), SCHEDULES)
    assert again == schedule
    again.module.load_state_dict(schedule.module.state_dict())
    t = torch.linspace(0, 1, 20, dtype=torch.float64)
    assert torch.equal(again(t)[0], schedule(t)[0])
    with pytest.raises(InputError, match="at least 2"):
        LearnedVP(levels=1)


def exact(schedule, std=0.7):
    """The network of N(0, std^2), which knows the schedule through c_noise = -log SNR / 8 alone."""

    def network(x_t, c_noise):
        sigma2 = torch.sigmoid(8 * c_noise.double())[:, None]
        return sigma2.sqrt() * x_t / ((1 - sigma2) * std**2 + sigma2)

    return Denoiser(network, schedule, target.noise)


def estimates(schedule, n=10_000, d=16, seed=0):
    """(x, the diffusion term of the bound for N(0, 0.7^2 I) at stratified times).

    (n, d), (n,) nats per coordinate.
    """
    generator = torch.Generator().manual_seed(seed)
    z0, z = torch.randn(2, n, d, dtype=torch.float64, generator=generator)
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    t = OBJECTIVE.times.quantile(schedule, u)
    return 0.7 * z0, (1 - schedule.t_min) * OBJECTIVE.losses(exact(schedule), 0.7 * z0, z, t)


@pytest.mark.parametrize("schedule", CASES[:2], ids=["straight", "bent"])
def test_the_bound_knows_the_ends_alone(schedule):
    """1/2 integral of mmse dSNR = 1/2 log((1 + s^2 SNR_0)/(1 + s^2 SNR_1)) for N(0, s^2), whatever
    the curve between (Kingma et al. 2021, Eq. 18).
    """
    _, losses = estimates(schedule)
    first, last = math.exp(schedule.log_snr_max), math.exp(schedule.log_snr_min)
    known = 0.5 * math.log((1 + 0.49 * first) / (1 + 0.49 * last))
    assert float(losses.mean()) == pytest.approx(known, abs=5 * float(losses.std()) / 10_000**0.5)


def test_the_whole_bound_is_the_entropy_as_the_ends_move_out():
    """L_T + L_0 + diffusion -> 1/2 log(2 pi e s^2) from above."""
    schedule = LearnedVP()
    x, losses = estimates(schedule)
    prior = Prior(schedule, torch.zeros(1).double(), torch.full((1,), 0.7).double())
    bound = float((losses + end_terms(schedule, prior, x)).mean())
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.49)
    assert bound == pytest.approx(entropy, abs=5 * float(losses.std()) / 10_000**0.5 + 1e-3)


def test_end_terms_are_two_gaussians():
    schedule = LearnedVP(log_snr_max=3.0, log_snr_min=0.5)
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.3, -0.1]).double(), torch.tensor([1.5, 0.4]).double()
    prior = Prior(schedule, mean, std)
    alpha, sigma = schedule(torch.tensor(1.0, dtype=torch.float64))
    q = torch.distributions.Normal(alpha * x, sigma.expand_as(x))
    last = torch.distributions.kl_divergence(q, torch.distributions.Normal(*prior.moments())).mean(
        1
    )
    first = torch.distributions.Normal(0.0, math.exp(-1.5)).entropy()
    torch.testing.assert_close(end_terms(schedule, prior, x), last + first, rtol=1e-6, atol=0)


def test_training_the_curve_lowers_the_variance_and_keeps_the_bound():
    """From a bent curve, with the ends held.

    The variance of the estimate falls, its mean does not move.
    """
    schedule = shaken(1)
    prior = Prior(schedule, torch.zeros(1).double(), torch.full((1,), 0.7).double())
    optimizer = torch.optim.Adam(schedule.module.inner(), lr=0.1)
    _, before = estimates(schedule)
    torch.manual_seed(0)
    for _ in range(20):
        x, z = (
            0.7 * torch.randn(64, 16, dtype=torch.float64),
            torch.randn(64, 16, dtype=torch.float64),
        )
        optimizer.zero_grad()
        schedule_loss(
            exact(schedule), OBJECTIVE, prior, x, z, OBJECTIVE.sample_times(schedule, 64)
        ).backward()
        optimizer.step()
    _, after = estimates(schedule)
    assert float(after.var()) < 0.7 * float(before.var())
    spread = (float(before.var()) + float(after.var())) ** 0.5 / 10_000**0.5
    assert float(after.mean()) == pytest.approx(float(before.mean()), abs=5 * spread)


def test_the_ends_follow_the_bound():
    """Two groups of parameters, two gradients.

    Against finite differences of the bound and automatic ones of E[l^2].
    """
    schedule = shaken(2, log_snr_max=4.0, log_snr_min=-1.0)
    prior = Prior(schedule, torch.zeros(1).double(), torch.full((1,), 0.7).double())
    x, z = torch.randn(2, 64, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0.01, 1, 64, dtype=torch.float64)

    def bound():
        return float(
            (OBJECTIVE.losses(exact(schedule), x, z, t) + end_terms(schedule, prior, x)).mean()
        )

    schedule_loss(exact(schedule), OBJECTIVE, prior, x, z, t).backward()
    module = schedule.module
    assert float(
        schedule_loss(exact(schedule), OBJECTIVE, prior, x, z, t).detach()
    ) == pytest.approx(bound())
    for i, h in ((0, 2**-7), (1, 2**-7)):
        with torch.no_grad():
            module.ends[i] += h
            above = bound()
            module.ends[i] -= 2 * h
            below = bound()
            module.ends[i] += h
        assert float(module.ends.grad[i]) == pytest.approx(
            (above - below) / (2 * h), rel=1e-3, abs=1e-5
        )
    with module.learns():
        squares = OBJECTIVE.losses(exact(schedule), x, z, t).square().mean()
    for p, slope in zip(module.inner(), torch.autograd.grad(squares, module.inner())):
        torch.testing.assert_close(p.grad, slope)


def test_a_handful_of_newton_s_steps_finds_a_time(monkeypatch):
    """Its slope is the curve's in t, whatever t_min: bisection alone would take 45."""
    for schedule in (LearnedVP(), shaken(1), LearnedVP(levels=2)):
        t = torch.linspace(schedule.t_min, 1, 21, dtype=torch.float64)[1:-1]
        log_snr, slope = schedule.log_snr(t), schedule.module.slope
        slopes = Mock(side_effect=slope)
        monkeypatch.setattr(schedule.module, "slope", slopes)
        torch.testing.assert_close(schedule.inverse(log_snr), t, rtol=1e-13, atol=0)
        assert slopes.call_count <= 12


def test_the_curve_starts_with_sigmoids_that_hardly_count():
    """Centres in the middle of equal parts, slopes of 8 in units of the interval, weights that
    together are a tenth of the line's.
    """
    curve = LearnedVP(width=4).module
    softplus = torch.nn.functional.softplus
    torch.testing.assert_close(curve.centres.detach(), torch.tensor([0.125, 0.375, 0.625, 0.875]))
    torch.testing.assert_close(softplus(curve.steepness.detach()), torch.full((4,), 8.0))
    torch.testing.assert_close(softplus(curve.weights.detach()), torch.full((4,), 0.025))


def test_the_loss_of_the_schedule_is_that_under_the_condition():
    schedule, told = LearnedVP(), []

    def network(x_t, c_noise, label):
        told.append(label)
        return x_t

    prior = Prior(schedule, torch.zeros(1).double(), torch.ones(1).double())
    x, z = torch.randn(2, 3, 1).double()
    t = torch.tensor([0.2, 0.5, 0.9]).double()
    denoiser = Denoiser(network, schedule, target.noise)
    loss = schedule_loss(denoiser, OBJECTIVE, prior, x, z, t, label=7)
    assert told == [7]
    assert float(loss.detach()) == pytest.approx(
        float((OBJECTIVE.losses(denoiser, x, z, t, label=7) + end_terms(schedule, prior, x)).mean())
    )


@pytest.mark.parametrize("centre", [0.1, 0.5, 0.95])
def test_a_time_is_found_on_a_curve_that_is_nearly_a_step(centre):
    """Newton's steps leave the interval there, and are halved back into it."""
    schedule = LearnedVP(width=1)
    with torch.no_grad():
        schedule.module.centres.fill_(centre)
        schedule.module.steepness.fill_(300.0)
        schedule.module.weights.fill_(100.0)
    t = torch.linspace(schedule.t_min, 1, 101, dtype=torch.float64)[1:-1]
    log_snr = schedule.log_snr(t)
    torch.testing.assert_close(schedule.log_snr(schedule.inverse(log_snr)), log_snr)

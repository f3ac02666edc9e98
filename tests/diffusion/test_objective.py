"""Laws of objectives: what each paper's weight is, how training times are spread, and what the least loss is."""

import math

import pytest
import torch
from cases import SCHEDULE_CASES, TARGET_CASES, has_signal_at_the_end, times

from undiffuse.diffusion import (
    DRAWS,
    EDM,
    TIMES,
    VLB,
    Denoiser,
    DiscreteTimes,
    DiscreteVP,
    EDMWeight,
    FlowMatching,
    Independent,
    LikelihoodWeight,
    LinearVP,
    LogitNormalTimes,
    LogNormalTimes,
    LowDiscrepancy,
    MinSNR,
    Objective,
    Simple,
    UniformTimes,
    linear_betas,
    target,
)
from undiffuse.diffusion.oracle import Gaussian
from undiffuse.diffusion.target import regression_target

every_schedule = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)
TIME_CASES = {
    name: cls(**({"levels": 50} if name == "discrete_times" else {})) for name, cls in TIMES.items()
}


@every_schedule
def test_simple_weight_is_an_unweighted_error_of_the_noise(schedule):
    """w c_out^2 = 1 under the noise target (Notes after Ho et al. 2020, Eq. 14)."""
    t = times(0.05, 0.4, 0.95)
    _, c_out = target.noise.row(schedule, t)
    torch.testing.assert_close(
        Simple()(schedule, t) * c_out**2, torch.ones(3).double(), rtol=1e-12, atol=0
    )


@every_schedule
def test_edm_weight_is_unit_weight_on_the_network(schedule):
    """lambda(sigma) c_out^2 = 1 (Karras et al. 2022, section 5), at any sigma_data and on any schedule."""
    t = times(0.05, 0.4, 0.95)
    _, c_out = target.Preconditioned(0.7).row(schedule, t)
    torch.testing.assert_close(
        EDMWeight(0.7)(schedule, t) * c_out**2, torch.ones(3).double(), rtol=1e-11, atol=0
    )


@every_schedule
def test_flow_matching_is_an_unweighted_error_of_the_velocity(schedule):
    """w c_out^2 = 1 under the velocity target (Lipman et al. 2023, Eq. 9)."""
    t = times(0.0553, 0.4337, 0.9373)
    _, c_out = target.velocity.row(schedule, t)
    torch.testing.assert_close(
        FlowMatching()(schedule, t) * c_out**2, torch.ones(3).double(), rtol=1e-9, atol=0
    )


@every_schedule
def test_likelihood_weight_is_minus_half_the_slope_of_snr(schedule):
    """And equals g^2 alpha^2 / (2 sigma^4), score matching's g^2 / 2 (Song et al. 2021b, Eq. 7)."""
    t, h = times(0.0553, 0.4337, 0.9373), 1e-6
    snr = [schedule.log_snr(at).exp() for at in (t - h, t + h)]
    torch.testing.assert_close(
        LikelihoodWeight()(schedule, t), (snr[0] - snr[1]) / (4 * h), rtol=1e-5, atol=0
    )
    (alpha, sigma), (_, g2) = schedule(t), schedule.sde(t)
    torch.testing.assert_close(
        LikelihoodWeight()(schedule, t), g2 * alpha**2 / (2 * sigma**4), rtol=1e-8, atol=0
    )


def test_vlb_weight_is_the_kl_of_two_posteriors():
    """(1/T) w |x_hat - x|^2 = KL(q(x_s|x_t,x) || q(x_s|x_t,x_hat)) at variance beta-tilde: Kim and Lee (2024), Eq. 35,
    with Lemma 3 as it should read; and on the noise error (SNR_s/SNR_t - 1)/2."""
    levels = 100
    schedule = DiscreteVP(betas=linear_betas(levels))
    t = times(*(i / levels for i in (2, 10, 50, 100)))
    s = t - 1 / levels
    _, b, v = schedule.posterior(t, s)
    weight = VLB()(schedule, t) / levels
    torch.testing.assert_close(weight, b**2 / (2 * v), rtol=1e-9, atol=0)
    snr_t, snr_s = schedule.log_snr(t).exp(), schedule.log_snr(s).exp()
    torch.testing.assert_close(weight / snr_t, (snr_s / snr_t - 1) / 2, rtol=1e-9, atol=0)
    beta = torch.tensor(linear_betas(levels), dtype=torch.float64)[(t * levels).round().long() - 1]
    _, sigma = schedule(t)
    textbook = beta**2 / (2 * v * (1 - beta) * sigma**2)
    torch.testing.assert_close(weight / snr_t, textbook, rtol=1e-9, atol=0)


def test_vlb_tends_to_the_likelihood_weight():
    schedule, t = LinearVP(), times(0.3, 0.6, 0.9)
    gaps = [
        (VLB(levels)(schedule, t) / LikelihoodWeight()(schedule, t) - 1).abs()
        for levels in (1_000, 10_000)
    ]
    assert bool((gaps[1] < gaps[0] / 9).all())
    assert bool((gaps[1] < 2e-3).all())


def test_min_snr_holds_the_weight():
    schedule, t = LinearVP(), times(0.01, 0.9)
    snr = schedule.log_snr(t).exp()
    assert MinSNR(5.0)(schedule, t).tolist() == [5.0, float(snr[1])]


@every_schedule
@pytest.mark.parametrize("spread", TIME_CASES.values(), ids=TIME_CASES)
def test_training_times_are_trainable_times(schedule, spread):
    u = torch.linspace(1e-9, 1 - 1e-9, 1001, dtype=torch.float64)
    t = spread.quantile(schedule, u)
    assert bool((t.diff() >= 0).all() or (t.diff() <= 0).all())
    assert float(t.max()) <= 1
    assert float(t.min()) >= (0 if isinstance(spread, DiscreteTimes) else schedule.t_min)
    assert float(t.min()) > 0


def test_training_times_have_their_distribution():
    """Log-normal: the published mean -1.2 and std 1.2 at sigma_data 0.5; logit-normal; each level equally often."""
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    log_sigma = (80 * LogNormalTimes(sigma_data=0.5).quantile(EDM(), u)).log()
    assert float(log_sigma.mean()) == pytest.approx(-1.2, abs=2e-3)
    assert float(log_sigma.std()) == pytest.approx(1.2, abs=5e-3)
    logit = torch.logit(LogitNormalTimes(0.3, 0.8).quantile(LinearVP(t_min=1e-9), u))
    assert (float(logit.mean()), float(logit.std())) == pytest.approx((0.3, 0.8), abs=2e-3)
    counts = torch.bincount(
        (DiscreteTimes(8).quantile(LinearVP(), u) * 8).round().long(), minlength=9
    )
    assert counts.tolist() == [0, *[25_000] * 8]
    assert float(UniformTimes().quantile(LinearVP(t_min=0.2), u).mean()) == pytest.approx(
        0.6, abs=1e-6
    )


@pytest.mark.parametrize("draw", [cls() for cls in DRAWS.values()], ids=DRAWS)
def test_every_draw_is_uniform(draw):
    torch.manual_seed(0)
    u = torch.cat([draw(10) for _ in range(2_000)])
    assert float(u.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(u.var()) == pytest.approx(1 / 12, abs=0.003)
    assert float(draw(4).min()) > 0


def test_low_discrepancy_puts_one_draw_in_each_stratum():
    torch.manual_seed(0)
    for _ in range(20):
        u = LowDiscrepancy()(16).sort().values
        assert float((u.diff() - 1 / 16).abs().max()) < 1e-12
    stratified, independent = (
        torch.stack([draw(16).mean() for _ in range(500)]).std()
        for draw in (LowDiscrepancy(), Independent())
    )
    assert stratified < independent / 3


@every_schedule
@pytest.mark.parametrize("name", TARGET_CASES)
def test_the_loss_is_the_weighted_error_of_x_whatever_is_predicted(schedule, name):
    """The same denoiser behind any target has the same loss: w(t) |x_hat - x|^2, computed from the definition."""
    row = TARGET_CASES[name]
    if row.needs_signal and not has_signal_at_the_end(schedule):
        return
    oracle = Gaussian(
        schedule, torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 1.5]).double()
    )
    t = times(0.1, 0.5, 0.9)
    x, z = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alpha, sigma = (c[:, None] for c in schedule(t))
    x_t = alpha * x + sigma * z
    x_hat, z_hat = oracle.split(x_t, t)
    c_x, c_z = (c[:, None] for c in regression_target(schedule, row, t))
    denoiser = Denoiser(lambda scaled, c_noise: c_x * x_hat + c_z * z_hat, schedule, row)
    objective = Objective(weighting=MinSNR(), times=UniformTimes())
    expected = MinSNR()(schedule, t) * (x_hat - x).square().mean(1)
    torch.testing.assert_close(objective.losses(denoiser, x, z, t), expected, rtol=1e-7, atol=1e-9)


def test_the_exact_denoiser_has_the_least_loss_and_it_is_known():
    """For N(0, s^2) the least mean of |x_hat - x|^2 is s^2 sigma^2 / (alpha^2 s^2 + sigma^2); a nudge adds to it."""
    schedule, s = LinearVP(), 0.6
    oracle = Gaussian(schedule, torch.zeros(1).double(), torch.full((1,), s).double())
    objective = Objective(weighting=Simple(), times=UniformTimes())
    n, t = 100_000, torch.tensor(0.4, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = s * torch.randn(n, 1, dtype=torch.float64, generator=generator)
    z = torch.randn(n, 1, dtype=torch.float64, generator=generator)
    alpha, sigma = schedule(t)
    x_t = alpha * x + sigma * z
    known = float(Simple()(schedule, t)) * float(s**2 * sigma**2 / (alpha**2 * s**2 + sigma**2))

    def loss(nudge):
        denoiser = Denoiser(lambda scaled, c_noise: oracle(x_t, t) + nudge, schedule, target.data)
        return float(objective.losses(denoiser, x, z, t.expand(n)).mean())

    assert loss(0.0) == pytest.approx(known, rel=5 * math.sqrt(2 / n))
    assert loss(0.1) > loss(0.0) < loss(-0.1)

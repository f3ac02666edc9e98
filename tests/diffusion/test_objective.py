"""Laws of objectives: what each weight means, how times are spread, where losses are least."""

import math

import pytest
import torch
from cases import (
    OBJECTIVE_CASES,
    SCHEDULE_CASES,
    TARGET_CASES,
    TIME_CASES,
    WEIGHTING_CASES,
    has_signal_at_the_end,
    times,
)

from undiffuse.diffusion import (
    DRAWS,
    EDM,
    PROJECTIONS,
    TIMES,
    Denoiser,
    DiscreteVP,
    Learned,
    Linear,
    LinearVP,
    linear_betas,
    target,
)
from undiffuse.diffusion.objectives import (
    VLB,
    Consistency,
    DiscreteTimes,
    EDMWeight,
    FittedTimes,
    Independent,
    LikelihoodWeight,
    LogitNormalTimes,
    LogNormalTimes,
    LowDiscrepancy,
    MinSNR,
    Objective,
    Simple,
    UniformTimes,
)
from undiffuse.diffusion.oracle import Gaussian
from undiffuse.diffusion.target import regression_target
from undiffuse.errors import InputError

every_schedule = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)


@every_schedule
@pytest.mark.parametrize("weighting", WEIGHTING_CASES.values(), ids=WEIGHTING_CASES)
def test_a_weighting_means_what_it_declares(weighting, schedule):
    """Unit weight on the error of a target's F; the bound of a Gaussian, in closed form; or a cap.

    Ho et al. (2020), Eq. 14; Karras et al. (2022), section 5; Lipman et al. (2023), Eq. 9; Kingma
    et al. (2021), Eq. 13-17; Hang et al. (2023), Eq. 9.
    """
    t = times(0.0553, 0.4137, 0.9173)
    if weighting.unweights is not None:
        _, c_out = weighting.unweights.row(schedule, t)
        one = torch.ones_like(t)
        exact = {Simple: 1e-12, EDMWeight: 1e-11}.get(type(weighting), 1e-9)
        torch.testing.assert_close(weighting(schedule, t) * c_out**2, one, rtol=exact, atol=0)
    elif weighting.bound:
        s2, levels = 0.49, getattr(weighting, "levels", None)
        if levels is None:  # the integral, in t: 1/2 log((1 + s^2 SNR) / (1 + s^2 SNR_1))
            t = schedule.inverse(torch.linspace(2.0, -3.0, 4001, dtype=torch.float64))
            mean = torch.trapezoid(weighting(schedule, t) * mmse(schedule, t, s2), t)
            known = math.log((1 + s2 * math.exp(2)) / (1 + s2 * math.exp(-3))) / 2
            assert float(mean) == pytest.approx(known, rel=2e-4)
        else:  # the sum of the divergences of the two posteriors, whose means differ by the error
            t = torch.arange(2, levels + 1, dtype=torch.float64) / levels
            _, b, v = schedule.posterior(t, t - 1 / levels)
            terms = b**2 * mmse(schedule, t, s2) / (2 * v)
            mean = weighting(schedule, t) * mmse(schedule, t, s2) / levels
            torch.testing.assert_close(mean, terms, rtol=1e-8, atol=0)
    else:
        snr = schedule.log_snr(t).exp()
        weight = weighting(schedule, t)
        assert bool((weight <= snr * (1 + 1e-12)).all())
        last = times(0.999)
        weight, snr = weighting(schedule, last), schedule.log_snr(last).exp()
        assert float(weight) == pytest.approx(float(snr), rel=1e-9)


def mmse(schedule, t, s2):
    """The least mean square error for N(0, s2)."""
    return s2 / (1 + s2 * schedule.log_snr(t).exp())


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
    """(1/T) w |x_hat - x|^2 = KL(q(x_s|x_t,x) || q(x_s|x_t,x_hat)) at variance beta-tilde.

    Kim and Lee (2024), Eq. 35, with Lemma 3 as it should read; on the noise error it is
    (SNR_s/SNR_t - 1)/2.
    """
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
def test_training_times_are_trainable_times(spread, schedule):
    u = torch.linspace(1e-9, 1 - 1e-9, 1001, dtype=torch.float64)
    t = spread.quantile(schedule, u)
    assert bool((t.diff() >= 0).all() or (t.diff() <= 0).all())
    assert float(t.max()) <= 1
    assert float(t.min()) > 0
    if not isinstance(spread, DiscreteTimes):
        assert float(t.min()) >= schedule.t_min


# the distribution function of t on a schedule without t_min, as published
def log_normal(schedule, t):
    ratio = torch.exp(-schedule.log_snr(t) / 2)
    return torch.special.ndtr((ratio.log() + 0.507) / 1.2)


DISTRIBUTIONS = {
    "uniform_times": lambda schedule, t: t,
    "discrete_times": lambda schedule, t: (t * 50 + 1e-9).floor() / 50,
    "log_normal_times": log_normal,
    "fitted_times": log_normal,  # until there are data
    "logit_normal_times": lambda schedule, t: torch.special.ndtr(torch.logit(t)),
}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("kind", TIMES)
def test_training_times_have_their_distribution(kind, draw):
    """Kolmogorov's distance of 4,000 draws to the published distribution function, at 99.9 %."""
    torch.manual_seed(0)
    n, schedule = 4_000, Linear()
    objective = Objective(weighting=Simple(), times=TIME_CASES[kind], draw=DRAWS[draw]())
    t = objective.sample_times(schedule, n).sort().values
    assert t.dtype == torch.float64
    below = DISTRIBUTIONS[kind](schedule, t)
    seen = torch.searchsorted(t, t, right=True).double() / n
    assert float((below - seen).abs().max()) < 1.95 / n**0.5


def test_training_times_follow_their_arguments():
    """The published mean -1.2 and std 1.2 at sigma_data 0.5; a mean and std of logits; t_min."""
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    log_sigma = (80 * LogNormalTimes(sigma_data=0.5).quantile(EDM(), u)).log()
    assert float(log_sigma.mean()) == pytest.approx(-1.2, abs=2e-3)
    assert float(log_sigma.std()) == pytest.approx(1.2, abs=5e-3)
    log_sigma = (80 * LogNormalTimes(mean=0.4, std=0.3).quantile(EDM(), u)).log()
    assert float(log_sigma.mean()) == pytest.approx(0.4, abs=2e-3)
    assert float(log_sigma.std()) == pytest.approx(0.3, abs=2e-3)
    logit = torch.logit(LogitNormalTimes(0.3, 0.8).quantile(LinearVP(t_min=1e-9), u))
    assert (float(logit.mean()), float(logit.std())) == pytest.approx((0.3, 0.8), abs=2e-3)
    assert float(LogitNormalTimes(mean=-30.0).quantile(Linear(), times(0.5))) == 1e-5
    assert float(LogitNormalTimes(mean=-30.0).quantile(LinearVP(t_min=0.2), times(0.5))) == 0.2
    levels = DiscreteTimes(8).quantile(LinearVP(), u)
    counts = torch.bincount((levels * 8).round().long(), minlength=9)
    assert counts.tolist() == [0, *[2_500] * 8]
    uniform = UniformTimes().quantile(LinearVP(t_min=0.2), u)
    assert float(uniform.mean()) == pytest.approx(0.6, abs=1e-6)
    assert float(UniformTimes().quantile(LinearVP(t_min=0.2), times(0.0))) == 0.2
    assert float(LogNormalTimes().quantile(EDM(), times(1e-12))) == EDM().t_min


@pytest.mark.parametrize("shape", [(1,), (2,), (3,), (2, 2)])
def test_fitted_times_lie_between_neighbours_and_the_whole(shape):
    """On a lattice of spacing h and m points a side, d = h and s^2 = h^2 (m^2 - 1) / 12."""
    size = math.prod(shape)
    side = {1: 60, 2: 30, 3: 12, 4: 7}[size]
    lines = [torch.arange(side, dtype=torch.float64)] * size
    lattice = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1).reshape(-1, *shape)
    fitted = FittedTimes().for_data(0.7 * lattice + 2.0)
    middle = math.log(math.sqrt(12 / (side**2 - 1) / size)) / 2
    assert (fitted.mean, fitted.std) == pytest.approx((middle, math.hypot(1.2, middle)), abs=1e-9)
    twice = torch.cat([lattice, lattice])  # rows that are the same have no distance
    assert FittedTimes().for_data(twice).mean == pytest.approx(middle, abs=1e-2)


def test_fitted_times_have_ends():
    published = LogNormalTimes()
    assert FittedTimes().for_data(torch.ones(9, 2)) == published
    assert FittedTimes().for_data(torch.ones(1, 2)) == published
    near = torch.tensor([0.0, 1e-5, 1.0, 1 + 1e-5]).double()[:, None]
    assert FittedTimes().for_data(near).mean == -2.0
    far = FittedTimes().for_data(torch.eye(9))  # neighbours no nearer than others
    assert (far.mean, far.std) == (0.0, 1.2)
    long = torch.randn(50, 5000, generator=torch.Generator().manual_seed(0))
    assert FittedTimes().for_data(long) == FittedTimes().for_data(long[:, ::5])


@pytest.mark.parametrize("draw", [cls() for cls in DRAWS.values()], ids=DRAWS)
def test_every_draw_is_uniform(draw):
    """Kolmogorov's distance at 99.9 %, mean and variance; a mean over draws is without bias."""
    torch.manual_seed(0)
    n = 20_000
    u = torch.cat([draw(10) for _ in range(n // 10)]).sort().values
    assert u.dtype == torch.float64
    assert float((u - torch.arange(n) / n).abs().max()) < 1.95 / n**0.5
    assert float(u.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(u.var()) == pytest.approx(1 / 12, abs=0.003)
    means = torch.stack([draw(10).exp().mean() for _ in range(1_000)])
    assert float(means.mean()) == pytest.approx(math.e - 1, abs=4 * float(means.std()) / 1_000**0.5)
    assert float(u.min()) > 0
    assert float(u.max()) < 1


@pytest.mark.parametrize("projection", [cls() for cls in PROJECTIONS.values()], ids=PROJECTIONS)
def test_projections_have_unit_covariance(projection):
    torch.manual_seed(0)
    v = projection(torch.empty(100_000, 3, dtype=torch.float64))
    torch.testing.assert_close(v.T @ v / len(v), torch.eye(3).double(), rtol=0, atol=0.02)
    assert float(v.mean(0).abs().max()) < 0.02


DENOISING = {name: one for name, one in OBJECTIVE_CASES.items() if not one.flow}
FLOWING = {name: one for name, one in OBJECTIVE_CASES.items() if one.flow}


class Nudged(torch.nn.Module):
    """The exact network of N(mean, std^2); row i moves by nudge_i along a direction.

    A second half, if there is one, is what a learned variance is read from.
    """

    def __init__(self, oracle, target, direction, doubled):
        super().__init__()
        self.oracle, self.target, self.direction = oracle, target, direction
        self.doubled = doubled

    def on(self, t, n):
        self.t, self.nudge = t, torch.zeros(n, dtype=torch.float64, requires_grad=True)
        return self.nudge

    def forward(self, x, c_noise):
        schedule = self.oracle.schedule
        alpha, sigma = (c[:, None] for c in schedule(self.t))
        x_t = x * (alpha**2 + sigma**2).sqrt()  # c_in at sigma_data = 1
        x_hat, z_hat = self.oracle.split(x_t, self.t)
        c_x, c_z = (c[:, None] for c in regression_target(schedule, self.target, self.t))
        output = c_x * x_hat + c_z * z_hat + self.nudge[:, None] * self.direction(x_t)
        return torch.cat([output, torch.zeros_like(output)], 1) if self.doubled else output


@pytest.mark.parametrize("objective", DENOISING.values(), ids=DENOISING)
def test_the_exact_denoiser_is_where_every_objective_is_least(objective):
    """On a Gaussian, moving the exact output along 1, or along x_t, has a mean slope of 0.

    And the loss of a network that is nudged by +-0.2 is larger: it is a minimum.
    """
    n, schedule = 20_000, LinearVP()
    generator = torch.Generator().manual_seed(0)
    mean, std = times(0.7, -0.2), times(0.5, 1.2)
    z0, z = torch.randn(2, n, 2, dtype=torch.float64, generator=generator)
    x = mean + std * z0
    torch.manual_seed(0)
    t = objective.sample_times(schedule, n).clamp(min=0.1)  # below, a few rows have all the slope
    oracle = Gaussian(schedule, mean, std)
    for direction in (torch.ones_like, lambda x_t: x_t):
        network = Nudged(oracle, target.noise, direction, objective.learned_variance)
        denoiser = Denoiser(
            network, schedule, target.noise, learned_variance=objective.learned_variance
        )
        nudge = network.on(t, n)
        losses = objective.losses(denoiser, x, z, t)
        (slopes,) = torch.autograd.grad(losses.sum(), nudge)
        assert float(slopes.std()) > 1e-3
        assert abs(float(slopes.mean())) < 4 * float(slopes.std()) / n**0.5
        torch.manual_seed(1)
        least = objective.losses(denoiser, x, z, t).mean()
        for by in (-0.2, 0.2):
            network.nudge = torch.full_like(nudge, by).requires_grad_()
            torch.manual_seed(1)
            assert float(objective.losses(denoiser, x, z, t).detach().mean()) > float(
                least.detach()
            )


@pytest.mark.parametrize("objective", FLOWING.values(), ids=FLOWING)
def test_where_the_paths_end_is_where_an_objective_of_the_flow_is_least(objective):
    """On a Gaussian, whose paths keep their quantile: f = m + s (x_t - alpha m) / std of x_t.

    An output that is moved in any direction by +-0.2 has a larger loss, the exact one hardly any.
    """
    n, schedule, (mean, std) = 2_000, LinearVP(), (times(0.7, -0.2), times(0.5, 1.2))
    x, z = torch.randn(2, n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, t = mean + std * x, objective.sample_times(schedule, n)
    teacher = Gaussian(schedule, mean, std)

    def loss(nudge):
        def network(scaled, c_noise):
            alpha, sigma = (c[:, None] for c in schedule(schedule.inverse(-8 * c_noise.double())))
            x_t = scaled * (alpha**2 + sigma**2).sqrt()
            wide = ((alpha * std) ** 2 + sigma**2).sqrt()
            ends = mean + std * (x_t - alpha * mean) / wide
            return (x_t - alpha * ends) / sigma.clamp(min=1e-12) + nudge(x_t)

        denoiser = Denoiser(network, schedule, target.noise, teacher=teacher)
        return float(objective.losses(denoiser, x, z, t).mean())

    least = loss(torch.zeros_like)
    for by in (-0.2, 0.2):
        for direction in (torch.ones_like, lambda x_t: x_t):
            assert loss(lambda x_t, by=by, move=direction: by * move(x_t)) > 5 * least


def test_both_points_of_a_path_see_the_same_dropout():
    """And the next batch another one."""
    drawn = []

    def network(x, c_noise):
        drawn.append(torch.rand(3))
        return torch.tanh(x)

    denoiser, t = Denoiser(network, LinearVP(), target.noise), times(0.3, 0.8)
    for _ in range(2):
        Consistency().losses(denoiser, torch.ones(2, 3), torch.ones(2, 3), t)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


@every_schedule
def test_a_teacher_s_large_steps_stay_on_its_paths(schedule):
    """Halving sigma/alpha from 40 on, the spread of a Gaussian comes out at most 3 % off."""
    one = Consistency(sigma_data=1.0, first=1.0, last=1.0)
    for std in (0.1, 0.4, 1.0, 1.5):
        teacher = Gaussian(schedule, times(0.0), times(std))
        t = schedule.inverse(-2 * times(40.0).log())
        alpha, sigma = schedule(t)
        x = ((alpha * std) ** 2 + sigma**2).sqrt()[:, None]
        while float(t) > 0:
            r, _ = one.earlier(schedule, t)
            x, t = one.carried(teacher, x, t, r, {}), r
        assert float(x / schedule(times(0.0))[0]) == pytest.approx(std, rel=0.03)


def test_low_discrepancy_puts_one_draw_in_each_stratum():
    torch.manual_seed(0)
    for n in [16, 10] * 10:
        u = LowDiscrepancy()(n).sort().values
        assert float((u.diff() - 1 / n).abs().max()) < 1e-12
    stratified, independent = (
        torch.stack([draw(16).mean() for _ in range(500)]).std()
        for draw in (LowDiscrepancy(), Independent())
    )
    assert stratified < independent / 3


@every_schedule
@pytest.mark.parametrize("name", TARGET_CASES)
def test_the_loss_is_the_weighted_error_of_x_whatever_is_predicted(schedule, name):
    """The same denoiser behind any target has the same loss, w(t) |x_hat - x|^2 by definition."""
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
    """For N(0, s^2) it is the mean s^2 sigma^2 / (alpha^2 s^2 + sigma^2); a nudge adds to it."""
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


@pytest.mark.parametrize("objective", OBJECTIVE_CASES.values(), ids=OBJECTIVE_CASES)
@pytest.mark.parametrize("rows", [1, 2])
def test_every_objective_passes_the_condition_on_and_gives_each_row_a_loss(objective, rows):
    told, schedule = [], DiscreteVP(betas=linear_betas(20))
    doubled = objective.learned_variance
    assert objective.at(1.0) == objective
    assert doubled == (getattr(objective, "variance", None) == Learned())
    assert doubled in (True, False)

    def network(x, c_noise, label):
        told.append(label)
        output = torch.tanh(x)
        return torch.cat([output, output], 1) if doubled else output

    denoiser = Denoiser(network, schedule, target.noise, learned_variance=doubled)
    x, z = torch.randn(2, rows, 3, dtype=torch.float64)
    losses = objective.losses(denoiser, x, z, times(0.2, 0.7)[:rows], label=7)
    assert losses.shape == (rows,)
    assert losses.isfinite().all()
    assert set(told) == {7}


def test_the_bound_s_weights_take_two_levels_or_more():
    t = times(0.5, 1.0)
    assert VLB(levels=2)(LinearVP(), t).isfinite().all()
    with pytest.raises(InputError, match="weighting vlb: it takes 2 levels or more, not 1"):
        VLB(levels=1)(LinearVP(), t)

"""Laws of Langevin dynamics: the stationary variance of each convention, annealing, levels and
steps from the data.
"""

import math

import pytest
import torch
from cases import SCHEDULE_CASES, times
from scipy.optimize import minimize_scalar

from undiffuse.diffusion import (
    VE,
    AnnealedLangevin,
    FittedVE,
    Full,
    Half,
    Langevin,
    Levels,
    LinearVP,
    LogSNR,
    langevin,
    linear_betas,
    sample,
)
from undiffuse.diffusion.oracle import Gaussian, Mixture
from undiffuse.diffusion.schedules.chain import DiscreteVP
from undiffuse.diffusion.schedules.levels import (
    largest_distance,
    level_ratio,
    step_share,
    variance_ratio,
)
from undiffuse.errors import InputError


def seeded(seed):
    """One stream for all rows: a law of large numbers needs many."""
    generator = torch.Generator().manual_seed(seed)
    return lambda like: torch.randn(like.shape, dtype=like.dtype, generator=generator)


def stationary(drift, spread, s):
    """Variance at which x <- x - drift x / s^2 + spread z stands still."""
    return spread**2 / (1 - (1 - drift / s**2) ** 2)


@pytest.mark.parametrize(
    ("convention", "share"), [(Full(), 1.0), (Half(), 0.5)], ids=["full", "half"]
)
def test_each_convention_settles_at_its_exact_variance(convention, share):
    """s^2 / (1 - e/2), e = eps/s^2 (eta = 2 eps): carried exactly, one linear update at a time."""
    s, size, variance = 0.7, 0.05, 3.0
    probe, draw = (
        torch.tensor([[0.0], [1.0], [0.0]]).double(),
        torch.tensor([[0.0], [0.0], [1.0]]).double(),
    )
    x = langevin(
        lambda x: -x / s**2,
        probe,
        size=size,
        updates=1,
        convention=convention,
        noise=lambda like: draw,
    )
    base, gain, spread = x.flatten().tolist()
    for _ in range(2000):
        variance = (gain - base) ** 2 * variance + (spread - base) ** 2
    assert variance == pytest.approx(s**2 / (1 - share * size / s**2 / 2), rel=1e-12)


def test_mixing_the_conventions_halves_or_doubles_the_variance():
    """Liu, Eq. 1 steps by (eps, sqrt(2 eps)), Kim and Lee's Eq. 44 by (eta/2, sqrt(eta)): one
    of each is neither.
    """
    s, size = 0.7, 1e-5
    (full, full_noise), (half, half_noise) = Full()(size), Half()(size)
    assert stationary(full, full_noise, s) == pytest.approx(s**2, rel=1e-4)
    assert stationary(half, half_noise, s) == pytest.approx(s**2, rel=1e-4)
    assert stationary(full, half_noise, s) == pytest.approx(s**2 / 2, rel=1e-4)
    assert stationary(half, full_noise, s) == pytest.approx(s**2 * 2, rel=1e-4)


def test_full_at_eps_is_half_at_two_eps_at_the_point_before():
    """Kim and Lee (2024), Eq. 44 with its gradient at x_{t-1}, written out."""
    x, z = torch.randn(2, 3, 1).double()
    printed = x + 0.04 / 2 * torch.cos(x) + math.sqrt(0.04) * z
    for convention, size in ((Half(), 0.04), (Full(), 0.02)):
        ours = langevin(
            torch.cos, x, size=size, updates=1, convention=convention, noise=lambda like: z
        )
        torch.testing.assert_close(ours, printed, rtol=1e-14, atol=1e-14)


def separated(schedule):
    """Two modes forty standard deviations apart, weights 0.2 and 0.8."""
    means, stds = torch.tensor([[-2.0], [2.0]]).double(), torch.full((2, 1), 0.1).double()
    return Mixture(schedule, means, stds, torch.tensor([0.2, 0.8]).double().log())


def test_annealing_finds_the_weights_that_plain_langevin_cannot():
    """Song and Ermon (2019), section 3.2.2 and Figure 3: plain dynamics keeps the half and
    half of its start.
    """
    schedule, n = VE(sigma_min=0.05, sigma_max=8.0, levels=60), 3000
    oracle, noise = separated(schedule), seeded(1)
    start = 8.0 * noise(torch.empty(n, 1).double())
    annealed = sample(oracle, start, Levels()(schedule, 60), AnnealedLangevin(), noise=noise)
    plain = sample(oracle, start / 4, LogSNR()(schedule, 30), Langevin(size=0.002), noise=noise)
    for x, share in ((annealed, 0.8), (plain, 0.5)):
        right = (x > 0).double().mean()
        assert float(right) == pytest.approx(share, abs=0.04)
        for sign in (-1, 1):
            mode = x[x * sign > 0]
            assert float(mode.mean()) == pytest.approx(2 * sign, abs=0.02)
            assert float(mode.std()) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(
    "schedule", [LinearVP(), DiscreteVP(betas=linear_betas(200))], ids=["linear_vp", "ddpm"]
)
def test_a_model_of_another_kind_is_annealed_too(schedule):
    """On y = x/alpha, with levels even in log-SNR: same weights, same modes."""
    n = 2000
    oracle, noise = separated(schedule), seeded(2)
    x = sample(
        oracle,
        noise(torch.empty(n, 1).double()),
        LogSNR()(schedule, 200),
        AnnealedLangevin(),
        noise=noise,
    )
    assert float((x > 0).double().mean()) == pytest.approx(0.8, abs=0.04)
    assert float(x.abs().mean()) == pytest.approx(2, abs=0.02)


def test_annealed_langevin_is_algorithm_1():
    """Song and Ermon (2019): alpha_i = eps sigma_i^2/sigma_L^2, half of it times the score, sqrt
    of it times noise.

    Theirs is the half convention, ours here the full one of their later paper: eps
    is half of theirs.
    """
    schedule, theirs, (t, s) = VE(sigma_min=0.1, sigma_max=4.0, levels=5), 2e-3, times(0.8, 0.6)
    oracle = Mixture(
        schedule, torch.tensor([[-1.0], [1.0]]).double(), torch.tensor([[0.3], [0.2]]).double()
    )
    x, *draws = torch.randn(4, 5, 1).double()
    stream = iter(draws)
    ours, _ = AnnealedLangevin(updates=3, epsilon=theirs / 2)(
        oracle, x, t, s, None, lambda like: next(stream)
    )
    size = theirs * float(schedule(t)[1]) ** 2 / 0.1**2
    for z in draws:
        x = x + size / 2 * oracle.score(x, t) + math.sqrt(size) * z
    torch.testing.assert_close(ours, x, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)
def test_a_point_s_variance_follows_proposition_3(schedule):
    """From gamma times the deviation of any level of any schedule: Song and Ermon
    (2020), Proposition 3.
    """
    oracle = Gaussian(schedule, torch.zeros(1).double(), torch.zeros(1).double())
    t, s = times(0.6, 0.5)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(t), schedule(s)
    gamma, updates, step = (
        float(sigma_t / alpha_t * alpha_s / sigma_s),
        4,
        AnnealedLangevin(updates=4),
    )
    start = gamma * sigma_t * torch.tensor([[1.0], [0], [0], [0], [0]]).double()
    draws = iter(torch.cat([torch.zeros(4, 1), torch.eye(4)], 1).double()[..., None])
    x, e = step(oracle, start, t, s, None, lambda like: next(draws))
    ratio = float((x * alpha_t / alpha_s / sigma_t).square().sum())
    assert e == step.share(schedule, gamma)
    assert ratio == pytest.approx(
        float(variance_ratio(torch.tensor(e).double(), gamma, updates)), rel=1e-9
    )


def test_the_computed_step_brings_the_variance_nearest_to_the_level_s():
    for gamma, updates in ((1.0376, 5), (1.2, 5), (1.3, 100)):
        e = step_share(gamma, updates)
        ratios = variance_ratio(torch.tensor([e / 1.05, e, e * 1.05]).double(), gamma, updates)
        assert bool((ratios >= 1).all())
        assert ratios.argmin() == 1


def test_published_sizes_of_ncsnv2():
    """Song and Ermon (2020), appendix B.3: CIFAR-10, 232 levels, 50 to 0.01, T = 5:
    eps = 6.2e-6.
    """
    assert step_share(5000 ** (1 / 231), 5) * 0.01**2 == pytest.approx(6.2e-6, rel=0.01)
    assert math.log(5000) / math.log(level_ratio(3072)) + 1 == pytest.approx(232, rel=0.1)


@pytest.mark.parametrize("coordinates", [42, 64, 784, 3072, 49152])
def test_neighbouring_levels_overlap_by_half(coordinates):
    gamma = level_ratio(coordinates)

    def phi(z):
        return (1 + math.erf(z / math.sqrt(2))) / 2

    shift = math.sqrt(2 * coordinates) * (gamma - 1)
    assert phi(shift + 3 * gamma) - phi(shift - 3 * gamma) == pytest.approx(0.5, abs=1e-9)
    assert level_ratio(2) == 1.5


def test_levels_reach_from_the_widest_pair_down():
    x = torch.randn(700, 3, 4)
    x[13] += 30
    distance = float(torch.cdist(x.flatten(1).double(), x.flatten(1).double()).max())
    assert largest_distance(x) == pytest.approx(distance, rel=1e-6)
    assert largest_distance(torch.randn(100_000, 2)) < 12  # a subsample: no full matrix
    schedule = FittedVE(sigma_min=0.02).for_data(x)
    assert (schedule.sigma_min, schedule.sigma_max) == (0.02, pytest.approx(distance, rel=1e-6))
    k = torch.arange(1, schedule.levels + 1, dtype=torch.float64) / schedule.levels
    ratio = schedule(k)[1][1:] / schedule(k)[1][:-1]
    assert bool((ratio <= level_ratio(12) + 1e-9).all())
    assert float(ratio[0]) > level_ratio(12) ** 0.9
    assert FittedVE().for_data(torch.zeros(5, 2)).sigma_max == 0.1  # all rows alike
    assert LinearVP().for_data(x) == LinearVP()


def test_impossible_steps_are_refused():
    for wrong in ({"updates": 0}, {"epsilon": 0.0}):
        with pytest.raises(InputError, match="updates"):
            AnnealedLangevin(**wrong)
    schedule = VE(sigma_min=0.1, sigma_max=4.0, levels=5)
    oracle = Gaussian(schedule, torch.zeros(1), torch.ones(1))
    with pytest.raises(InputError, match=r"overshoots; give at most 0\.01"):
        AnnealedLangevin(epsilon=0.02)(
            oracle, torch.zeros(1, 1), *times(0.8, 0.6), None, torch.randn_like
        )


def test_the_final_denoise_follows_updates_of_the_size_of_the_step_before_or_of_epsilon():
    """alpha_s x_hat at level t, after as many updates there, written out draw by draw."""
    schedule, (t, s) = VE(sigma_min=0.1, sigma_max=4.0, levels=5), times(0.2, 0.0)
    oracle = Gaussian(schedule, torch.tensor([0.7]).double(), torch.tensor([0.6]).double())
    x, *draws = torch.randn(3, 5, 1).double()
    for epsilon, memory, e in ((None, 0.3, 0.3), (None, None, 0.0), (1e-3, None, 0.1)):
        stream, wanted = iter(draws), x
        step = AnnealedLangevin(updates=2, epsilon=epsilon)
        ours, left = step(oracle, x, t, s, memory, lambda like, stream=stream: next(stream))
        for z in draws if e else ():
            wanted = wanted + e * 0.1**2 * oracle.score(wanted, t) + math.sqrt(2 * e) * 0.1 * z
        torch.testing.assert_close(ours, oracle(wanted, t), rtol=1e-9, atol=1e-9)
        assert left is None


@pytest.mark.parametrize("far", [0, 1, 350, 699])
def test_the_widest_pair_is_found_wherever_it_is(far):
    """And to the last digit, however far from the origin the rows lie."""
    x = torch.zeros(700, 2, 2, dtype=torch.float64) + 1e7
    x[far, :, 0] += torch.tensor([3.0, 4.0])
    assert largest_distance(x) == 5.0
    assert largest_distance(x[far : far + 1]) == 0.0


def test_narrow_data_have_levels_down_to_a_twelfth_of_their_deviation():
    """Rows at +-0.06 have a deviation of 0.06 and lie 0.12 apart."""
    x = torch.tensor([[-0.06], [0.06]]).double()
    schedule = FittedVE().for_data(x)
    assert schedule.sigma_min == pytest.approx(0.005)
    assert schedule.sigma_max == pytest.approx(0.12)
    assert schedule.levels == math.ceil(math.log(24) / math.log(1.5)) + 1
    assert FittedVE(sigma_min=0.02).for_data(x / 6).sigma_max == pytest.approx(0.02)
    assert FittedVE(sigma_min=1e-5).for_data(x).sigma_min == 1e-5


@pytest.mark.parametrize(("gamma", "updates"), [(1.01, 1), (1.0376, 5), (1.3, 100), (2.0, 3)])
def test_the_computed_step_is_where_proposition_3_is_least(gamma, updates):
    found = minimize_scalar(
        lambda e: (1 - e) ** (2 * updates) * (gamma**2 - 2 / (2 - e)) + 2 / (2 - e),
        bounds=(1e-7, 1),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert step_share(gamma, updates) == pytest.approx(found.x, rel=2e-3)


def test_plain_langevin_stays_at_the_smallest_level_whatever_the_grid():
    """Written out draw by draw; to zero noise it is x_hat of the level after the updates."""
    schedule = LinearVP()
    oracle = Gaussian(schedule, torch.tensor([0.7]).double(), torch.tensor([0.6]).double())
    x, *draws = torch.randn(4, 5, 1).double()
    level, size = times(schedule.t_min)[0], 1e-5
    moved = x
    for z in draws:
        moved = moved + size / 2 * oracle.score(moved, level) + math.sqrt(size) * z
    step = Langevin(size=size, updates=3, convention=Half())
    for s, wanted in ((0.2, moved), (0.0, oracle(moved, level))):
        stream = iter(draws)
        ours, memory = step(
            oracle, x, *times(0.6, s), None, lambda like, stream=stream: next(stream)
        )
        torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-10)
        assert memory is None


def test_one_update_of_a_level_is_enough():
    assert AnnealedLangevin(updates=1, epsilon=1e-9).updates == 1

"""Laws of samplers: exact on points, of their declared order on a Gaussian, the textbook's posterior at eta = 1."""

import math

import pytest
import torch
from cases import GRID_CASES, SCHEDULE_CASES, has_signal_at_the_end, times

from undiffuse.diffusion import (
    BH1,
    DDIM,
    DEIS,
    EDM,
    IPNDM,
    STEPS,
    Ancestral,
    Beta,
    Clipped,
    CosineVP,
    DiscreteVP,
    DPMpp,
    DPMpp2S,
    DPMppSDE,
    Euler,
    Fraction,
    Heun,
    Levels,
    Linear,
    LinearVP,
    RowNoise,
    UniPC,
    linear_betas,
    sample,
)
from undiffuse.diffusion.oracle import Gaussian, Mixture, Points
from undiffuse.errors import InputError

every_schedule = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)
STEP_CASES = {
    "ddim": DDIM(),
    "euler": Euler(),
    "heun": Heun(),
    "heun_fraction": Heun(coordinate=Fraction()),
    "dpmpp_1": DPMpp(order=1),
    "dpmpp_2": DPMpp(),
    "dpmpp_3": DPMpp(order=3),
    "dpmpp_2s": DPMpp2S(),
    **{f"unipc_{p}": UniPC(p=p) for p in (1, 2, 3)},
    "unipc_2_bh1": UniPC(p=2, b=BH1()),
    **{f"deis_{order}": DEIS(order=order) for order in (2, 3)},
    **{f"ipndm_{points}": IPNDM(points=points) for points in (2, 4)},
}
# smooth schedules on which each step's coordinate is finite at both ends of the interval integrated
SMOOTH = {
    "linear_vp": LinearVP(),
    "cosine_vp": CosineVP(),
    "edm": EDM(sigma_max=5.0),
    "linear": Linear(),
}


def exact_flow(schedule, mean, std, x, t, s):
    """The probability-flow map of a Gaussian: it carries quantiles to quantiles."""
    (a_t, s_t), (a_s, s_s) = schedule(t), schedule(s)
    return (
        a_s * mean
        + ((a_s * std) ** 2 + s_s**2).sqrt() * (x - a_t * mean) / ((a_t * std) ** 2 + s_t**2).sqrt()
    )


@pytest.mark.parametrize("schedule", SMOOTH.values(), ids=SMOOTH)
@pytest.mark.parametrize("step", STEP_CASES.values(), ids=STEP_CASES)
def test_converges_at_its_declared_order(step, schedule):
    """The largest error on the way from t = 0.9 to 0.4 on one Gaussian, multistep methods started exactly.

    The times are squares of even ones: even neither in t nor in sigma/alpha, on no schedule.
    """
    mean, std = torch.tensor([0.7]).double(), torch.tensor([0.6]).double()
    oracle = Gaussian(schedule, mean, std)
    start = torch.tensor([[2.0]]).double()

    def error(n):
        grid = torch.linspace(0.9**0.5, 0.4**0.5, n + 1, dtype=torch.float64) ** 2
        exact = exact_flow(schedule, mean, std, start, grid[0], grid)
        x, memory, worst = start, None, 0.0
        for i in range(n):
            x, memory = step(oracle, x, grid[i], grid[i + 1], memory, torch.zeros_like)
            if i < 3:  # started exactly: the first steps only fill the memory
                x = exact[:, i + 1 : i + 2]
            worst = max(worst, float((x - exact[:, i + 1]).abs()))
        return worst

    errors = [error(n) for n in ((64, 128) if step.order < 3 else (128, 256))]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(step.order, abs=0.2)


STOCHASTIC = [DDIM(eta=1.0), Ancestral(), Ancestral(Beta()), DPMppSDE(weak_order=1), DPMppSDE()]


@pytest.mark.parametrize("step", STOCHASTIC, ids=repr)
@pytest.mark.parametrize("schedule", [CosineVP(), EDM(sigma_max=5.0)], ids=["cosine_vp", "edm"])
def test_stochastic_steps_have_their_weak_order(step, schedule):
    """Mean and variance on a Gaussian, without sampling error, converge to the marginal's at the declared order.

    All is affine in the start and the draws: row 0 has none, row i + 1 the i-th alone, and the squares of what they
    change add up to the variance.
    """
    mean, std = torch.tensor([0.7]).double(), torch.tensor([0.6]).double()
    oracle = Gaussian(schedule, mean, std)

    def error(n):
        grid = torch.linspace(0.9, 0.1, n + 1, dtype=torch.float64)
        (a, s), draws = schedule(grid[0]), iter(torch.eye(n + 2, dtype=torch.float64)[1:, :, None])
        start = a * mean + ((a * std) ** 2 + s**2).sqrt() * next(draws)
        x = sample(oracle, start, grid, step, noise=lambda like: next(draws))
        a, s = schedule(grid[-1])
        variance = (x - x[0]).square().sum()
        return float((x[0] - a * mean).abs() + (variance - (a * std) ** 2 - s**2).abs())

    errors = [error(n) for n in (60, 120)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(step.weak_order or step.order, abs=0.2)


# euler needs dx_t/dt, infinite at an end of some; the adaptive solver has this law in a module of its own
EVERY_STEP = [cls() for kind, cls in STEPS.items() if kind not in ("euler", "adaptive_ode")]
EVERY_STEP += [DDIM(eta=0.5), DDIM(eta=1.0), DPMpp(order=3), UniPC(p=3)]


@every_schedule
@pytest.mark.parametrize("step", EVERY_STEP, ids=repr)
@pytest.mark.parametrize("name", GRID_CASES)
def test_point_mass_is_reproduced_in_any_number_of_steps(schedule, step, name):
    """All grids, all schedules, down to zero noise, alpha_1 = 0 included: nothing is NaN and the point is found."""
    point = torch.tensor([0.3, -1.7]).double()
    _, sigma_1 = schedule(times(1.0))
    for steps in (1, 3, 6):
        if name == "levels" and schedule.levels is None:
            with pytest.raises(InputError, match="no levels"):
                GRID_CASES[name](schedule, steps)
            return
        grid = GRID_CASES[name](schedule, steps)
        assert len(grid) == steps + 1
        assert (float(grid[0]), float(grid[-1])) == (1.0, 0.0)
        assert bool((grid.diff() < 0).all())
        x = sample(
            Gaussian(schedule, point, torch.zeros(2).double()),
            sigma_1 * torch.randn(4, 2).double(),
            grid,
            step,
        )
        torch.testing.assert_close(x, point.expand(4, 2), rtol=0, atol=1e-9)


@pytest.mark.parametrize("levels", [10, 200])
def test_ancestral_is_the_textbook_s_algorithm_2(levels):
    """Every level, same noise, beta: Kim and Lee (2024), Algorithm 2, as printed, to 1e-11."""
    betas = torch.tensor(linear_betas(levels), dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - betas, 0)
    schedule = DiscreteVP(betas=tuple(betas.tolist()))
    oracle = Mixture(
        schedule, torch.tensor([[-1.0], [1.0]]).double(), torch.tensor([[0.3], [0.2]]).double()
    )
    start, draws = torch.randn(5, 1).double(), torch.randn(levels, 5, 1).double()

    def g(z, i):
        return oracle.noise(z, times((i + 1) / levels)[0])

    z = start
    for i in range(levels - 1, 0, -1):
        mean = (z - betas[i] / (1 - alpha_bar[i]).sqrt() * g(z, i)) / (1 - betas[i]).sqrt()
        z = mean + betas[i].sqrt() * draws[i]
    printed = (z - betas[0] / (1 - alpha_bar[0]).sqrt() * g(z, 0)) / (1 - betas[0]).sqrt()

    stream = iter(draws.flip(0))
    ours = sample(
        oracle,
        start,
        Levels()(schedule, levels),
        Ancestral(Beta()),
        noise=lambda like: next(stream),
    )
    torch.testing.assert_close(ours, printed, rtol=1e-11, atol=1e-11)


@every_schedule
def test_ddim_at_eta_1_is_the_ancestral_step(schedule):
    """With beta-tilde: the mean and variance of q(x_s | x_t, x_hat) (Song et al. 2021a, section 4.1)."""
    oracle = Gaussian(schedule, torch.tensor([0.7]).double(), torch.tensor([0.6]).double())
    x, z = torch.randn(2, 5, 1).double()
    for t, s in ((0.9, 0.5), (0.31, 0.3), (1.0, 0.98)):
        t, s = times(t, s)
        ours = [
            step(oracle, x, t, s, None, lambda like: z)[0] for step in (DDIM(eta=1.0), Ancestral())
        ]
        torch.testing.assert_close(*ours, rtol=1e-10, atol=1e-10)
        a, b, v = schedule.posterior(t, s)
        torch.testing.assert_close(
            ours[0], a * x + b * oracle(x, t) + v.sqrt() * z, rtol=1e-10, atol=1e-10
        )


def test_euler_on_the_straight_path_is_ddim():
    oracle = Gaussian(Linear(), torch.tensor([0.7]).double(), torch.tensor([0.6]).double())
    x, (t, s) = torch.randn(5, 1).double(), times(1.0, 0.6)
    ours = [
        step(oracle, x, t, s, None, torch.randn_like)[0]
        for step in (Euler(), DDIM(), DPMpp(order=1))
    ]
    torch.testing.assert_close(ours[0], ours[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours[2], ours[1], rtol=1e-12, atol=1e-12)


def test_heun_is_edm_s_algorithm_2():
    """Karras et al. (2022), Algorithm 2 with alpha = 1, written out in sigma, churn included, same noise."""
    schedule = EDM(sigma_max=10.0)
    oracle = Mixture(
        schedule, torch.tensor([[-1.0], [1.0]]).double(), torch.tensor([[0.3], [0.2]]).double()
    )
    sigma, sigma_next, gamma, s_noise = 4.0, 2.5, 0.2, 1.007
    x, z = torch.randn(2, 5, 1).double()

    def D(x, level):
        return oracle(x, times(level / 10)[0])

    level = sigma * (1 + gamma)
    raised = x + math.sqrt(level**2 - sigma**2) * s_noise * z
    d = (raised - D(raised, level)) / level
    moved = raised + (sigma_next - level) * d
    d_next = (moved - D(moved, sigma_next)) / sigma_next
    printed = raised + (sigma_next - level) * (d + d_next) / 2

    step = Heun(churn=gamma, churn_noise=s_noise)
    ours, _ = step(oracle, x, *times(sigma / 10, sigma_next / 10), None, lambda like: z)
    torch.testing.assert_close(ours, printed, rtol=1e-11, atol=1e-11)
    outside = Heun(churn=gamma, churn_to=1.0)
    calm, _ = outside(oracle, x, *times(sigma / 10, sigma_next / 10), None, lambda like: z)
    torch.testing.assert_close(
        calm, Heun()(oracle, x, *times(sigma / 10, sigma_next / 10), None, torch.randn_like)[0]
    )


def test_samplers_reach_the_data_distribution():
    """Mean and covariance of a two-component mixture from its prior, within 4 standard errors."""
    torch.manual_seed(3)
    schedule, n = EDM(), 4000
    mean = torch.tensor([[-1.5, 0.0], [1.5, 1.0]]).double()
    oracle = Mixture(schedule, mean, torch.full((2, 2), 0.4).double())
    truth = oracle.draw(200_000, torch.Generator().manual_seed(1))
    fast = (Heun(), DPMpp(), DPMpp(order=3), DPMpp2S(), DPMppSDE(), UniPC(), DEIS(), IPNDM())
    for step, steps in (*((step, 60) for step in fast), (Ancestral(), 240), (DDIM(), 240)):
        start = schedule(times(1.0))[1] * torch.randn(n, 2, dtype=torch.float64)
        x = sample(oracle, start, GRID_CASES["karras"](schedule, steps), step)
        for k in (1, 2):
            moment, expected = (x**k).mean(0), (truth**k).mean(0)
            assert bool(((moment - expected).abs() < 4 * (x**k).std(0) / n**0.5 + 0.02).all()), (
                step,
                k,
            )


def test_a_row_depends_on_its_own_seed_alone():
    schedule = EDM()
    oracle = Points(schedule, torch.randn(7, 3, generator=torch.Generator().manual_seed(0)))
    grid = GRID_CASES["karras"](schedule, 12)

    def rows(first, count):
        noise = RowNoise(5, count, first)
        return sample(oracle, 80 * noise(torch.empty(count, 3)), grid, Ancestral(), noise=noise)

    torch.testing.assert_close(rows(0, 6)[2:5], rows(2, 3), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(rows(0, 1), rows(1, 1))


def test_callback_sees_every_step():
    seen = []
    schedule = EDM()
    grid = GRID_CASES["karras"](schedule, 4)
    oracle = Gaussian(schedule, torch.zeros(2), torch.ones(2))
    x = sample(
        oracle,
        torch.randn(1, 2),
        grid,
        DDIM(),
        callback=lambda i, n, s, x_s: seen.append((i, n, float(s), x_s)),
    )
    assert [(i, n, s) for i, n, s, _ in seen] == [(i, 4, float(grid[i])) for i in (1, 2, 3, 4)]
    assert bool((seen[-1][3] == x).all())


def test_clipping_recomputes_the_noise():
    schedule = LinearVP()
    oracle = Gaussian(schedule, torch.tensor([3.0]).double(), torch.tensor([0.5]).double())
    x, t = torch.tensor([[2.0], [-1.0]]).double(), times(0.4)[0]
    x_hat, z_hat = Clipped(oracle, -1.0, 1.0).split(x, t)
    alpha, sigma = schedule(t)
    assert float(x_hat.max()) == 1.0
    torch.testing.assert_close(alpha * x_hat + sigma * z_hat, x, rtol=1e-12, atol=1e-12)


def test_karras_grid_is_the_published_one():
    """Karras et al. (2022), Eq. 5 with rho = 7, 18 steps between 80 and 0.002."""
    i = torch.arange(18, dtype=torch.float64)
    sigma = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(80 * GRID_CASES["karras"](EDM(), 18)[:-1], sigma, rtol=1e-9, atol=0)


@every_schedule
def test_log_snr_grid_is_even_in_log_snr(schedule):
    grid = GRID_CASES["log_snr"](schedule, 8)[:-1]
    values = schedule.log_snr(grid[1:])
    if schedule.t_min > 0 and has_signal_at_the_end(schedule):
        torch.testing.assert_close(values.diff(), values.diff()[:1].expand(6), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("steps", [0, -3])
def test_fewer_than_one_step_is_refused(steps):
    with pytest.raises(InputError, match="at least 1 step"):
        GRID_CASES["uniform"](EDM(), steps)


def test_more_steps_than_levels_is_refused():
    with pytest.raises(InputError, match="at most 10 steps"):
        Levels()(DiscreteVP(betas=linear_betas(10)), 11)

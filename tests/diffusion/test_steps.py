"""Laws of samplers: exact on points, of their declared order on a Gaussian, the textbook's
posterior at eta = 1.
"""

import math

import pytest
import torch
from cases import GRID_CASES, SCHEDULE_CASES, has_signal_at_the_end, times

from undiffuse.diffusion import (
    DDIM,
    DEIS,
    EDM,
    IPNDM,
    METHODS,
    STEPS,
    Ancestral,
    Beta,
    BetaTilde,
    Clipped,
    ConsistencyStep,
    CosineVP,
    DiscreteVP,
    DPMpp,
    DPMpp2S,
    DPMppSDE,
    Euler,
    Heun,
    Levels,
    Linear,
    LinearVP,
    LogSNR,
    RowNoise,
    Step,
    Uniform,
    UniPC,
    linear_betas,
    sample,
)
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate
from undiffuse.diffusion.oracle import Gaussian, Mixture, Points
from undiffuse.diffusion.steps.moves import Fraction, Ratio
from undiffuse.errors import InputError
from undiffuse.laws.step_laws import (
    converges_at_its_order,
    converges_at_its_weak_order,
    declares_one_order,
    instances,
    reaches_the_spread,
    reproduces_a_point,
)

every_schedule = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)
A_FEW = [EDM(), CosineVP(), DiscreteVP(betas=(*linear_betas(9), 1.0))]
DEFAULT = {kind: step for kind, step in instances().items() if kind in STEPS}


def test_each_instance_declares_one_order_at_most():
    for step in instances().values():
        declares_one_order(step)


@every_schedule
@pytest.mark.parametrize("kind", [kind for kind, step in DEFAULT.items() if step.order])
def test_converges_at_its_declared_order(kind, schedule):
    assert converges_at_its_order(DEFAULT[kind], schedule) > 0.8


@every_schedule
@pytest.mark.parametrize("kind", [kind for kind, step in DEFAULT.items() if step.weak_order])
def test_converges_at_its_declared_weak_order(kind, schedule):
    assert converges_at_its_weak_order(DEFAULT[kind], schedule) > 0.8


@pytest.mark.parametrize("name", sorted(instances().keys() - DEFAULT.keys()))
def test_variants_converge_at_their_orders(name):
    step = instances()[name]
    for schedule in (LinearVP(), EDM()):
        if step.order:
            converges_at_its_order(step, schedule)
        if step.weak_order:
            converges_at_its_weak_order(step, schedule)


@every_schedule
@pytest.mark.parametrize("kind", DEFAULT)
def test_point_mass_is_reproduced_on_every_schedule(schedule, kind):
    """Down to zero noise, alpha_1 = 0 included: nothing is NaN."""
    reproduces_a_point(DEFAULT[kind], schedule, Uniform())


@pytest.mark.parametrize("name", GRID_CASES)
@pytest.mark.parametrize("kind", DEFAULT)
def test_point_mass_is_reproduced_on_every_grid(kind, name):
    """Those that go over levels on a chain, the others on a path without signal at its start."""
    chain = DiscreteVP(betas=(*linear_betas(9), 1.0))
    for schedule in (chain,) if name == "levels" else (EDM(), Linear(), chain):
        reproduces_a_point(DEFAULT[kind], schedule, GRID_CASES[name])


@pytest.mark.parametrize("name", sorted(instances().keys() - DEFAULT.keys()))
def test_point_mass_is_reproduced_by_variants(name):
    for schedule in A_FEW:
        reproduces_a_point(instances()[name], schedule, LogSNR())


@pytest.mark.parametrize("schedule", A_FEW[:2], ids=["edm", "cosine_vp"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_reaches_the_spread_of_a_gaussian(method, schedule):
    reaches_the_spread(METHODS[method], schedule)


class Wrong(Step):
    """DPM-Solver++(2M) with the weight h/2.2 of its difference in place of m_0/2: of order 1."""

    order = 2

    def move(self, denoiser, x_t, t, s, memory, noise):
        (_, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, _ = denoiser.split(x_t, t)
        lambda_t, lambda_s = denoiser.schedule.log_snr(t) / 2, denoiser.schedule.log_snr(s) / 2
        h, bend = lambda_s - lambda_t, 0.0
        if memory is not None:
            bend = h / 2.2 * h / (lambda_t - memory[1]) * (x_hat - memory[0])
        push = -torch.expm1(-h) * x_hat + bend
        return sigma_s / sigma_t * x_t + alpha_s * push, (x_hat, lambda_t)


class Louder(Step):
    """The ancestral step with its variance a tenth too large: of no weak order."""

    weak_order = 1

    def move(self, denoiser, x_t, t, s, memory, noise):
        x, _ = Ancestral()(denoiser, x_t, t, s, None, noise)
        return x + 0.1**0.5 * (
            x - Ancestral()(denoiser, x_t, t, s, None, torch.zeros_like)[0]
        ), None


class Endless(Step):
    """The Langevin step that stops short: it never comes to sigma = 0."""

    def move(self, denoiser, x_t, t, s, memory, noise):
        return x_t, None

    end = move


def test_a_wrong_step_breaks_the_laws(monkeypatch):
    """Each law is seen to fail on a registered step that is wrong."""
    for name, step in (("wrong", Wrong), ("louder", Louder), ("endless", Endless)):
        monkeypatch.setitem(STEPS, name, step)
    for schedule in (LinearVP(), EDM()):
        with pytest.raises(AssertionError):
            converges_at_its_order(instances()["wrong"], schedule)
        with pytest.raises(AssertionError):
            converges_at_its_weak_order(instances()["louder"], schedule)
        with pytest.raises(AssertionError):
            reproduces_a_point(instances()["endless"], schedule, LogSNR())
        with pytest.raises(AssertionError):
            reaches_the_spread(instances()["endless"], schedule)
    monkeypatch.setattr(Endless, "order", 1)
    monkeypatch.setattr(Endless, "weak_order", 1)
    with pytest.raises(AssertionError):
        declares_one_order(Endless())


class Ends(AbstractDenoiser):
    """Where the paths of a Gaussian's flow end: each keeps its quantile."""

    def __init__(self, schedule, mean, std):
        super().__init__()
        self.schedule, self.mean, self.std = schedule, mean, std

    def estimate(self, x_t, t, **cond):
        alpha, sigma = self.schedule(t)
        wide = ((alpha * self.std) ** 2 + sigma**2).sqrt()
        ends = self.mean + self.std * (x_t - alpha * self.mean) / wide
        return Estimate(ends, (x_t - alpha * ends) / sigma)


@every_schedule
@pytest.mark.parametrize("levels", [(), (0.8,), (5.0, 0.3, 0.02)])
def test_consistency_steps_with_exact_ends_keep_the_law(schedule, levels):
    """Mean and variance of the samples are those of the data, whatever levels are visited."""
    mean, std = times(0.7), times(0.6)
    alpha, sigma = schedule(times(1.0)[0])
    inner = schedule.inverse(-2 * times(*levels).log())
    grid = torch.cat([times(1.0), inner, times(0.0)])
    draws = iter(torch.eye(5, dtype=torch.float64)[1:, :, None])
    start = alpha * mean + ((alpha * std) ** 2 + sigma**2).sqrt() * next(draws)
    x = sample(
        Ends(schedule, mean, std), start, grid, ConsistencyStep(), noise=lambda like: next(draws)
    )
    torch.testing.assert_close(x[0], mean, rtol=0, atol=1e-9)
    spread = (x[1:] - x[0]).square().sum(0).sqrt()
    torch.testing.assert_close(spread, std, rtol=0, atol=1e-9)


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
    """With beta-tilde: the mean and variance of q(x_s | x_t, x_hat) (Song et
    al. 2021a, section 4.1).
    """
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
    """Karras et al. (2022), Algorithm 2 with alpha = 1, written out in sigma, churn
    included, same noise.
    """
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


@pytest.mark.parametrize(("churn", "gamma"), [(0.2, 0.2), (1.0, 2**0.5 - 1)])
@every_schedule
def test_churn_is_edm_s_on_every_schedule(schedule, churn, gamma):
    """Karras et al. (2022), Algorithm 2, in y = x/alpha and k = sigma/alpha; at most sqrt(2) - 1 of
    churn, and to zero noise x_hat of the raised level.
    """
    mean, std = torch.tensor([0.7]).double(), torch.tensor([0.6]).double()
    oracle, k, k_next = Gaussian(schedule, mean, std), 0.5, 0.3
    y, z = torch.randn(2, 5, 1).double()

    def D(y, level):
        return (std**2 * y + level**2 * mean) / (std**2 + level**2)

    level = k * (1 + gamma)
    raised = y + math.sqrt(level**2 - k**2) * 1.007 * z
    d = (raised - D(raised, level)) / level
    moved = raised + (k_next - level) * d
    d_next = (moved - D(moved, k_next)) / k_next
    printed = raised + (k_next - level) * (d + d_next) / 2
    t, s = schedule.inverse(-2 * times(k, k_next).log()).unbind()
    (alpha_t, _), (alpha_s, _), (alpha_0, _) = (schedule(at) for at in (t, s, 0 * s))
    step = Heun(churn=churn, churn_noise=1.007)
    ours, _ = step(oracle, alpha_t * y, t, s, None, lambda like: z)
    torch.testing.assert_close(ours / alpha_s, printed, rtol=1e-7, atol=1e-7)
    last, _ = step(oracle, alpha_t * y, t, 0 * s, None, lambda like: z)
    torch.testing.assert_close(last / alpha_0, D(raised, level), rtol=1e-7, atol=1e-7)
    still = Heun(churn=churn, churn_from=k * 1.01), Heun(churn=churn, churn_to=k * 0.99)
    calm, _ = Heun()(oracle, alpha_t * y, t, s, None, torch.randn_like)
    for step in still:
        torch.testing.assert_close(step(oracle, alpha_t * y, t, s, None, lambda like: z)[0], calm)


@pytest.mark.parametrize("coordinate", [Ratio(), Fraction()], ids=repr)
def test_at_the_largest_noise_there_is_nothing_to_raise(coordinate):
    step = Heun(churn=0.3, coordinate=coordinate)
    oracle = Gaussian(EDM(), torch.zeros(1).double(), torch.ones(1).double())
    x, (t, s) = 80 * torch.randn(4, 1).double(), times(1.0, 0.5)
    ours, plain = (
        one(oracle, x, t, s, None, torch.ones_like)[0]
        for one in (step, Heun(coordinate=coordinate))
    )
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", DEFAULT)
def test_the_bound_takes_beta_tilde_unless_the_step_has_a_variance_of_its_own(kind):
    assert DEFAULT[kind].reverse_variance == BetaTilde()
    assert Ancestral(Beta()).reverse_variance == Beta()


@pytest.mark.parametrize(
    "kind", ["deis", "dpmpp", "dpmpp_2s", "heun", "ipndm", "langevin", "unipc"]
)
def test_without_signal_the_step_is_ddim_s_and_is_not_remembered(kind):
    """At alpha = 0 neither sigma/alpha nor its logarithm is finite: nothing is kept of there."""
    schedule = CosineVP()
    oracle = Gaussian(schedule, torch.tensor([0.7]).double(), torch.tensor([0.6]).double())
    x, (t, s) = torch.randn(5, 1).double(), times(1.0, 0.8)
    ours, memory = DEFAULT[kind](oracle, x, t, s, None, torch.zeros_like)
    torch.testing.assert_close(ours, DDIM()(oracle, x, t, s, None, torch.zeros_like)[0])
    assert not memory


@pytest.mark.parametrize("name", [name for name in DEFAULT if name != "ode"])
def test_every_step_draws_from_the_noise_it_is_given(name, monkeypatch):
    """From nowhere else: with draws of its own a row would not depend on its seed alone."""
    for used in ("randn_like", "randn", "rand"):
        monkeypatch.setattr(torch, used, lambda *args, **kwargs: pytest.fail("drawn elsewhere"))
    oracle = Gaussian(LinearVP(), torch.tensor([0.7]).double(), torch.tensor([0.6]).double())
    x = torch.linspace(-1, 1, 5).double()[:, None]
    step, noisy = DEFAULT[name], DEFAULT[name].order is None
    for grid in (times(0.9, 0.8), times(0.3, 0.2, 0.0)):
        one, same, other = (
            sample(oracle, x, grid, step, noise=lambda like, by=by: torch.full_like(like, by))
            for by in (0.5, 0.5, -0.5)
        )
        assert torch.equal(one, same)
        assert torch.equal(one, other) != noisy

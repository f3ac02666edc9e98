"""Laws of the SDEs: forward paths have the marginals, reverse steps their weak order,
rows their own seeds.
"""

import math

import pytest
import torch
from cases import SCHEDULE_CASES, times

from undiffuse.diffusion import (
    EDM,
    VE,
    Ancestral,
    CosineVP,
    DiscreteVP,
    EulerMaruyama,
    LinearVP,
    LogSNR,
    PredictorCorrector,
    RowNoise,
    forward,
    linear_betas,
    sample,
)
from undiffuse.diffusion.oracle import Gaussian, Mixture
from undiffuse.errors import InputError

every_schedule = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)


def seeded(seed):
    """One stream for all rows: a law of large numbers needs many."""
    generator = torch.Generator().manual_seed(seed)
    return lambda like: torch.randn(like.shape, dtype=like.dtype, generator=generator)


@every_schedule
def test_forward_paths_have_the_marginals(schedule):
    """The mean is carried by z = 0 and the variance is the sum of squares of what each draw
    adds: alpha x, sigma^2.
    """
    stops = torch.cat(
        [times(0.0), torch.linspace(max(schedule.t_min, 0.01), 1, 6, dtype=torch.float64)]
    )
    x = torch.tensor([[1.5]]).double()
    still = forward(schedule, x, stops, torch.zeros_like)
    alpha, sigma = schedule(stops)
    torch.testing.assert_close(still.flatten(), 1.5 * alpha, rtol=1e-12, atol=1e-14)
    variance = torch.zeros(len(stops)).double()
    for k in range(len(stops) - 1):
        draws = iter(torch.eye(len(stops) - 1).double()[k])
        path = forward(schedule, x, stops, lambda like, draws=draws: next(draws).expand_as(like))
        variance += (path - still).flatten().square()
    torch.testing.assert_close(variance, sigma**2, rtol=1e-11, atol=1e-14)


def test_forward_over_the_levels_is_the_chain_as_printed():
    """x_i = sqrt(1 - beta_i) x_{i-1} + sqrt(beta_i) z (Notes after Ho et al. 2020,
    Eq. 2), draw by draw.
    """
    betas, draws = linear_betas(20), torch.randn(20, 3, 2).double()
    x, stream = torch.randn(3, 2).double(), iter(draws)
    levels = torch.arange(21, dtype=torch.float64) / 20
    path = forward(DiscreteVP(betas=betas), x, levels, lambda like: next(stream))
    for i, (beta, z) in enumerate(zip(betas, draws), start=1):
        x = math.sqrt(1 - beta) * x + math.sqrt(beta) * z
        torch.testing.assert_close(path[i], x, rtol=1e-11, atol=1e-11)


def test_a_path_that_does_not_ascend_is_refused():
    for stops in (times(0.5, 0.1), times(), times(0.2, 0.2), times(0.3)[0], times(0.1)[None]):
        with pytest.raises(InputError, match="ascend"):
            forward(LinearVP(), torch.zeros(1, 1), stops)
    alone = forward(LinearVP(), torch.ones(1, 1), times(0.4))
    assert torch.equal(alone, torch.ones(1, 1, 1))


def test_euler_maruyama_is_the_printed_equation():
    """Song et al. (2021), Eq. 6, on VP: f = -beta/2, g^2 = beta, written out."""
    schedule, (t, s) = LinearVP(), times(0.6, 0.55)
    oracle = Gaussian(schedule, torch.tensor([0.7]).double(), torch.tensor([0.6]).double())
    x, z = torch.randn(2, 4, 1).double()
    beta, h = 0.1 + 19.9 * 0.6, 0.05
    printed = x + (beta / 2 * x + beta * oracle.score(x, t)) * h + math.sqrt(beta * h) * z
    ours, _ = EulerMaruyama()(oracle, x, t, s, None, lambda like: z)
    torch.testing.assert_close(ours, printed, rtol=1e-9, atol=1e-9)


def test_where_no_signal_is_left_the_first_step_is_the_ancestral_one():
    schedule, (t, s) = CosineVP(), times(1.0, 0.9)
    oracle = Gaussian(schedule, torch.tensor([0.7]).double(), torch.tensor([0.6]).double())
    x, z = torch.randn(2, 4, 1).double()
    ours = [
        step(oracle, x, t, s, None, lambda like: z)[0] for step in (EulerMaruyama(), Ancestral())
    ]
    assert ours[0].isfinite().all()
    torch.testing.assert_close(*ours, rtol=0, atol=0)


def test_the_corrector_is_the_published_step():
    """Song et al. (2021), Algorithm 4, on VE, with the ratio of norms of noise and score
    at its value sigma.
    """
    schedule, (t, s) = VE(sigma_min=0.1, sigma_max=5.0), times(0.6, 0.55)
    oracle = Mixture(
        schedule, torch.tensor([[-1.0, 2.0], [1.0, 0.0]]).double(), torch.full((2, 2), 0.3).double()
    )
    x, *draws = torch.randn(4, 1, 2).double()
    stream = iter(draws)
    ours, _ = PredictorCorrector(predictor=Ancestral(), corrections=2, snr=0.2)(
        oracle, x, t, s, None, lambda like: next(stream)
    )
    printed, _ = Ancestral()(oracle, x, t, s, None, lambda like: draws[0])
    for z in draws[1:]:
        score = oracle.score(printed, s)
        e = 2 * (0.2 * schedule(s)[1]) ** 2
        printed = printed + e * score + (2 * e).sqrt() * z
    torch.testing.assert_close(ours, printed, rtol=1e-11, atol=1e-11)
    none = PredictorCorrector(predictor=Ancestral(), corrections=0)
    torch.testing.assert_close(
        none(oracle, x, t, s, None, lambda like: draws[0])[0],
        Ancestral()(oracle, x, t, s, None, lambda like: draws[0])[0],
    )


@pytest.mark.parametrize("step", [EulerMaruyama(), PredictorCorrector()], ids=repr)
def test_a_row_depends_on_its_own_seed_alone(step):
    oracle, grid = Mixture(EDM(), torch.randn(7, 3), torch.full((7, 3), 0.1)), LogSNR()(EDM(), 12)

    def rows(first, count):
        noise = RowNoise(5, count, first)
        return sample(oracle, 80 * noise(torch.empty(count, 3)), grid, step, noise=noise)

    torch.testing.assert_close(rows(0, 6)[2:5], rows(2, 3), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(rows(0, 1), rows(1, 1))


@pytest.mark.parametrize("predictor", [EulerMaruyama(), Ancestral()], ids=repr)
def test_predictor_corrector_reaches_the_moments_of_a_mixture(predictor):
    """Mean and second moment within four standard errors and the bias of the steps themselves."""
    schedule, n = VE(sigma_min=0.01, sigma_max=20.0), 3000
    mean = torch.cat([torch.tensor([[-1.5, 0.0], [1.5, 1.0]]), torch.zeros(2, 14)], 1).double()
    oracle = Mixture(
        schedule, mean, torch.full((2, 16), 0.4).double(), torch.tensor([0.3, 0.7]).log()
    )
    noise, step = seeded(3), PredictorCorrector(predictor=predictor, snr=0.1)
    start = schedule(times(1.0))[1] * noise(torch.empty(n, 16).double())
    x = sample(oracle, start, LogSNR()(schedule, 120), step, noise=noise)
    first = 0.3 * mean[0] + 0.7 * mean[1]
    second = 0.3 * mean[0] ** 2 + 0.7 * mean[1] ** 2 + 0.16
    for k, exact in ((1, first), (2, second)):
        slack = 4 * (x**k).std(0) / n**0.5 + 0.03 * (k == 2) * second
        assert bool(((x**k).mean(0) - exact).abs().lt(slack).all()), (k, (x**k).mean(0), exact)


def test_impossible_corrections_are_refused():
    for wrong in ({"corrections": -1}, {"snr": 0.0}):
        with pytest.raises(InputError, match="corrections"):
            PredictorCorrector(**wrong)


def test_the_corrector_of_a_chain_is_as_long_as_its_alpha_says():
    """Song et al. (2021), Algorithm 5: e = 2 alpha_i (snr sigma_i)^2, alpha_i = 1 - beta_i."""
    betas = (0.1, 0.3, 0.4, 0.2)
    schedule, (t, s) = DiscreteVP(betas=betas), times(0.75, 0.5)
    oracle = Gaussian(schedule, torch.tensor([0.7]).double(), torch.tensor([0.6]).double())
    x, *draws = torch.randn(3, 4, 1).double()
    stream = iter(draws)
    step = PredictorCorrector(predictor=Ancestral(), snr=0.2)
    ours, _ = step(oracle, x, t, s, None, lambda like: next(stream))
    printed, _ = Ancestral()(oracle, x, t, s, None, lambda like: draws[0])
    variance = 1 - 0.9 * 0.7
    e = 2 * (1 - betas[2]) * 0.2**2 * variance
    printed = printed + e * oracle.score(printed, s) + math.sqrt(2 * e) * draws[1]
    torch.testing.assert_close(ours, printed, rtol=1e-10, atol=1e-10)

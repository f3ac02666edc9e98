"""One model, every view: what is sampled depends neither on the schedule nor on the method."""

import math
from functools import cache

import pytest
import torch
from cases import SCHEDULE_CASES, times

from undiffuse.diffusion import (
    METHODS,
    AdaptiveODE,
    Ancestral,
    AnnealedLangevin,
    Denoiser,
    DiscreteVP,
    EulerMaruyama,
    Linear,
    LogSNR,
    PredictorCorrector,
    Uniform,
    linear_betas,
    sample,
)
from undiffuse.diffusion.oracle import Mixture
from undiffuse.diffusion.target import VTarget

HIGH_ORDER = {
    name: step for name, step in METHODS.items() if (step.order or 0) >= 2 and not step.adaptive
}
START, END = 5.0, 0.1  # sigma/alpha, inside every schedule


class Small(torch.nn.Module):
    """A fixed network that depends on the noise level."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = torch.randn(3, 16, generator=generator).double()
        self.second = torch.randn(16, 2, generator=generator).double() / 4

    def forward(self, x, c_noise):
        return torch.tanh(torch.cat([x, c_noise.double()[:, None]], 1) @ self.first) @ self.second


def mixture(schedule):
    mean = torch.tensor([[-1.5, 0.0], [1.5, 1.0], [0.0, -1.0]]).double()
    return Mixture(schedule, mean, torch.tensor([[0.4], [0.3], [0.5]]).double().expand(3, 2))


def network(schedule):
    return Denoiser(Small(), schedule, VTarget(), sigma_data=0.8)


def arrive(denoiser, schedule, step, steps):
    """x/alpha at sigma/alpha = END from a fixed x/alpha at START.

    By `steps` steps even in log-SNR.
    """
    k = torch.linspace(math.log(START), math.log(END), steps + 1, dtype=torch.float64).exp()
    grid = schedule.inverse(-2 * k.log())
    start = START * torch.tensor([[0.3, -0.8], [1.4, 0.2], [-0.5, 0.9]]).double()
    x = sample(denoiser.on(schedule), schedule(grid[0])[0] * start, grid, step)
    return x / schedule(grid[-1])[0]


@cache
def truth(made):
    """What the adaptive solver tends to, for the model of the straight path."""
    return arrive(made(Linear()), Linear(), AdaptiveODE(1e-9), 1)


@pytest.mark.parametrize("made", [mixture, network], ids=["mixture", "network"])
@pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)
def test_every_method_draws_the_same_flow_on_every_schedule(made, schedule):
    """A model of the straight path, on each schedule: the same points from the same start.

    The methods of high order see nothing but log-SNR and x/alpha: the schedule changes rounding
    alone. The adaptive solver finds the same to its tolerance.
    """
    denoiser = made(Linear())
    solved = arrive(denoiser, schedule, AdaptiveODE(1e-5), 1)
    torch.testing.assert_close(solved, truth(made), rtol=0, atol=1e-4)
    for name, step in HIGH_ORDER.items():
        ours, on_the_straight_path = (
            arrive(denoiser, other, step, 12) for other in (schedule, Linear())
        )
        torch.testing.assert_close(
            ours, on_the_straight_path, rtol=0, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("made", [mixture, network], ids=["mixture", "network"])
def test_every_method_of_high_order_tends_to_what_the_adaptive_solver_finds(made):
    denoiser = made(Linear())
    for name, step in HIGH_ORDER.items():
        ours = arrive(denoiser, Linear(), step, 24)
        torch.testing.assert_close(
            ours, truth(made), rtol=0, atol=0.02, msg=lambda m, n=name: f"{n}: {m}"
        )


def seeded(seed):
    """One stream for all rows: a law of large numbers needs many."""
    generator = torch.Generator().manual_seed(seed)
    return lambda like: torch.randn(like.shape, dtype=like.dtype, generator=generator)


DDPM = DiscreteVP(betas=linear_betas(1000))
WAYS = {
    "ancestral": (Ancestral(), Uniform(), 300),
    "reverse_sde": (EulerMaruyama(), Uniform(), 400),
    "predictor_corrector": (PredictorCorrector(), Uniform(), 200),
    "flow": (AdaptiveODE(), LogSNR(), 2),
    "annealed_langevin": (AnnealedLangevin(), LogSNR(), 200),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_ddpm_reaches_its_data_by_every_way(name):
    """Kolmogorov's distance to the data's distribution function.

    At the 99.9 % point of pure chance and 0.02.
    """
    (step, grid, steps), n = WAYS[name], 3000
    mean, std = torch.tensor([-1.5, 0.5]).double(), torch.tensor([0.2, 0.4]).double()
    oracle = Mixture(DDPM, mean[:, None], std[:, None], torch.tensor([0.3, 0.7]).double().log())
    noise = seeded(7)
    x = (
        sample(oracle, noise(torch.empty(n, 1).double()), grid(DDPM, steps), step, noise=noise)
        .flatten()
        .sort()[0]
    )
    exact = (torch.special.ndtr((x[:, None] - mean) / std) * torch.tensor([0.3, 0.7]).double()).sum(
        1
    )
    i = torch.arange(n).double()
    distance = torch.maximum((exact - i / n).abs(), (exact - (i + 1) / n).abs()).max()
    assert float(distance) < 1.95 / n**0.5 + 0.02
    assert float(DDPM(times(1.0))[0]) < 0.01  # so that a standard normal is its prior

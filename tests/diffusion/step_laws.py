"""The laws of steps, as functions of a step and a schedule: each raises AssertionError
where it is broken.

The data are one Gaussian, whose probability flow is known: it carries quantiles to
quantiles. All is affine in the start and in the noise, so that mean and variance are carried
without sampling error.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from undiffuse import selfcheck
from undiffuse.diffusion import STEPS, Grid, LogSNR, Schedule, Step, sample
from undiffuse.diffusion.oracle import Gaussian
from undiffuse.diffusion.schedules.process import as_times

MEAN, STD = torch.tensor([0.7]).double(), torch.tensor([0.6]).double()


def instances(*kinds: str) -> dict[str, Step]:
    """Every registered step with its default arguments and with its variants; or
    those of some kinds.
    """
    found = {}
    for kind in kinds or STEPS:
        found[kind] = STEPS[kind]()
        for name, arguments in STEPS[kind].variants.items():
            found[f"{kind}-{name}"] = STEPS[kind](**arguments)
    return found


def moments(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of x_t, in the closed form that selfcheck uses."""
    return selfcheck.gaussian_moments(schedule, t, MEAN, STD)


@cache
def uneven(schedule: Schedule, n: int) -> Tensor:
    """n + 1 times with sigma/alpha from 2 to 0.5: even neither in it, nor in its
    logarithm, nor in t.
    """
    v = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    log_ratio = math.log(2) * (1 - 2 * (v + 0.4 * v**2) / 1.4)
    return schedule.inverse(-2 * log_ratio)


def declares_one_order(step: Step) -> None:
    """A step has an order, a weak order, or neither: never both."""
    assert step.order is None or step.weak_order is None


def converges_at_its_order(step: Step, schedule: Schedule) -> float:
    """The largest error on the way, multistep methods started exactly, falls like n^-order.

    Returns the observed order; that of an adaptive step, held to its tolerance, is
    the declared one.
    """
    assert step.order is not None
    oracle, start = Gaussian(schedule, MEAN, STD), torch.tensor([[1.5]]).double()

    def error(n: int) -> float:
        times = uneven(schedule, n)
        mean, std = moments(schedule, times)
        exact, memory, worst = (mean + std * start)[0, :, None, None], None, 0.0
        x = exact[0]
        for i, (t, s) in enumerate(pairwise(times.unbind())):
            x, memory = step(oracle, x, t, s, memory, torch.zeros_like)
            worst = max(worst, float((x - exact[i + 1]).abs())) if i > 2 or n == 1 else 0.0
            x = exact[i + 1] if i < 3 else x  # the first steps only fill the memory
        return worst

    if step.adaptive:
        assert error(1) < 10 * step.tolerance
        return step.order
    few = 24 if step.order == 1 else 48
    observed = math.log2(error(few) / error(2 * few))
    assert abs(observed - step.order) < 0.2, observed
    return observed


def converges_at_its_weak_order(step: Step, schedule: Schedule) -> float:
    """The error of mean and variance together falls like n^-weak_order, which is returned."""
    assert step.weak_order is not None
    oracle = Gaussian(schedule, MEAN, STD)

    def error(n: int) -> float:
        times = uneven(schedule, n)
        mean, std = moments(schedule, times[0])
        draws = iter(torch.eye(n + 2, dtype=torch.float64)[1:, :, None])  # row i has the i-th alone
        x = sample(oracle, mean + std * next(draws), times, step, noise=lambda like: next(draws))
        mean, std = moments(schedule, times[-1])
        return float((x[0] - mean).abs() + ((x - x[0]).square().sum() - std**2).abs())

    few = 24
    observed = math.log2(error(few) / error(2 * few))
    assert abs(observed - step.weak_order) < 0.2, observed
    return observed


def reproduces_a_point(step: Step, schedule: Schedule, grid: Grid) -> None:
    """From any noise, in any number of steps, down to sigma = 0: the only point
    there is in the data.
    """
    point, (_, sigma) = torch.tensor([0.3, -1.7]).double(), schedule(as_times(1.0))
    oracle = Gaussian(schedule, point, torch.zeros(2).double())
    for steps in (1, 4):
        times = grid(schedule, steps)
        x = sample(oracle, sigma * torch.randn(3, 2).double(), times, step)
        torch.testing.assert_close(x, point.expand(3, 2), rtol=0, atol=1e-9)


def reaches_the_spread(step: Step, schedule: Schedule) -> None:
    """By its own grid and number of steps it brings mean and standard deviation to
    those of the data.

    Within 0.15 of the standard deviation: published settings are that far off.
    """
    oracle = Gaussian(schedule, MEAN, STD)
    times = (step.grid or LogSNR())(schedule, step.steps or 100)
    mean, std = moments(schedule, times[0])

    class Draws:
        count = 0

        def __call__(self, like: Tensor) -> Tensor:
            self.count += 1
            z = torch.zeros_like(like)
            if self.count < len(z):
                z[self.count] = 1
            return z

    draws = Draws()
    for rows in (2, None):  # once to count the draws, then with one row for each
        z, draws = torch.zeros(rows or draws.count + 1, 1).double(), Draws()
        z = draws(z)
        x = sample(oracle, mean + std * z, times, step, noise=draws)
    error = (x[0] - MEAN).abs() + ((x - x[0]).square().sum().sqrt() - STD).abs()
    assert float(error) < 0.15 * float(STD), float(error)

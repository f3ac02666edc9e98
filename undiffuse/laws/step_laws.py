"""The laws of steps.

The data are one Gaussian, whose probability flow is known: it carries quantiles to
quantiles. All is affine in the start and in the noise, so that mean and variance are carried
without sampling error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from undiffuse import selfcheck
from undiffuse.diffusion import (
    EDM,
    STEPS,
    Grid,
    LinearVP,
    LogSNR,
    Prior,
    RowNoise,
    Schedule,
    Step,
    Uniform,
    sample,
)
from undiffuse.diffusion.oracle import Gaussian, Mixture
from undiffuse.diffusion.schedules.process import as_times
from undiffuse.laws.broken import close, hold

MEAN, STD = torch.tensor([0.7]).double(), torch.tensor([0.6]).double()


def instances(*kinds: str) -> dict[str, Step]:
    """Every registered step, or those of some kinds, with its defaults and with its variants."""
    found = {}
    for kind in kinds or STEPS:
        found[kind] = STEPS[kind]()
        for name, arguments in STEPS[kind].variants.items():
            found[f"{kind}-{name}"] = STEPS[kind](**arguments)
    return found


def moments_at(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of x_t, in the closed form that selfcheck uses."""
    return selfcheck.gaussian_moments(schedule, t, MEAN, STD)


@cache
def uneven(schedule: Schedule, n: int) -> Tensor:
    """Times with sigma/alpha from 2 to 0.5: even neither in it, nor its logarithm, nor in t."""
    v = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    log_ratio = math.log(2) * (1 - 2 * (v + 0.4 * v**2) / 1.4)
    return schedule.inverse(-2 * log_ratio)


def declares_one_order(step: Step) -> None:
    """A step has an order, a weak order, or neither: never both."""
    hold(step.order is None or step.weak_order is None, "it declares an order and a weak order")


def converges_at_its_order(step: Step, schedule: Schedule) -> float:
    """The largest error on the way, multistep methods started exactly, falls like n^-order.

    Returns the observed order; that of an adaptive step, held to its tolerance, is
    the declared one.
    """
    if step.order is None:
        raise ValueError("this step declares no order")
    oracle, start = Gaussian(schedule, MEAN, STD), torch.tensor([[1.5]]).double()

    def error(n: int) -> float:
        times = uneven(schedule, n)
        mean, std = moments_at(schedule, times)
        exact, memory, worst = (mean + std * start)[0, :, None, None], None, 0.0
        x = exact[0]
        for i, (t, s) in enumerate(pairwise(times.unbind())):
            x, memory = step(oracle, x, t, s, memory, torch.zeros_like)
            worst = max(worst, float((x - exact[i + 1]).abs())) if i > 2 or n == 1 else 0.0
            x = exact[i + 1] if i < 3 else x  # the first steps only fill the memory
        return worst

    if step.adaptive:
        tolerance = float(getattr(step, "tolerance", 0.0))
        hold(error(1) < 10 * tolerance, f"its error is {error(1):.3g}, for {tolerance:g}")
        return step.order
    few = 24 if step.order == 1 else 48
    observed = math.log2(error(few) / error(2 * few))
    hold(abs(observed - step.order) < 0.2, f"{observed:.2f} was observed, not {step.order}")
    return observed


def converges_at_its_weak_order(step: Step, schedule: Schedule) -> float:
    """The error of mean and variance together falls like n^-weak_order, which is returned."""
    if step.weak_order is None:
        raise ValueError("this step declares no weak order")
    oracle = Gaussian(schedule, MEAN, STD)

    def error(n: int) -> float:
        times = uneven(schedule, n)
        mean, std = moments_at(schedule, times[0])
        draws = iter(torch.eye(n + 2, dtype=torch.float64)[1:, :, None])  # row i has the i-th alone
        x = sample(oracle, mean + std * next(draws), times, step, noise=lambda like: next(draws))
        mean, std = moments_at(schedule, times[-1])
        return float((x[0] - mean).abs() + ((x - x[0]).square().sum() - std**2).abs())

    few = 24
    observed = math.log2(error(few) / error(2 * few))
    found = f"{observed:.2f} was observed, not {step.weak_order}"
    hold(abs(observed - step.weak_order) < 0.2, found)
    return observed


def reproduces_a_point(step: Step, schedule: Schedule, grid: Grid) -> None:
    """From any noise, in any number of steps, to sigma = 0: the only point of the data."""
    point, (_, sigma) = torch.tensor([0.3, -1.7]).double(), schedule(as_times(1.0))
    oracle = Gaussian(schedule, point, torch.zeros(2).double())
    for steps in (1, 4):
        times = grid(schedule, steps)
        x = sample(oracle, sigma * torch.randn(3, 2).double(), times, step)
        close(x, point.expand(3, 2), f"{steps} steps on {type(schedule).__name__}", atol=1e-9)


def reaches_the_spread(step: Step, schedule: Schedule) -> None:
    """By its own grid and steps it brings mean and standard deviation to those of the data.

    Within 0.15 of the standard deviation: published settings are that far off.
    """
    oracle = Gaussian(schedule, MEAN, STD)
    times = (step.grid or LogSNR())(schedule, step.steps or 100)
    mean, std = moments_at(schedule, times[0])

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
    hold(float(error) < 0.15 * float(STD), f"they are {float(error):.3g} off, of {float(STD):g}")


def rows_are_independent(step: Step) -> None:
    """A row of samples of a mixture is what it is alone, and another with other noise."""
    schedule, mean = LinearVP(), torch.tensor([[1.0, -1.0], [-0.5, 0.3]]).double()
    oracle = Mixture(schedule, mean, torch.full_like(mean, 0.3))
    prior = Prior(schedule, mean.mean(0), mean.std(0))
    times = (step.grid or LogSNR())(schedule, 4)

    def drawn(rows: int, first: int = 0, seed: int = 0) -> Tensor:
        noise = RowNoise(seed, rows, first)
        x = prior.draw(noise(torch.empty(rows, 2).double()))
        return sample(oracle, x, times, step, noise=noise)

    whole = drawn(4)
    hold(whole.isfinite().all(), "it draws what is not finite")
    close(torch.cat([drawn(1), drawn(1, 1)]), whole[:2], "rows alone", atol=1e-9)
    close(drawn(2, 2), whole[2:], "the last two rows", atol=1e-9)
    hold((drawn(4, seed=1) - whole).abs().amax(1).min() > 1e-6, "the noise makes no difference")


def keeps_shape_and_type(step: Step) -> None:
    """Images of another type come back with their shape and type."""
    schedule, x = LinearVP(), torch.linspace(-1, 1, 48).reshape(2, 2, 3, 4)
    oracle = Gaussian(schedule, torch.zeros(2, 3, 4), torch.full((2, 3, 4), 0.5))
    drawn = sample(oracle, x, Uniform()(schedule, 3), step, noise=RowNoise(0, 2))
    found = f"{tuple(drawn.shape)} {drawn.dtype} of {tuple(x.shape)} {x.dtype}"
    hold((drawn.shape, drawn.dtype) == (x.shape, x.dtype), found)


def _converges(step: Step) -> None:
    for schedule in (LinearVP(), EDM()):
        if step.order is not None:
            converges_at_its_order(step, schedule)
        if step.weak_order is not None:
            converges_at_its_weak_order(step, schedule)


def _reproduces(step: Step) -> None:
    for schedule in (LinearVP(), EDM()):
        reproduces_a_point(step, schedule, Uniform())


def _reaches(step: Step) -> None:
    if step.from_noise:
        reaches_the_spread(step, EDM())


BY_DEFAULT = "a method reaches the mean and spread of a Gaussian"
STEP_LAWS: Mapping[str, Callable[[Step], None]] = {
    "a step has an order or a weak order, not both": declares_one_order,
    "a step converges at the order that it declares": _converges,
    "a row depends on its own noise alone, in any batch": rows_are_independent,
    "a step keeps the shape and the type of rows": keeps_shape_and_type,
    "a step reproduces a single point": _reproduces,
    BY_DEFAULT: _reaches,  # not of variants, which may be for more steps
}
"""What a step is held to, in a sentence -> the law."""

"""The cost of sampling methods in evaluations of the network, and how to limit it."""

from __future__ import annotations

from itertools import takewhile
from typing import Any, final

import torch
from torch import Tensor

from undiffuse.diffusion import METHODS, Grid, Schedule, Step, sample
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate, expand
from undiffuse.diffusion.schedules.process import Times
from undiffuse.errors import InputError

FEW = "dpmpp_sde"  # in place of a method that takes too many evaluations


def evaluations(step: Step, times: Times, schedule: Schedule) -> int:
    """Return how many evaluations of the network a sample takes along `times` (n,).

    They are counted on data at the origin.

    >>> from undiffuse.diffusion import EDM, Heun, Karras
    >>> evaluations(Heun(), Karras()(EDM(), 18), EDM())
    35
    """
    counter = _Counter(schedule)
    sample(counter, torch.zeros(1, 1), times, step, noise=torch.zeros_like)
    return counter.count


@final
class _Counter(AbstractDenoiser):
    """The denoiser of a point at the origin, which counts its evaluations."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule, self.count = schedule, 0

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        self.count += 1
        _, sigma = self.schedule(t)
        z_hat = x_t / expand(sigma, x_t) if bool((sigma > 0).all()) else torch.zeros_like(x_t)
        return Estimate(torch.zeros_like(x_t), z_hat, torch.full_like(x_t, 0.5))


def within(
    limit: int, step: Step, grid: Grid, steps: int, schedule: Schedule, *, replaceable: bool
) -> dict[str, Any]:
    """Return options of `sample` that take at most `limit` evaluations of the network a sample.

    A model whose own step takes more (a chain of a thousand levels, a stochastic equation, annealed
    dynamics) is sampled by SDE-DPM-Solver++(2M) (Lu et al. 2022b), one evaluation a step. On
    digits, from 10 steps to 50, it came closer to the data than the solvers of the probability
    flow, for a network of ddpm and one of ncsn.

    Args:
        limit: evaluations allowed.
        step: the model's own step.
        grid: its grid.
        steps: its number of steps.
        schedule: the forward process.
        replaceable: whether another step may take its place; otherwise fewer of its own are taken.

    Returns:
        Options of `sample`; none if the model's own way takes no more.

    Raises:
        InputError: if not one step fits.
    """

    def cost(count: int) -> int:
        return evaluations(step, grid(schedule, count), schedule)

    if steps <= limit and cost(steps) <= limit:
        return {}
    if replaceable:
        return {"method": FEW, "steps": min(limit, METHODS[FEW].steps or limit)}
    fitting = list(takewhile(lambda count: cost(count) <= limit, range(1, steps + 1)))
    if not fitting:
        raise InputError(
            f"evaluations {limit}: this model takes at least {cost(1)} for a sample; "
            "allow that many."
        )
    return {"steps": fitting[-1]}

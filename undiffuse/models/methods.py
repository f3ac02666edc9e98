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

SAMPLER = "deis"
"""The default of every diffusion model with levels: of exact Gaussians of standard deviations from
0.1 to 2 its samples are at most 0.5 % too wide or narrow on each preset's schedule. The published
ways are up to 12 % off, and those of chains and stochastic equations take 14 to 250 times as long.
"""


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

    Where its way of sampling takes more, a model is sampled by `SAMPLER`, one evaluation a step.

    Args:
        limit: evaluations allowed.
        step: what the model is sampled by.
        grid: its grid.
        steps: its number of steps.
        schedule: the forward process.
        replaceable: whether another step may take its place; otherwise fewer of its own are taken.

    Returns:
        Options of `sample`; none if the model's way takes no more.

    Raises:
        InputError: if not one step fits.
    """

    def cost(count: int) -> int:
        return evaluations(step, grid(schedule, count), schedule)

    if steps <= limit and cost(steps) <= limit:
        return {}
    if replaceable:
        return {"method": SAMPLER, "steps": min(limit, METHODS[SAMPLER].steps or limit)}
    fitting = list(takewhile(lambda count: cost(count) <= limit, range(1, steps)))
    if not fitting:
        raise InputError(
            f"evaluations {limit}: this model takes at least {cost(1)} for a sample; "
            "allow that many."
        )
    return {"steps": fitting[-1]}

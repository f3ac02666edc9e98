"""Sampling methods by name, for `sample(method=...)` and the command line; and what a method costs in evaluations."""

from __future__ import annotations

from itertools import takewhile
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from undiffuse.diffusion import (
    DDIM,
    DEIS,
    IPNDM,
    AdaptiveODE,
    Ancestral,
    AnnealedLangevin,
    DPMpp,
    DPMpp2S,
    DPMppSDE,
    Euler,
    EulerMaruyama,
    Grid,
    Heun,
    Karras,
    LogSNR,
    PredictorCorrector,
    Schedule,
    Step,
    UniPC,
    sample,
)
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate, expand
from undiffuse.diffusion.schedules.process import Times
from undiffuse.errors import InputError

FEW = "dpmpp_sde"  # in place of a method that takes too many evaluations


class Method(NamedTuple):
    """A step, the grid it is best on, and how many steps it is meant for; None: the model's own."""

    step: Step
    grid: Grid | None = None
    steps: int | None = None


METHODS: dict[str, Method] = {
    "ancestral": Method(Ancestral()),
    "ddim": Method(DDIM()),
    "deis": Method(DEIS(), Karras(), 18),
    "dpmpp": Method(DPMpp(), Karras(), 18),
    "dpmpp3": Method(DPMpp(order=3), Karras(), 18),
    "dpmpp_2s": Method(DPMpp2S(), Karras(), 10),
    "dpmpp_sde": Method(DPMppSDE(), Karras(), 36),
    "euler": Method(Euler()),
    "euler_maruyama": Method(EulerMaruyama(), LogSNR(), 500),
    "heun": Method(Heun(), Karras(), 18),
    "ipndm": Method(IPNDM(), Karras(), 18),
    "langevin": Method(AnnealedLangevin(), LogSNR(), 100),
    "ode": Method(AdaptiveODE(), LogSNR(), 2),  # one adaptive solution, then the step to zero noise
    "pc": Method(PredictorCorrector(), LogSNR(), 250),
    "unipc": Method(UniPC(), Karras(), 18),
}
"""Sampling methods by name."""


def evaluations(step: Step, times: Times, schedule: Schedule) -> int:
    """How many evaluations of the network a sample takes along `times`: counted at the origin, not declared.

    >>> from undiffuse.diffusion import EDM
    >>> evaluations(Heun(), Karras()(EDM(), 18), EDM())
    35
    """
    counter = _Counter(schedule)
    sample(counter, torch.zeros(1, 1), times, step, noise=torch.zeros_like)
    return counter.count


@final
class _Counter(AbstractDenoiser):
    """The denoiser of a point at the origin, which counts how often it is asked."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule, self.count = schedule, 0

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        self.count += 1
        _, sigma = self.schedule(t)
        z_hat = x_t / expand(sigma, x_t) if bool((sigma > 0).all()) else torch.zeros_like(x_t)
        return Estimate(torch.zeros_like(x_t), z_hat, torch.full_like(x_t, 0.5))


def within(limit: int, own: Method, schedule: Schedule, *, replaceable: bool) -> dict[str, Any]:
    """Options of `sample` that take no more than `limit` evaluations a sample; {} if the model's own way takes no more.

    A model whose own way takes more (a chain of a thousand levels, a stochastic equation, annealed dynamics) is sampled
    by SDE-DPM-Solver++(2M) (Lu et al. 2022b), an evaluation a step, in 36 of them or `limit`; or, if its step is not
    `replaceable`, in as many of its own steps as fit. On digits, from 10 steps to 50, it came nearer to the data than
    the solvers of the probability flow, for a network of ddpm and one of ncsn. Raises InputError if no step fits.
    """
    step, grid, steps = own
    assert grid is not None
    assert steps is not None

    def cost(count: int) -> int:
        return evaluations(step, grid(schedule, count), schedule)

    if steps <= limit and cost(steps) <= limit:
        return {}
    if replaceable:
        return {"method": FEW, "steps": min(limit, METHODS[FEW].steps or limit)}
    fitting = list(takewhile(lambda count: cost(count) <= limit, range(1, steps + 1)))
    if not fitting:
        raise InputError(
            f"evaluations {limit}: this model takes at least {cost(1)} for a sample; allow as many."
        )
    return {"steps": fitting[-1]}

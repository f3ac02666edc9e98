"""The stochastic differential equations, forward and in reverse, and predictor-corrector sampling.

    forward   dx = f x dt + g dw                           (Song et al. 2021, Eq. 5; Liu, Eq. 7)
    reverse   dx = [f x - g^2 grad log p_t(x)] dt + g dw   (Song et al. 2021, Eq. 6; Liu, Eq. 8)

f and g^2 are the schedule's. The forward equation is linear, so that its transition over any
interval is known: `forward` takes it exactly, and on the levels of a chain that is DDPM's chain
(Notes after Ho et al. 2020, Eq. 2; Kim and Lee 2024, Eq. 17; Liu, Eq. 4). The reverse one is not:
Euler-Maruyama is its first-order discretization.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from undiffuse.diffusion.denoiser import AbstractDenoiser
from undiffuse.diffusion.grid import Grid, LogSNR
from undiffuse.diffusion.schedules.process import Schedule, Times
from undiffuse.diffusion.steps.moves import Ancestral, Moved, Step
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise


def forward(schedule: Schedule, x: Tensor, times: Times, noise: Noise = torch.randn_like) -> Tensor:
    """Return a path of `x` (B, *), given at the first of the ascending `times` (n,): (n, B, *).

    x_t = a x_s + sqrt(b) z with (a, b) the transition from s to t, whatever the distance: each
    stop has the law of the SDE. Times i/T of a discrete chain make it the chain, one beta at a
    time. Raises InputError unless times ascend.

    >>> from undiffuse.diffusion.schedules.process import LinearVP
    >>> path = forward(LinearVP(), torch.ones(5, 2), torch.linspace(0, 1, 11, dtype=torch.float64))
    >>> path.shape
    torch.Size([11, 5, 2])
    """
    if times.ndim != 1 or not len(times) or bool((times.diff() <= 0).any()):
        raise InputError("times: a path takes one or more times that ascend.")
    path = [x]
    for s, t in pairwise(times.unbind()):
        a, b = schedule.transition(t, s)
        path.append(a * path[-1] + b.sqrt() * noise(x))
    return torch.stack(path)


@final
@dataclass(frozen=True)
class EulerMaruyama(Step):
    """One step of the reverse SDE in t (Song et al. 2021, Eq. 6; Liu, Eq. 8), h = t - s.

    x_s = x_t - h [f x_t - g^2 score] + g sqrt(h) z,   score = -z_hat / sigma_t

    The step to sigma_s = 0 returns alpha_s x_hat: g^2 / sigma_t is of the order of 1/h there,
    which no step resolves, while x_hat is the mean that the SDE ends at. Where alpha_t = 0 the
    drift is infinite, and that one step is the ancestral one: the same process, its transition
    taken exactly for the x_hat of the moment.
    """

    weak_order: ClassVar[int | None] = 1
    grid: ClassVar[Grid | None] = LogSNR()
    steps: ClassVar[int | None] = 500
    formula: ClassVar[str] = "x_t - (t - s)(f x_t - g^2 score) + g sqrt(t - s) z"
    source: ClassVar[str] = "Song et al. 2021, Eq. 6"

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        alpha_t, sigma_t = denoiser.schedule(t)
        if alpha_t == 0:
            return Ancestral()(denoiser, x_t, t, s, None, noise)
        f, g2 = denoiser.schedule.sde(t)
        drift = f * x_t + (g2 / sigma_t) * denoiser.noise(x_t, t)
        return x_t - (t - s) * drift + (g2 * (t - s)).sqrt() * noise(x_t), None


@final
@dataclass(frozen=True)
class ConsistencyStep(Step):
    """To the end of the path through x_t, and back to s with fresh noise.

    x_s = alpha_s f(x_t, t) + sigma_s z   (Song et al. 2023, "Consistency models", Algorithm 1)

    The denoiser stands for f, the end of the probability flow's path. Where it is exact, so is the
    law of x_s, whatever the levels.
    """

    from_noise: ClassVar[bool] = False  # of a denoiser that knows means it is no method
    formula: ClassVar[str] = "alpha_s f(x_t) + sigma_s z"
    source: ClassVar[str] = "Song et al. 2023, Algorithm 1"

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        alpha_s, sigma_s = denoiser.schedule(s)
        return alpha_s * denoiser(x_t, t) + sigma_s * noise(x_t), None


@final
@dataclass(frozen=True, kw_only=True)
class PredictorCorrector(Step):
    """A step of `predictor`, then `corrections` Langevin steps at the level reached.

    Song et al. (2021), Algorithms 2 to 5:

    x <- x + e score + sqrt(2 e) z',   e = 2 a (snr sigma_s)^2,   a = alpha_t^2 / alpha_s^2

    Published is snr |z'| / |score| for snr sigma_s, with norms averaged over the batch. At a
    noise level the score's norm is that of z / sigma_s, and the ratio sigma_s. Averaged, rows
    would depend on each other; taken row by row it depends on where the row is and on the noise
    it multiplies, and in few coordinates it is not even bounded: on a mixture in one it misses
    the distribution function by 0.27. a is the chain's 1 - beta; 1 for VE, as published. At
    sigma_s = 0 there is nothing to correct.

    Args:
        predictor: the step that goes from t to s.
        corrections: Langevin steps after it, at least 0.
        snr: the ratio of a correction's noise to its drift.

    Raises:
        InputError: for fewer than 0 corrections, and an `snr` that is not above 0.
    """

    predictor: Step = EulerMaruyama()
    corrections: int = 1
    snr: float = 0.16
    grid: ClassVar[Grid | None] = LogSNR()
    steps: ClassVar[int | None] = 250
    formula: ClassVar[str] = "a step, then Langevin at the new level"
    source: ClassVar[str] = "Song et al. 2021, Algorithms 2-5"

    def __post_init__(self) -> None:
        if self.corrections < 0 or not self.snr > 0:
            raise InputError(
                f"corrections {self.corrections}, snr {self.snr}: give 0 or more, and "
                "a ratio above 0."
            )

    @override
    def end(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        """The predictor's step: there is nothing to correct."""
        return self.predictor(denoiser, x_t, t, s, memory, noise)

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        x, memory = self.predictor(denoiser, x_t, t, s, memory, noise)
        (alpha_t, _), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        a = (alpha_t / alpha_s) ** 2
        e = 2 * a * self.snr**2  # in units of sigma_s^2
        for _ in range(self.corrections):
            x = x - e * sigma_s * denoiser.noise(x, s) + (2 * e).sqrt() * sigma_s * noise(x)
        return x, memory

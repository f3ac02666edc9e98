"""Langevin dynamics: sampling a density by its score alone, plain and annealed.

A chain that takes steps along the score and adds noise settles at the density, to first order in
the step:

    Full   x_i = x_{i-1} + eps score(x_{i-1}) + sqrt(2 eps) z          (Liu, Eq. 1)
    Half   x_i = x_{i-1} + eta/2 score(x_{i-1}) + sqrt(eta) z   (Kim and Lee 2024, Eq. 44)

They are one rule, eta = 2 eps; the drift of one with the noise of the other settles at half or
twice the variance. On N(0, s^2) each is an autoregression x_i = (1 - e) x_{i-1} + sqrt(2 e) s z
with e = eps/s^2, whose stationary variance is s^2 / (1 - e/2).

Plain, it crosses no empty region: it keeps whatever share of the modes it was started with.
Annealing over noise levels (Song and Ermon 2019, Algorithm 1) divides the mass while the modes
are still one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from undiffuse.diffusion.denoiser import AbstractDenoiser
from undiffuse.diffusion.grid import Grid, LogSNR
from undiffuse.diffusion.schedules.levels import step_share
from undiffuse.diffusion.schedules.process import LEAST_SAMPLED, Schedule, Times
from undiffuse.diffusion.steps.moves import Moved, Step
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise


class Convention(ABC):
    """What a step size means: (factor of the score, factor of the noise)."""

    @abstractmethod
    def __call__(self, size: float) -> tuple[float, float]:
        """Return the factors of the score and of the noise for a step of `size`."""


@final
@dataclass(frozen=True)
class Full(Convention):
    """(eps, sqrt(2 eps)): Liu, Eq. 1."""

    @override
    def __call__(self, size: float) -> tuple[float, float]:
        return size, math.sqrt(2 * size)


@final
@dataclass(frozen=True)
class Half(Convention):
    """(eta/2, sqrt(eta)): Kim and Lee (2024), Eq. 44; Song and Ermon (2019), Eq. 4."""

    @override
    def __call__(self, size: float) -> tuple[float, float]:
        return size / 2, math.sqrt(size)


def langevin(
    score: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    size: float,
    updates: int,
    convention: Convention = Full(),
    noise: Noise = torch.randn_like,
) -> Tensor:
    """Return `x` (B, *) after `updates` Langevin steps of the given `size` along a score.

    >>> x = torch.zeros(4000, 1)
    >>> x = langevin(lambda x: -x, x, size=0.1, updates=100)  # the score of N(0, 1)
    >>> bool((x.var() - 1 / (1 - 0.1 / 2)).abs() < 0.1)
    True
    """
    drift, spread = convention(size)
    for _ in range(updates):
        x = x + drift * score(x) + spread * noise(x)
    return x


@final
@dataclass(frozen=True, kw_only=True)
class Langevin(Step):
    """Langevin dynamics at the smallest noise level: `updates` of them for each step of any grid.

    What it was started from decides which modes it finds. `size` is in the units of x^2 and must
    be well below the level's sigma^2, or it diverges. To sigma_s = 0 it returns alpha_s x_hat.

    Args:
        size: of a step, in units of x^2.
        updates: Langevin steps for each step of the grid, at least 1.
        convention: which of the two published ways to write the step `size` is of.
    """

    size: float = 1e-6
    updates: int = 10
    convention: Convention = Full()
    from_noise: ClassVar[bool] = False
    formula: ClassVar[str] = "Langevin steps at one level"
    source: ClassVar[str] = "Liu, Eq. 1; Kim and Lee 2024, Eq. 44"

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        level = denoiser.schedule.last_time(LEAST_SAMPLED)

        def score(x: Tensor) -> Tensor:
            return denoiser.score(x, level)

        x = langevin(
            score,
            x_t,
            size=self.size,
            updates=self.updates,
            convention=self.convention,
            noise=noise,
        )
        return x, None

    @override
    def end(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        """alpha_s x_hat at the smallest noise level, after the updates."""
        x, _ = self.move(denoiser, x_t, t, s, memory, noise)
        return super().end(
            denoiser, x, denoiser.schedule.last_time(LEAST_SAMPLED), s, memory, noise
        )


@final
@dataclass(frozen=True, kw_only=True)
class AnnealedLangevin(Step):
    """`updates` Langevin steps at level t, then on to level s (Song and Ermon 2019, Algorithm 1).

    With y = x/alpha and k = sigma/alpha, the noise level that VE calls sigma_i, a step is y <- y
    + e k^2 score + sqrt(2 e) k z, that is x <- x - e sigma_t z_hat + sqrt(2 e) sigma_t z, and y
    is what is handed over. e = `epsilon` / k_min^2; if None, it is computed from the ratio of the
    two levels (Song and Ermon 2020, Technique 4). To sigma_s = 0 it returns alpha_s x_hat, the
    final denoise, at the e of the step before. Where alpha_t = 0 all is noise, and level t is
    left by DDIM.

    Args:
        updates: Langevin steps at each level, at least 1.
        epsilon: the step size at the lowest level, in units of y^2; None: by Technique 4.

    Raises:
        InputError: for fewer than 1 update, and an `epsilon` that is not above 0.
    """

    updates: int = 5
    epsilon: float | None = None
    grid: ClassVar[Grid | None] = LogSNR()
    steps: ClassVar[int | None] = 100
    formula: ClassVar[str] = "Langevin steps at each level"
    source: ClassVar[str] = "Song and Ermon 2019, Algorithm 1"

    def __post_init__(self) -> None:
        if self.updates < 1 or (self.epsilon is not None and not self.epsilon > 0):
            raise InputError(
                f"updates {self.updates}, epsilon {self.epsilon}: give at least 1 and "
                "a size above 0."
            )

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        if alpha_t == 0:
            x_hat, z_hat = denoiser.split(x_t, t)
            return alpha_s * x_hat + sigma_s * z_hat, None
        e = self.share(denoiser.schedule, float(sigma_t / alpha_t * alpha_s / sigma_s))
        return alpha_s / alpha_t * self._updated(denoiser, x_t, t, e, noise), e

    @override
    def end(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        """alpha_s x_hat, after the updates at level t."""
        e = memory if self.epsilon is None else self.share(denoiser.schedule, 1.0)
        x = self._updated(denoiser, x_t, t, e, noise) if e else x_t
        return super().end(denoiser, x, t, s, memory, noise)

    def _updated(
        self, denoiser: AbstractDenoiser, x: Tensor, t: Times, e: float, noise: Noise
    ) -> Tensor:
        """`x` (B, *) after the Langevin steps at level t, each of size e."""
        _, sigma = denoiser.schedule(t)
        for _ in range(self.updates):
            x = x - e * sigma * denoiser.noise(x, t) + math.sqrt(2 * e) * sigma * noise(x)
        return x

    def share(self, schedule: Schedule, gamma: float) -> float:
        """Return e, the step in units of the level's variance, for levels `gamma` apart.

        Raises InputError if e is above 1.
        """
        if self.epsilon is None:
            return step_share(gamma, self.updates)
        alpha, sigma = schedule(schedule.last_time(LEAST_SAMPLED))
        e = self.epsilon * float(alpha / sigma) ** 2
        if e > 1:
            raise InputError(
                f"epsilon {self.epsilon}: a step of {e:.3g} times the level's variance overshoots; "
                f"give at most {self.epsilon / e:.3g}, or None to have it computed."
            )
        return e


CONVENTIONS: dict[str, type[Convention]] = {"full": Full, "half": Half}

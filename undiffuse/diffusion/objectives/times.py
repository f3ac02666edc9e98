"""Which noise levels are trained: distributions of t in (t_min, 1], and how they are drawn.

A distribution is given by its quantile function, t = Q(u) with u uniform, so that any of them can
be drawn with low discrepancy: one offset and n equal strata leave less variance in the estimate of
a loss than n independent draws (Kingma et al. 2021, Appendix I.1).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from undiffuse.diffusion.registered import Registered
from undiffuse.diffusion.schedules.process import Schedule, Times
from undiffuse.diffusion.typed import ndtri

_LEAST = 1e-5  # time down to which a schedule without t_min is trained
_SEARCHING, _COORDINATES = (
    1024,
    1024,
)  # rows whose nearest neighbours are sought, and numbers of each
_SAME = 1e-6  # distance between rows that are the same, over their spread
_NEAREST = -4.0  # log of a distance below which densities are taken for smooth
_INSIDE = 1e-12  # uniform numbers are held this far above 0, where quantiles may be infinite


class TrainingTimes(Registered):
    """A distribution over (t_min, 1], by its quantile function."""

    @abstractmethod
    def quantile(self, schedule: Schedule, u: Times) -> Times:
        """Return the time below which (or above which) a share `u` of the training times lies.

        The order makes no difference to a uniform `u` in (0, 1).
        """

    def for_data(self, x: Tensor) -> TrainingTimes:
        """Return the distribution for rows `x` (N, *) at unit scale: this one, unless it adapts."""
        return self


@final
@dataclass(frozen=True)
class UniformTimes(TrainingTimes):
    """Uniform on [t_min, 1]."""

    def quantile(self, schedule: Schedule, u: Times) -> Times:
        """Return t_min + (1 - t_min) u."""
        return schedule.t_min + (1 - schedule.t_min) * u


@final
@dataclass(frozen=True)
class DiscreteTimes(TrainingTimes):
    """Uniform over the levels i/T, i = 1 .. T (Kim and Lee 2024, Algorithm 1, line 3).

    Args:
        levels: T; the schedule's own if None.
    """

    levels: int | None = None

    @classmethod
    def examples(cls) -> Mapping[str, DiscreteTimes]:
        """Return one with levels of its own, for schedules that have none."""
        return {"": cls(levels=50)}

    def quantile(self, schedule: Schedule, u: Times) -> Times:
        """Return (floor(u T) + 1) / T."""
        levels = schedule.count_levels(self.levels, "times discrete_times")
        return ((u * levels).floor() + 1).clamp(max=levels) / levels


@final
@dataclass(frozen=True)
class LogNormalTimes(TrainingTimes):
    """log(sigma/alpha/sigma_data) ~ N(mean, std^2), held to [t_min, 1].

    Karras et al. (2022), Table 1. Relative to sigma_data, the published mean of -1.2 at sigma_data
    = 0.5 is -1.2 - log(0.5) = -0.507.
    """

    mean: float = -0.507
    std: float = 1.2
    sigma_data: float = 1.0

    def quantile(self, schedule: Schedule, u: Times) -> Times:
        """Return the time of the quantile of sigma/alpha."""
        log_ratio = math.log(self.sigma_data) + self.mean + self.std * ndtri(u)
        return schedule.inverse(-2 * log_ratio).clamp(min=schedule.t_min)


@final
@dataclass(frozen=True)
class FittedTimes(TrainingTimes):
    """`LogNormalTimes` whose mean and width the data decide; before, the published ones.

    Between the data's standard deviation s and the distance d of a row to the nearest other one,
    over sqrt(D), the denoiser has something to learn: above, it returns the mean, below, the row
    itself. With L = log(d / sqrt(D) / s) the mean is L / 2 and the variance 1.2^2 + (L / 2)^2.
    Published values suit images, where L is about -1; rows of a few numbers lie closer, and their
    density depends on levels that those hardly train.
    """

    def quantile(self, schedule: Schedule, u: Times) -> Times:
        """Return the quantile of the published distribution."""
        return LogNormalTimes().quantile(schedule, u)

    def for_data(self, x: Tensor) -> LogNormalTimes:
        """Return the distribution for rows `x` (N, *), whose first 1,024 look for the nearest.

        Of long rows some 1,024 coordinates are compared, evenly spread.

        >>> fitted = FittedTimes().for_data(torch.tensor([[-1.0], [-0.9], [0.9], [1.0]]))
        >>> round(fitted.mean, 2), round(fitted.std, 2)
        (-1.13, 1.65)
        """
        rows = x.flatten(1)
        rows = rows[:, :: -(-rows.shape[1] // _COORDINATES)].double()
        spread = float(rows.std(correction=0)) * rows.shape[1] ** 0.5
        distances = torch.cdist(rows[:_SEARCHING], rows).fill_diagonal_(math.inf)
        distances[distances < _SAME * spread] = math.inf  # copies
        near = distances.amin(1)
        near = near[near.isfinite()]
        if not len(near) or not spread:
            return LogNormalTimes()
        middle = min(max(math.log(float(near.median()) / spread), _NEAREST), 0.0) / 2
        return LogNormalTimes(mean=middle, std=math.hypot(LogNormalTimes.std, middle))


@final
@dataclass(frozen=True)
class LogitNormalTimes(TrainingTimes):
    """logit(t) ~ N(mean, std^2), held to [t_min, 1] (Esser et al. 2024, Eq. 19)."""

    mean: float = 0.0
    std: float = 1.0

    def quantile(self, schedule: Schedule, u: Times) -> Times:
        """Return the sigmoid of the normal quantile."""
        t = torch.sigmoid(self.mean + self.std * ndtri(u))
        return t.clamp(min=max(schedule.t_min, _LEAST))


class Draw(Registered):
    """How the uniform variables behind the training times are drawn: torch's global generator."""

    @abstractmethod
    def __call__(self, n: int) -> Times:
        """Return `n` numbers in (0, 1), each uniform."""


@final
@dataclass(frozen=True)
class Independent(Draw):
    """Independent draws."""

    def __call__(self, n: int) -> Times:
        """Return `n` independent numbers."""
        return torch.rand(n, dtype=torch.float64).clamp(min=_INSIDE)


@final
@dataclass(frozen=True)
class LowDiscrepancy(Draw):
    """One uniform offset and n equal strata, shuffled (Kingma et al. 2021, Appendix I.1)."""

    def __call__(self, n: int) -> Times:
        """Return one number in each of `n` equal strata."""
        u = (torch.rand(1, dtype=torch.float64) + torch.arange(n, dtype=torch.float64) / n) % 1
        return u[torch.randperm(n)].clamp(min=_INSIDE)

"""Which noise levels are trained: distributions of t in (t_min, 1], and how their randomness is drawn.

A distribution is given by its quantile function, t = Q(u) with u uniform, so that any of them can be drawn with low
discrepancy: one offset and n equal strata leave less variance in the estimate of a loss than n independent draws
(Kingma et al. 2021, Appendix I.1).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch

from undiffuse.diffusion.schedules.process import Schedule, Times


class TrainingTimes(ABC):
    """A distribution over (t_min, 1], by its quantile function."""

    @abstractmethod
    def quantile(self, schedule: Schedule, u: Times) -> Times:
        """The time below which a share `u` in (0, 1) of the training times lies."""


@final
@dataclass(frozen=True)
class UniformTimes(TrainingTimes):
    """Uniform on [t_min, 1]."""

    def quantile(self, schedule: Schedule, u: Times) -> Times:
        return schedule.t_min + (1 - schedule.t_min) * u


@final
@dataclass(frozen=True)
class DiscreteTimes(TrainingTimes):
    """Uniform over the levels i/T, i = 1 .. T (Kim and Lee 2024, Algorithm 1, line 3)."""

    levels: int | None = None

    def quantile(self, schedule: Schedule, u: Times) -> Times:
        levels = schedule.count_levels(self.levels, "times discrete_times")
        return ((u * levels).floor() + 1).clamp(max=levels) / levels


@final
@dataclass(frozen=True)
class LogNormalTimes(TrainingTimes):
    """log(sigma/alpha/sigma_data) ~ N(mean, std^2), held to the schedule's [t_min, 1] (Karras et al. 2022, Table 1).

    Relative to sigma_data, the published mean of -1.2 at sigma_data = 0.5 is -1.2 - log(0.5) = -0.507.
    """

    mean: float = -0.507
    std: float = 1.2
    sigma_data: float = 1.0

    def quantile(self, schedule: Schedule, u: Times) -> Times:
        log_ratio = math.log(self.sigma_data) + self.mean + self.std * torch.special.ndtri(u)
        return schedule.inverse(-2 * log_ratio).clamp(min=schedule.t_min)


@final
@dataclass(frozen=True)
class LogitNormalTimes(TrainingTimes):
    """logit(t) ~ N(mean, std^2) (Esser et al. 2024, Eq. 19), held to [t_min, 1]."""

    mean: float = 0.0
    std: float = 1.0

    def quantile(self, schedule: Schedule, u: Times) -> Times:
        t = torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))
        return t.clamp(min=max(schedule.t_min, 1e-5))


class Draw(ABC):
    """How the uniform variables behind the training times are drawn; uses torch's global generator."""

    @abstractmethod
    def __call__(self, n: int) -> Times:
        """`n` numbers in (0, 1), each uniform."""


@final
@dataclass(frozen=True)
class Independent(Draw):
    """Independent draws."""

    def __call__(self, n: int) -> Times:
        return torch.rand(n, dtype=torch.float64).clamp(min=1e-12)


@final
@dataclass(frozen=True)
class LowDiscrepancy(Draw):
    """One uniform offset and n equal strata (Kingma et al. 2021, Appendix I.1), in shuffled order: less variance."""

    def __call__(self, n: int) -> Times:
        u = (torch.rand(1, dtype=torch.float64) + torch.arange(n, dtype=torch.float64) / n) % 1
        return u[torch.randperm(n)].clamp(min=1e-12)


TIMES: dict[str, type[TrainingTimes]] = {
    "uniform_times": UniformTimes,
    "discrete_times": DiscreteTimes,
    "log_normal_times": LogNormalTimes,
    "logit_normal_times": LogitNormalTimes,
}
DRAWS: dict[str, type[Draw]] = {"independent": Independent, "low_discrepancy": LowDiscrepancy}

"""Noise levels and step sizes of annealed Langevin dynamics (Song and Ermon 2020).

Technique 1: sigma_max is the largest distance between two rows, noise that carries any row to any
other.

Technique 2: neighbouring levels overlap, gamma = sigma_{i-1}/sigma_i in D coordinates with

    Phi(sqrt(2 D) (gamma - 1) + 3 gamma) - Phi(sqrt(2 D) (gamma - 1) - 3 gamma) = 1/2

Technique 4: the step brings the variance handed over from the level before nearest to this level's
own. On a single point, with steps of e sigma_i^2, the ratio of the variance to sigma_i^2 goes
v <- (1 - e)^2 v + 2 e, so that after T steps (Proposition 3)

    v_T = (1 - e)^{2T} (gamma^2 - v) + v,   v = 2 / (2 - e)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from undiffuse.diffusion.schedules.process import VE, Schedule, Times

_ROWS = 2048  # rows that distances are measured on
_BLOCK = 256
_WIDEST = 1.5  # below 20 coordinates Technique 2 asks for ever fewer levels, below 5 for none


def largest_distance(x: Tensor) -> float:
    """Return the largest Euclidean distance between rows of `x` (N, *), of at most 2,048 of them.

    >>> largest_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0]]))
    5.0
    """
    rows = x[torch.linspace(0, len(x) - 1, min(len(x), _ROWS)).long()].flatten(1).double()
    blocks = (rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK))
    exact = "donot_use_mm_for_euclid_dist"
    return max(float(torch.cdist(block, rows, compute_mode=exact).max()) for block in blocks)


def _below(x: float) -> float:
    """The distribution function of the standard normal."""
    return (1 + math.erf(x / math.sqrt(2))) / 2


def level_ratio(coordinates: int) -> float:
    """Return gamma of Technique 2, at most 3/2.

    >>> round(level_ratio(3072), 3)
    1.04
    """
    low, high, steep = 1.0, _WIDEST, math.sqrt(2 * coordinates)

    def overlap(gamma: float) -> float:
        middle = steep * (gamma - 1)
        return _below(middle + 3 * gamma) - _below(middle - 3 * gamma)

    if overlap(high) >= 0.5:
        return high
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if overlap(middle) > 0.5 else (low, middle)
    return low


def variance_ratio(e: Tensor, gamma: float, updates: int) -> Tensor:
    """Return v_T for steps of `e` sigma^2, float64 (*): Proposition 3."""
    settled = 2 / (2 - e)
    return (1 - e) ** (2 * updates) * (gamma**2 - settled) + settled


def step_share(gamma: float, updates: int) -> float:
    """Return e in (0, 1) for which v_T is nearest to 1.

    It is above 1 for all of them: the level before was the wider.

    CIFAR-10 has 232 levels from 50 to 0.01 and 5 updates each; the published step is 6.2e-6.

    >>> gamma = 5000 ** (1 / 231)
    >>> f"{step_share(gamma, 5) * 0.01**2:.1e}"
    '6.2e-06'
    """
    e = torch.logspace(-6, 0, 6_001, dtype=torch.float64)
    return float(e[variance_ratio(e, gamma, updates).argmin()])


@final
@dataclass(frozen=True, kw_only=True)
class FittedVE(Schedule):
    """VE with levels that the data decide; before, VE from 50 to `sigma_min` in 232 levels.

    Args:
        sigma_min: the lowest noise level at unit scale, unless a twelfth of the spread of the data
            is less; the highest comes from the data.

    >>> schedule = FittedVE().for_data(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    >>> schedule.sigma_max, schedule.levels
    (5.0, 17)
    """

    sigma_min: float = 0.01
    levels: ClassVar[int | None] = 232  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def t_min(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """1/232."""
        return self._until_then().t_min

    def _until_then(self) -> VE:
        return VE(sigma_min=self.sigma_min, sigma_max=50.0, levels=self.levels)

    def marginal(self, t: Times) -> tuple[Times, Times]:
        """Return (alpha_t, sigma_t)."""
        return self._until_then().marginal(t)

    def slopes(self, t: Times) -> tuple[Times, Times]:
        """Return (d alpha/dt, d sigma/dt)."""
        return self._until_then().slopes(t)

    def inverse(self, log_snr: Times) -> Times:
        """Return the time of this log-SNR."""
        return self._until_then().inverse(log_snr)

    def for_data(self, x: Tensor) -> VE:
        """Return VE from the largest distance between rows of `x` (N, *) down to sigma_min.

        The largest noise level is at least ten times the least, and the least at most a twelfth of
        the data's standard deviation s: the step to zero noise ends at E[x | x_t], which is too
        narrow by sigma_min^2 / (2 s^2), then less than 0.4 %.
        """
        spread = float(x.double().std(correction=0))
        sigma_min = min(self.sigma_min, spread / 12) or self.sigma_min
        sigma_max = max(largest_distance(x), 10 * sigma_min)
        between = math.log(sigma_max / sigma_min) / math.log(level_ratio(x[0].numel()))
        return VE(sigma_min=sigma_min, sigma_max=sigma_max, levels=math.ceil(between) + 1)

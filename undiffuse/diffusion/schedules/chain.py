"""The discrete chain of DDPM as a schedule, and the tables of beta.

    q(x_i | x_{i-1}) = N(sqrt(1 - beta_i) x_{i-1}, beta_i I),   i = 1 .. T

(Ho et al. 2020, Eq. 2) is a variance-preserving schedule whose rate is constant on each of its T
intervals, -T log(1 - beta_i), so that alpha_{i/T}^2 is exactly the cumulative product of 1 - beta.
That product is `alpha_t` in Kim and Lee (2024) and Malhotra (2024), and `alpha-bar_t` in Ho et al.
(2020), the notes after them and the handwritten notes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from undiffuse.diffusion.schedules.process import (
    Schedule,
    Times,
    preserved,
    preserved_slopes,
    rate_integral,
)
from undiffuse.errors import InputError

_LARGEST = 0.999  # beta of a table that would end in 1, and so without signal


def linear_betas(levels: int = 1000, low: float = 1e-4, high: float = 0.02) -> tuple[float, ...]:
    """Return beta linear in the level, scaled by 1000/T so that other T have the same end.

    Ho et al. (2020), section 4.

    Args:
        levels: T, the number of levels.
        low: beta of the first of 1,000 levels.
        high: beta of the last of them.

    >>> betas = linear_betas(1000)
    >>> betas[0], betas[-1]
    (0.0001, 0.02)
    """
    scale = 1000 / levels
    last = min(scale * high, _LARGEST)
    return _floats(torch.linspace(scale * low, last, levels, dtype=torch.float64))


def cosine_betas(
    levels: int = 1000, offset: float = 0.008, largest: float = _LARGEST
) -> tuple[float, ...]:
    """Return beta for alpha-bar proportional to cos^2, each at most `largest`.

    Nichol and Dhariwal (2021), Eq. 17.

    Args:
        levels: T, the number of levels.
        offset: s of the paper, which keeps the first beta from being tiny.
        largest: the most that a beta can be, below 1.
    """
    t = torch.linspace(0, 1, levels + 1, dtype=torch.float64)
    return _betas(torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2, largest)


def sigmoid_betas(
    levels: int = 1000, low: float = -3.0, high: float = 3.0, tau: float = 1.0
) -> tuple[float, ...]:
    """Return beta for alpha-bar a sigmoid of t between `low` and `high`, each at most 0.999.

    Jabri et al. (2022), Algorithm 1.

    Args:
        levels: T, the number of levels.
        low: where the sigmoid starts.
        high: where it ends.
        tau: its temperature.
    """
    t = torch.linspace(0, 1, levels + 1, dtype=torch.float64)
    start, end = (1 / (1 + math.exp(at / tau)) for at in (low, high))
    alpha_bar = (torch.sigmoid(-(t * (high - low) + low) / tau) - end) / (start - end)
    return _betas(alpha_bar, _LARGEST)


def _betas(alpha_bar: Tensor, largest: float) -> tuple[float, ...]:
    return _floats((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=largest))


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


@final
@dataclass(frozen=True, kw_only=True)
class DiscreteVP(Schedule):
    """The DDPM chain for any table beta_1 .. beta_T, exact at its knots t = i/T.

    Ho et al. (2020), Eq. 2-4. Between knots the rate is constant. A table that ends in beta_T = 1
    has alpha_1 = 0: B is infinite at t = 1, and on its last interval it grows as it must for alpha
    to fall linearly.

    Args:
        betas: the table.

    Raises:
        InputError: for an empty table or a beta outside (0, 1), except a last one of exactly 1.
    """

    betas: tuple[float, ...] = linear_betas()

    @classmethod
    def examples(cls) -> Mapping[str, DiscreteVP]:
        """Return one of each published table, and one that ends without signal."""
        return {
            "": cls(),
            "cosine": cls(betas=cosine_betas(100)),
            "sigmoid": cls(betas=sigmoid_betas(100)),
            "ending_in_1": cls(betas=(*linear_betas(49), 1.0)),
        }

    def __post_init__(self) -> None:
        inside = all(0 < beta < 1 for beta in self.betas[:-1])
        if not self.betas or not inside or not 0 < self.betas[-1] <= 1:
            raise InputError("betas: every beta must lie in (0, 1), only the last may be 1.")

    @property
    def levels(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """T."""
        return len(self.betas)

    @property
    def t_min(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """1/T, the first level."""
        return 1 / len(self.betas)

    @cached_property
    def _knots(self) -> Tensor:
        beta = torch.tensor(self.betas, dtype=torch.float64)
        return torch.cat([beta.new_zeros(1), -torch.log1p(-beta).cumsum(0)])

    def _interval(self, t: Times) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Where in its interval `t` lies, B at its start, how much B grows, whether it ends in 1.

        Where B ends infinite, its growth is given as 0.
        """
        position = t * self.levels
        nearest = position.round()  # a knot is a knot, whatever rounding made of i/T
        position = torch.where((position - nearest).abs() < 1e-9, nearest, position)
        i = position.floor().clamp(0, self.levels - 1).long()
        low, high = self._knots[i], self._knots[i + 1]
        ends = high.isinf()
        return position - i, low, torch.where(ends, 0.0, high - low), ends

    def marginal(self, t: Times) -> tuple[Times, Times]:
        """Return (alpha_t, sigma_t)."""
        share, low, growth, ends = self._interval(t)
        alpha, sigma = preserved(low + share * growth)
        falling = alpha * (1 - share)
        return torch.where(ends, falling, alpha), torch.where(ends, (1 - falling**2).sqrt(), sigma)

    def slopes(self, t: Times) -> tuple[Times, Times]:
        """Return (d alpha/dt, d sigma/dt), at a knot those of the interval that it begins."""
        share, low, growth, ends = self._interval(t)
        d_alpha, d_sigma = preserved_slopes(low + share * growth, growth * self.levels)
        start, _ = preserved(low)
        alpha, sigma = self.marginal(t)
        fall = -start * self.levels
        return torch.where(ends, fall, d_alpha), torch.where(ends, -alpha * fall / sigma, d_sigma)

    def inverse(self, log_snr: Times) -> Times:
        """Return the time of this log-SNR."""
        B = rate_integral(log_snr)
        i = (torch.searchsorted(self._knots, B.contiguous(), right=True) - 1).clamp(
            0, self.levels - 1
        )
        low, high = self._knots[i], self._knots[i + 1]
        share = torch.where(high.isinf(), -torch.expm1((low - B) / 2), (B - low) / (high - low))
        return ((i + share) / self.levels).clamp(0, 1)

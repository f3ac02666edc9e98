"""The discrete chain of DDPM as a schedule, and the tables of beta.

    q(x_i | x_{i-1}) = N(sqrt(1 - beta_i) x_{i-1}, beta_i I),   i = 1 .. T           (Ho et al. 2020, Eq. 2)

is a variance-preserving schedule whose rate is constant on each of its T intervals, -T log(1 - beta_i), so that
alpha_{i/T}^2 is exactly the cumulative product of 1 - beta. That product is `alpha_t` in Kim and Lee (2024) and
Malhotra (2024), and `alpha-bar_t` in Ho et al. (2020), the notes after them and the handwritten notes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from undiffuse.diffusion.schedules.process import Schedule, Times, preserved, rate_integral
from undiffuse.errors import InputError


@final
@dataclass(frozen=True, kw_only=True)
class DiscreteVP(Schedule):
    """The DDPM chain for any table beta_1 .. beta_T (Ho et al. 2020, Eq. 2-4), exact at its knots t = i/T.

    Between knots the rate is constant. A table that ends in beta_T = 1 has alpha_1 = 0: B is infinite at t = 1, and
    on its last interval it grows as it must for alpha to fall linearly.

    Raises InputError for an empty table or a beta outside (0, 1), except a last one of exactly 1.
    """

    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        inside = all(0 < beta < 1 for beta in self.betas[:-1])
        if not self.betas or not inside or not 0 < self.betas[-1] <= 1:
            raise InputError("betas: every beta must lie in (0, 1), only the last may be 1.")

    @property
    def levels(self) -> int:  # type: ignore[override]
        return len(self.betas)

    @property
    def t_min(self) -> float:  # type: ignore[override]
        return 1 / len(self.betas)

    @cached_property
    def _knots(self) -> Tensor:
        beta = torch.tensor(self.betas, dtype=torch.float64)
        return torch.cat([beta.new_zeros(1), -torch.log1p(-beta).cumsum(0)])

    def marginal(self, t: Times) -> tuple[Times, Times]:
        position = t * self.levels
        nearest = position.detach().round()  # a knot is a knot, whatever rounding made of i/T
        position = torch.where(
            (position - nearest).abs() < 1e-9, nearest + (position - position.detach()), position
        )
        i = position.detach().floor().clamp(0, self.levels - 1).long()
        share, low, high = position - i, self._knots[i], self._knots[i + 1]
        ends = high.isinf()
        alpha, sigma = preserved(low + share * torch.where(ends, 0.0, high - low))
        falling = alpha * (1 - share)
        return torch.where(ends, falling, alpha), torch.where(ends, (1 - falling**2).sqrt(), sigma)

    def inverse(self, log_snr: Times) -> Times:
        B = rate_integral(log_snr)
        i = (torch.searchsorted(self._knots, B.contiguous(), right=True) - 1).clamp(
            0, self.levels - 1
        )
        low, high = self._knots[i], self._knots[i + 1]
        share = torch.where(high.isinf(), -torch.expm1((low - B) / 2), (B - low) / (high - low))
        return ((i + share) / self.levels).clamp(0, 1)


def linear_betas(levels: int = 1000, low: float = 1e-4, high: float = 0.02) -> tuple[float, ...]:
    """Beta linear in the level (Ho et al. 2020, section 4); scaled by 1000/T so that other T keep the same end.

    >>> betas = linear_betas(1000)
    >>> betas[0], betas[-1]
    (0.0001, 0.02)
    """
    scale = 1000 / levels
    return tuple(
        torch.linspace(scale * low, min(scale * high, 0.999), levels, dtype=torch.float64).tolist()
    )


def cosine_betas(
    levels: int = 1000, offset: float = 0.008, largest: float = 0.999
) -> tuple[float, ...]:
    """alpha-bar proportional to cos^2 (Nichol and Dhariwal 2021, Eq. 17), each beta at most `largest`."""
    t = torch.linspace(0, 1, levels + 1, dtype=torch.float64)
    alpha_bar = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return tuple((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=largest).tolist())


def sigmoid_betas(
    levels: int = 1000, low: float = -3.0, high: float = 3.0, tau: float = 1.0
) -> tuple[float, ...]:
    """alpha-bar a sigmoid of t between `low` and `high` (Jabri et al. 2022, Algorithm 1), each beta at most 0.999."""
    t = torch.linspace(0, 1, levels + 1, dtype=torch.float64)
    end = torch.sigmoid(torch.tensor(-high / tau, dtype=torch.float64))
    start = torch.sigmoid(torch.tensor(-low / tau, dtype=torch.float64))
    alpha_bar = (torch.sigmoid(-(t * (high - low) + low) / tau) - end) / (start - end)
    return tuple((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999).tolist())

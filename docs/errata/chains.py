"""Chains short enough that the truth is an integral: one level of a long chain, and a whole chain
of two levels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from errata import line, log_normal, moments, row, scalar
from undiffuse.diffusion import DiscreteVP, gaussian, linear_betas


class Level:
    """Level 3 of the chain with betas (0.1, 0.2, 0.3): `bar` and `before` are the products at 3 and
    at 2.
    """

    betas = (0.1, 0.2, 0.3)
    schedule = DiscreteVP(betas=betas)
    t, s = scalar(1.0), scalar(2 / 3)
    beta = 0.3
    before = 0.9 * 0.8
    bar = 0.9 * 0.8 * 0.7
    x, x_t = 0.8, -0.5
    noise = (x_t - math.sqrt(bar) * x) / math.sqrt(1 - bar)
    beta_tilde = beta * (1 - before) / (1 - bar)

    @classmethod
    def integrated_posterior(cls, x: float | None = None) -> tuple[float, float]:
        """Mean and variance of q(x_s | x_t, x), by integrating q(x_t | x_s) q(x_s | x) over x_s."""
        x = cls.x if x is None else x
        at = line()
        kernel = log_normal(at, math.sqrt(cls.before) * x, 1 - cls.before)
        return moments(
            log_normal(scalar(cls.x_t), math.sqrt(1 - cls.beta) * at, cls.beta) + kernel, at
        )

    @classmethod
    def coefficients(cls) -> tuple[float, float, float]:
        """The library's (a, b, v) of q(x_s | x_t, x) = N(a x_t + b x, v)."""
        a, b, v = (float(c) for c in cls.schedule.posterior(cls.t, cls.s))
        return a, b, v


class Terms(NamedTuple):
    """The bound of a chain with T = 2 in closed form, each term in nats."""

    L_T: float
    L_1: float
    L_0: float

    @property
    def bound(self) -> float:
        return -(self.L_T + self.L_1 + self.L_0)


class TwoLevels:
    """x = 1.2, betas (0.3, 0.5), p(x_2) = N(0, 1), p(x_1 | x_2) = N(0.6 x_2, 0.5), p(x | x_1) =
    N(0.9 x_1, 0.2).
    """

    x, betas = 1.2, (0.3, 0.5)
    gain_1, v_1 = 0.6, 0.5
    gain_0, v_0 = 0.9, 0.2
    schedule = DiscreteVP(betas=betas)

    @classmethod
    def integrated(cls, *, log_ratio: bool = True) -> float:
        """E_q of log p(x, x_1, x_2) / q(x_1, x_2 | x), or of the ratio itself, on a grid of the
        plane.
        """
        x_1, x_2, log_p, log_q = cls._plane()
        values = log_q.exp() * (log_p - log_q) if log_ratio else log_p.exp()
        return float(torch.trapezoid(torch.trapezoid(values, x_2, dim=1), x_1, dim=0))

    @classmethod
    def _plane(cls) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        at = line(points=801)
        x_1, x_2 = at[:, None], at[None, :]
        log_q = log_normal(x_1, math.sqrt(0.7) * cls.x, 0.3) + log_normal(
            x_2, math.sqrt(0.5) * x_1, 0.5
        )
        log_p = (
            log_normal(x_2, 0.0, 1.0)
            + log_normal(x_1, cls.gain_1 * x_2, cls.v_1)
            + log_normal(scalar(cls.x), cls.gain_0 * x_1, cls.v_0)
        )
        return at, at, log_p, log_q

    @classmethod
    def terms(cls) -> Terms:
        """L_T, L_1, L_0 from the library's kernel, posterior and divergence.

        Expectations of squares by moments.
        """
        half, whole = scalar(0.5), scalar(1.0)
        (alpha_1, sigma_1), (alpha_2, sigma_2) = cls.schedule(half), cls.schedule(whole)
        L_T = gaussian.kl(alpha_2 * row(cls.x), sigma_2**2, row(0.0), whole)
        a, b, v = cls.schedule.posterior(whole, half)
        # the posterior's mean less the model's is (a - gain) x_2 + b x: its square has a mean and a
        # variance
        off = (a - cls.gain_1) * alpha_2 * cls.x + b * cls.x
        L_1 = gaussian.kl(off.reshape(1, 1), v, row(0.0), scalar(cls.v_1))
        L_1 = L_1 + (a - cls.gain_1) ** 2 * sigma_2**2 / (2 * cls.v_1)
        L_0 = -gaussian.log_prob(row(cls.x), cls.gain_0 * alpha_1 * row(cls.x), scalar(cls.v_0))
        L_0 = L_0 + cls.gain_0**2 * sigma_1**2 / (2 * cls.v_0)
        return Terms(float(L_T), float(L_1), float(L_0))


class Thousand:
    """DDPM's own table: T = 1000, betas linear from 1e-4 to 0.02."""

    schedule = DiscreteVP(betas=linear_betas(1000))
    betas = torch.tensor(linear_betas(1000), dtype=torch.float64)

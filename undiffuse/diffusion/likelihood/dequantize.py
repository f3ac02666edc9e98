"""Truncated-normal dequantization: the noise that a model trained at bin centres has already seen.

A whole number stands at the centre c of a bin. At its smallest noise level a diffusion model
knows the density p_0 of c + r e, e ~ N(0, 1), r = sigma/alpha, and not that of points spread
evenly over the bin. So let e be that noise, cut off at the edges of the bin, +-tau, tau = width /
(2 r) (Zheng et al. 2023, section 3.2, Eq. 13):

    log P(k) >= E_q [ log p_0(c + r e) - log q ],    q(e) = phi(e) / (r (Phi(tau) - Phi(-tau)))

Transforms put a value at the place u = Phi(z) of its bin and count u as uniform; here z is chosen
so that u - 1/2 = r e / width, and what the density of u adds to the correction, -log q(u), is
kept.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from undiffuse.diffusion.schedules.process import LEAST_SCORED, Schedule
from undiffuse.diffusion.typed import ndtr, ndtri


class Dequantization(ABC):
    """The noise that whole numbers are given within their bins."""

    @abstractmethod
    def __call__(self, z: Tensor, width: Tensor | float) -> tuple[Tensor, Tensor]:
        """Map standard normals (B, *) to those that a transform is to be given.

        Returns them, for bins of `width` at unit scale, and the correction to the log-density of
        each row, nats (B,) float64.
        """


@final
@dataclass(frozen=True)
class UniformNoise(Dequantization):
    """Every place of a bin alike, as in training."""

    @override
    def __call__(self, z: Tensor, width: Tensor | float) -> tuple[Tensor, Tensor]:
        return z, torch.zeros(len(z), dtype=torch.float64)


@final
@dataclass(frozen=True)
class TruncatedNormal(Dequantization):
    """Dequantization for a model whose least noise has standard deviation `std` = sigma/alpha.

    Args:
        std: sigma/alpha at the least noise, in the units of what is dequantized.

    >>> place, correction = TruncatedNormal(std=0.01)(torch.tensor([[0.0, 1.0]]), width=1.0)
    >>> place, float(correction) < 0  # near the middle, and denser than uniform
    (tensor([[0.0000, 0.0251]]), True)
    """

    std: float

    @staticmethod
    def of(schedule: Schedule) -> TruncatedNormal:
        """The one for models that are trained on this schedule."""
        alpha, sigma = schedule(schedule.last_time(LEAST_SCORED))
        return TruncatedNormal(float(sigma / alpha))

    @override
    def __call__(self, z: Tensor, width: Tensor | float) -> tuple[Tensor, Tensor]:
        ratio = torch.as_tensor(
            self.std / width, dtype=torch.float64, device=z.device
        )  # of the noise to the bin
        tau = 0.5 / ratio
        mass = torch.erf(tau / math.sqrt(2))
        e = ndtri(ndtr(-tau) + ndtr(z.double()) * mass).clamp(-tau, tau)
        log_q = -e.square() / 2 - math.log(2 * math.pi) / 2 - (mass * ratio).log()
        return ndtri(0.5 + ratio * e).to(z.dtype), -log_q.flatten(1).sum(1)

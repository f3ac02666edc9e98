"""Denoiser -> denoiser: wrappers that change what is predicted, so that no step needs to know.

A wrapper that moves x_hat recomputes z_hat = (x_t - alpha x_hat) / sigma, which keeps x_t = alpha x_hat + sigma z_hat:
the clipped prediction then is a point the solvers are consistent with.
"""

from __future__ import annotations

from typing import Any, final

from torch import Tensor

from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate, expand
from undiffuse.diffusion.schedule import Times


@final
class Clipped(AbstractDenoiser):
    """x_hat clamped to [low, high], for data known to lie there (Ho et al. 2020's released sampler)."""

    def __init__(self, denoiser: AbstractDenoiser, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        self.denoiser, self.low, self.high, self.schedule = denoiser, low, high, denoiser.schedule

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        x_hat, z_hat, v = self.denoiser.estimate(x_t, t, **cond)
        clipped = x_hat.clamp(self.low, self.high)
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        return Estimate(clipped, z_hat + alpha / sigma * (x_hat - clipped), v)

"""Denoisers that are exactly right, and the densities they belong to.

For a Gaussian, a mixture of Gaussians or a finite data set, x_t is again a mixture of Gaussians, so
E[x | x_t], the score and log p_t are closed forms at every t. Samplers and likelihoods are tested
against them. With component c of weight w_c, mean m_c and standard deviation s_c (coordinate by
coordinate), and k = alpha^2 s_c^2 + sigma^2,

    p_t(x_t | c) = N(alpha m_c, k),   E[x | x_t, c] = m_c + (alpha s_c^2 / k) (x_t - alpha m_c),

averaged over the components with the posterior weights w_c p_t(x_t | c) / sum of the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from undiffuse.diffusion import gaussian
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate, expand
from undiffuse.diffusion.schedules.process import Schedule, Times, as_times


class _Components(NamedTuple):
    """x_t - alpha m and k (B, K, *shape), the joint log-density (B, K), alpha and sigma."""

    difference: Tensor
    k: Tensor
    log_joint: Tensor
    alpha: Tensor
    sigma: Tensor


@final
class Mixture(AbstractDenoiser):
    """The exact denoiser of sum_c w_c N(mean_c, diag(std_c^2)), for rows of any shape.

    Args:
        schedule: the forward process.
        mean: of each component (K, *shape).
        std: standard deviations, broadcast to (K, *shape); 0 is a point.
        log_weight: (K,), normalized here; None for equal weights.
    """

    mean: Tensor
    std: Tensor
    log_weight: Tensor

    def __init__(
        self, schedule: Schedule, mean: Tensor, std: Tensor, log_weight: Tensor | None = None
    ) -> None:
        super().__init__()
        self.schedule = schedule
        log_weight = mean.new_zeros(len(mean)) if log_weight is None else log_weight
        self.register_buffer("mean", mean)
        self.register_buffer("std", std.expand_as(mean))
        self.register_buffer("log_weight", log_weight.log_softmax(0))

    def _components(self, x_t: Tensor, t: Times) -> _Components:
        alpha, sigma = (expand(c, x_t.unsqueeze(1)) for c in self.schedule(t))
        difference = x_t.unsqueeze(1) - alpha * self.mean
        k = (alpha * self.std) ** 2 + sigma**2
        nats = gaussian.nats_per_value(difference.square(), k).flatten(2).sum(2)
        return _Components(difference, k, self.log_weight - nats, alpha, sigma)

    def log_prob(self, x_t: Tensor, t: Times | float = 0.0) -> Tensor:
        """Return log p_t(x_t) in nats (B,); at t = 0 the log-density of the data."""
        return self._components(x_t, as_times(t)).log_joint.logsumexp(1)

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return the exact (x_hat, z_hat)."""
        alpha, sigma = self.schedule(t)
        if bool((sigma == 0).all()):
            return Estimate(x_t / expand(alpha, x_t), torch.zeros_like(x_t))
        c = self._components(x_t, t)
        weight = c.log_joint.softmax(1).reshape(*c.log_joint.shape, *[1] * (x_t.ndim - 1))
        x_hat = (weight * (self.mean + c.alpha * self.std**2 / c.k * c.difference)).sum(1)
        z_hat = (weight * (c.sigma / c.k * c.difference)).sum(1)
        return Estimate(x_hat, z_hat)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return `n` exact samples of the data (n, *shape)."""
        pick = torch.multinomial(self.log_weight.exp(), n, replacement=True, generator=generator)
        z = torch.randn(n, *self.mean.shape[1:], dtype=self.mean.dtype, generator=generator)
        return self.mean[pick] + self.std[pick] * z


def Gaussian(schedule: Schedule, mean: Tensor, std: Tensor) -> Mixture:
    """Return the exact denoiser of N(mean, diag(std^2)), for `mean` and `std` (*shape)."""
    return Mixture(schedule, mean.unsqueeze(0), std.expand_as(mean).unsqueeze(0))


def Points(schedule: Schedule, rows: Tensor) -> Mixture:
    """Return the exact denoiser of a finite data set (N, *shape), each row equally likely."""
    return Mixture(schedule, rows, torch.zeros_like(rows))

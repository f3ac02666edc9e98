"""Denoisers that are exactly right, and the densities they belong to.

For a Gaussian, a mixture of Gaussians or a finite data set, x_t is again a mixture of Gaussians, so E[x | x_t], the
score and log p_t are closed forms at every t. They are what samplers and likelihoods are held to. With component c of
weight w_c, mean m_c and standard deviation s_c (coordinate by coordinate), and k = alpha^2 s_c^2 + sigma^2,

    p_t(x_t | c) = N(alpha m_c, k),   E[x | x_t, c] = m_c + (alpha s_c^2 / k) (x_t - alpha m_c),

averaged over the components with the posterior weights w_c p_t(x_t | c) / sum of the same.
"""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor

from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate, expand
from undiffuse.diffusion.schedules.process import Schedule, Times, as_times


@final
class Mixture(AbstractDenoiser):
    """The exact denoiser of sum_c w_c N(mean_c, diag(std_c^2)): `mean`, `std` (K, *shape), `log_weight` (K,).

    A standard deviation of 0 is a point. Any shape: images, sequences, vectors.
    """

    mean: Tensor
    std: Tensor
    log_weight: Tensor

    def __init__(
        self, schedule: Schedule, mean: Tensor, std: Tensor, log_weight: Tensor | None = None
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.register_buffer("mean", mean)
        self.register_buffer("std", std.expand_as(mean))
        self.register_buffer("log_weight", _normalized(log_weight, mean))

    def _components(self, x_t: Tensor, t: Times) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(difference x_t - alpha m, variance k, log joint (B, K), alpha, sigma), the first two (B, K, *shape)."""
        alpha, sigma = (expand(c, x_t.unsqueeze(1)) for c in self.schedule(t))
        difference = x_t.unsqueeze(1) - alpha * self.mean
        k = (alpha * self.std) ** 2 + sigma**2
        terms = difference.square() / k + k.log() + math.log(2 * math.pi)
        return difference, k, self.log_weight - terms.flatten(2).sum(2) / 2, alpha, sigma

    def log_prob(self, x_t: Tensor, t: Times | float = 0.0) -> Tensor:
        """Log p_t(x_t) in nats (B,): the marginal at time t, the data's own density at t = 0."""
        return self._components(x_t, as_times(t))[2].logsumexp(1)

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        if bool((self.schedule(t)[1] == 0).all()):
            return Estimate(x_t / expand(self.schedule(t)[0], x_t), torch.zeros_like(x_t))
        difference, k, log_joint, alpha, sigma = self._components(x_t, t)
        weight = log_joint.softmax(1).reshape(*log_joint.shape, *[1] * (x_t.ndim - 1))
        x_hat = (weight * (self.mean + alpha * self.std**2 / k * difference)).sum(1)
        z_hat = (weight * (sigma / k * difference)).sum(1)
        return Estimate(x_hat, z_hat)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` exact samples of the data (n, *shape)."""
        pick = torch.multinomial(self.log_weight.exp(), n, replacement=True, generator=generator)
        z = torch.randn(n, *self.mean.shape[1:], dtype=self.mean.dtype, generator=generator)
        return self.mean[pick] + self.std[pick] * z


def _normalized(log_weight: Tensor | None, mean: Tensor) -> Tensor:
    return (
        mean.new_zeros(len(mean)).log_softmax(0)
        if log_weight is None
        else log_weight.log_softmax(0)
    )


def Gaussian(schedule: Schedule, mean: Tensor, std: Tensor) -> Mixture:
    """The exact denoiser of N(mean, diag(std^2)); `mean`, `std` (*shape)."""
    return Mixture(schedule, mean.unsqueeze(0), std.expand_as(mean).unsqueeze(0))


def Points(schedule: Schedule, rows: Tensor) -> Mixture:
    """The exact denoiser of a finite data set (N, *shape), each row equally likely: it can only reproduce them."""
    return Mixture(schedule, rows, torch.zeros_like(rows))

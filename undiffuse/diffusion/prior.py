"""What sampling starts from: a Gaussian at t = 1, matched to the data's first two moments.

    x_1 = alpha_1 x + sigma_1 z  has  mean alpha_1 m,  variance alpha_1^2 s^2 + sigma_1^2

in each coordinate; up to 64 of them with all covariances, alpha_1^2 C + sigma_1^2 I. Sampling, the
ELBO's L_T and the log-density use the same prior: a standard normal in place of it is a wrong
answer, however close.

The density along the probability-flow ODE may take the prior earlier, at the time where alpha s /
sigma has fallen to e^-5 (`settled`). Beyond, a network's error only adds up: the cosine chain's
last interval alone spans 7 in log-SNR between two levels that are trained, with none within.

What the Gaussian lacks of the data are the error of its mean, measured on N rows, the covariances
C_ij that it leaves out, and the third cumulants k_ijk. With r = alpha^2/sigma^2, where it is taken,
a row's log-density is off by a number of mean zero and variance

    r sum_i C_ii / N + r^2/2 sum_{i != j} C_ij^2 + r^3/6 sum_ijk k_ijk^2         (`stderr`)

up to higher orders, by the expansion of the noised law in Hermite polynomials. The last two sums
are estimated without bias from pairs of rows: E (y . y')^2 = |C|^2 and E (y . y')^3 = |k|^2.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from undiffuse.diffusion import gaussian
from undiffuse.diffusion.schedules.process import Schedule, Times, as_times
from undiffuse.diffusion.typed import eigh

FULL = 64  # coordinates up to which all covariances are kept
_PAIRS = 1024  # rows whose pairs estimate what is left out
_SETTLED = 10.0  # -log((alpha s / sigma)^2) from which on the noised data count as Gaussian


@final
class Prior(nn.Module):
    """N(alpha_1 mean, alpha_1^2 C + sigma_1^2 I), C the covariance of the data, or its diagonal.

    Args:
        schedule: the forward process.
        mean: of the data (*shape).
        std: of the data (*shape).
        time: where the Gaussian is taken, if not at t = 1.
        correlation: of the data's coordinates (d, d); None takes them as uncorrelated.
        lack: the three sums of squares of what is wrong, (3,); None: nothing is.
    """

    mean: Tensor
    std: Tensor
    correlation: Tensor | None
    lack: Tensor

    def __init__(
        self,
        schedule: Schedule,
        mean: Tensor,
        std: Tensor,
        time: Times | float = 1.0,
        *,
        correlation: Tensor | None = None,
        lack: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.schedule, self.time = schedule, time
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("correlation", correlation)
        self.register_buffer("lack", torch.zeros(3) if lack is None else lack)

    @staticmethod
    def measured(schedule: Schedule, x: Tensor) -> Prior:
        """Return the prior that is measured on rows `x` (N, *shape)."""
        x, shape = x.double(), x.shape[1:]
        mean, std = x.mean(0), x.std(0, correction=0)
        y = (x - mean).flatten(1)
        correlation, pairs = None, y[:_PAIRS]
        products = (pairs @ pairs.T).fill_diagonal_(0)
        count = max(len(pairs) * (len(pairs) - 1), 1)
        square, cube = (float(products.pow(k).sum()) / count for k in (2, 3))
        square -= float(std.pow(4).sum())
        if shape.numel() <= FULL:
            scale = std.flatten().clamp(min=1e-30)
            correlation = (y.T @ y / len(y) / scale / scale[:, None]).fill_diagonal_(1).float()
            square = 0.0
        mean_error = float(std.square().sum()) / len(y)
        lack = torch.tensor([mean_error, max(square, 0.0), max(cube, 0.0)])
        return Prior(schedule, mean.float(), std.float(), correlation=correlation, lack=lack)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the mean and standard deviation of x_1, each (*shape)."""
        alpha, sigma = (float(c) for c in self.schedule(as_times(self.time)))
        return alpha * self.mean, ((alpha * self.std) ** 2 + sigma**2).sqrt()

    def axes(self) -> tuple[Tensor | None, Tensor]:
        """Return the directions in which the data are uncorrelated, and the variance along each.

        (d, d), None for the coordinates themselves, and (*shape).
        """
        if self.correlation is None:
            return None, self.std.square()
        std = self.std.double().flatten()
        values, vectors = eigh(self.correlation.double() * std * std[:, None])
        return vectors, values.clamp(min=0).reshape(self.std.shape)

    def along_axes(self, y: Tensor, axes: Tensor | None) -> Tensor:
        """Return `y` (B, *shape), differences from the mean, along the directions of `axes`."""
        return y if axes is None else (y.flatten(1) @ axes.to(y.dtype)).reshape(y.shape)

    def draw(self, z: Tensor) -> Tensor:
        """Return x_1 (B, *shape) made of standard normals `z` (B, *shape)."""
        mean, std = self.moments()
        if self.correlation is None:
            return mean + std * z
        alpha, sigma = (float(c) for c in self.schedule(as_times(self.time)))
        axes, variance = self.axes()
        assert axes is not None
        root = (axes * (alpha**2 * variance.flatten() + sigma**2).sqrt()) @ axes.T
        return mean + (z.flatten(1) @ root.to(z.dtype)).reshape(z.shape)

    def log_prob(self, x_1: Tensor) -> Tensor:
        """Return the log-density at x_1 (B, *shape), in nats (B,)."""
        alpha, sigma = (float(c) for c in self.schedule(as_times(self.time)))
        axes, variance = self.axes()
        y = self.along_axes(x_1 - alpha * self.mean, axes)
        return gaussian.log_prob(y, torch.zeros_like(y[:1]), alpha**2 * variance + sigma**2)

    def stderr(self) -> float:
        """Return the standard deviation of a row's error in `log_prob`, in nats."""
        alpha, sigma = (float(c) for c in self.schedule(as_times(self.time)))
        ratio = (alpha / sigma) ** 2
        mean, square, cube = (float(moment) for moment in self.lack.unbind())
        return (ratio * mean + ratio**2 * square / 2 + ratio**3 * cube / 6) ** 0.5

    def settled(self) -> Prior:
        """Return this prior at the first time with alpha std / sigma <= e^-5, or else at t = 1."""
        _, variance = self.axes()
        log_snr = as_times(-_SETTLED) - variance.double().max().clamp(min=1e-60).log().cpu()
        kept = {"correlation": self.correlation, "lack": self.lack}
        return Prior(self.schedule, self.mean, self.std, self.schedule.inverse(log_snr), **kept)

    @staticmethod
    def standard(schedule: Schedule, shape: tuple[int, ...]) -> Prior:
        """Return N(0, alpha_1^2 + sigma_1^2): the prior of data of zero mean and unit variance."""
        mean, d = torch.zeros(shape), torch.Size(shape).numel()
        correlation = torch.eye(d) if d <= FULL else None
        return Prior(schedule, mean, torch.ones(shape), correlation=correlation)

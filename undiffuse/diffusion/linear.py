"""The best linear denoiser: a closed form from the mean m and the covariance C of any law.

    x_hat = m + alpha C (alpha^2 C + sigma^2 I)^-1 (x_t - alpha m)

has the least mean squared error among the functions linear in x_t, and is E[x | x_t] if the law is
Gaussian. Its samples are noise with the data's mean and covariance: a network that does no better
has learned no more than these.

With C = V diag(v) V^T + r (I - V V^T), each direction of V is a problem of its own. C is that of
rows, shrunk to its mean eigenvalue by the share that Ledoit and Wolf (2004, Lemma 3.2 to 3.5) give:
few rows have a covariance that denoises new ones badly.
"""

from __future__ import annotations

from typing import Any, final

from torch import Tensor
from typing_extensions import override

from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate, expand
from undiffuse.diffusion.schedules.process import Schedule, Times
from undiffuse.diffusion.typed import eigh


@final
class LinearDenoiser(AbstractDenoiser):
    """The exact denoiser of N(mean, V diag(variance) V^T + rest (I - V V^T)).

    Args:
        schedule: the forward process.
        mean: (*shape).
        basis: V (d, r), orthonormal columns.
        variance: (r,).
        rest: variance of all directions outside of the basis.
    """

    mean: Tensor
    basis: Tensor
    variance: Tensor

    def __init__(
        self, schedule: Schedule, mean: Tensor, basis: Tensor, variance: Tensor, rest: float = 0.0
    ) -> None:
        super().__init__()
        self.schedule, self.rest = schedule, rest
        self.register_buffer("mean", mean)
        self.register_buffer("basis", basis)
        self.register_buffer("variance", variance)

    @staticmethod
    def measured(schedule: Schedule, x: Tensor) -> LinearDenoiser:
        """Return the denoiser for the mean and the shrunk covariance of rows `x` (N, *shape)."""
        mean = x.double().mean(0)
        y = (x.double() - mean).flatten(1)
        (n, d), narrow = y.shape, y.shape[1] <= y.shape[0]
        values, vectors = eigh((y.T @ y if narrow else y @ y.T) / n)
        size, total = values.square().sum() / d, values.sum() / d
        apart = float(size - total**2)
        error = float((y.square().sum(1).square().mean() / d - size) / n)
        share = min(error / apart, 1.0) if apart > 0 else 1.0
        kept = values > 1e-9 * values.max()
        values, vectors = values[kept], vectors[:, kept]
        basis = vectors if narrow else y.T @ vectors / (n * values).sqrt()
        rest = share * float(total)
        return LinearDenoiser(schedule, mean, basis, (1 - share) * values + rest, rest)

    @override
    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return (x_hat, z_hat)."""
        alpha, sigma = self.schedule(t)
        y = x_t.double() - expand(alpha, x_t.double()) * self.mean
        flat, a, s = y.flatten(1), alpha.reshape(-1, 1), sigma.reshape(-1, 1)
        inside = flat @ self.basis

        def through(numerator: Tensor, rest: Tensor) -> Tensor:
            """Each direction times numerator / (alpha^2 v + sigma^2)."""
            least = rest / (a**2 * self.rest + s**2)
            gain = numerator / (a**2 * self.variance + s**2) - least
            return (least * flat + (gain * inside) @ self.basis.T).reshape(y.shape)

        x_hat = self.mean + through(a * self.variance, a * self.rest)
        z_hat = through(s.expand(-1, len(self.variance)), s)
        return Estimate(x_hat.to(x_t.dtype), z_hat.to(x_t.dtype))

"""The best linear denoiser: a closed form from the mean m and the covariance C of any law.

    x_hat = m + alpha C (alpha^2 C + sigma^2 I)^-1 (x_t - alpha m)

has the least mean squared error among the functions linear in x_t, and is E[x | x_t] if the law is
Gaussian. Its samples are noise with the data's mean and covariance: a network that does no better
has learned no more than these.

With C = V diag(v) V^T + r (I - V V^T), each direction of V is a problem of its own. C is that of
rows, shrunk to its mean eigenvalue by the share that Ledoit and Wolf (2004, Lemma 3.2 to 3.5) give:
few rows have a covariance that denoises new ones badly. Of more directions than are asked for, the
last ones share one variance (Tipping and Bishop 1999, "Probabilistic principal component analysis",
Eq. 8).

Given entries x_K, told as `known.as_given` tells them, x = m + V s + e with s ~ N(0, diag(v - r))
and e ~ N(0, r I) is seen as y_i = a_i x_i + n_i: where x_i is known a = 1 and n = 0, else a = alpha
and var n = sigma^2. With q_i = a_i^2 r + var n_i,

    s_hat = (V^T diag(a^2/q) V + diag(1/(v - r)))^-1 V^T diag(a/q) (y - a m),
    x_hat = m + V s_hat + a r/q d,   z_hat = sigma/q d,   d = y - a (m + V s_hat).
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import override

from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate, expand
from undiffuse.diffusion.schedules.process import Schedule, Times
from undiffuse.diffusion.typed import eigh, solve_each

_LEAST = 1e-6  # of the greatest variance: what known entries are taken to be off by, for the solver


@final
class LinearDenoiser(AbstractDenoiser):
    """The exact denoiser of N(mean, V diag(variance) V^T + rest (I - V V^T)).

    Args:
        schedule: the forward process.
        mean: (*shape).
        basis: V (d, r), orthonormal columns.
        variance: (r,).
        rest: variance of all directions outside of the basis.

    >>> from undiffuse.diffusion import EDM
    >>> line = torch.full((2, 1), 0.5**0.5).double()  # both entries are equal
    >>> law = LinearDenoiser(EDM(), torch.zeros(2), line, torch.tensor([2.0]).double())
    >>> given = torch.tensor([[3.0, 0.0, 1.0, 0.0]])  # the first is 3
    >>> law(torch.zeros(1, 2), 0.5, given=given).round(decimals=3)
    tensor([[3., 3.]])
    """

    mean: Tensor
    basis: Tensor
    variance: Tensor
    rest: Tensor

    def __init__(
        self, schedule: Schedule, mean: Tensor, basis: Tensor, variance: Tensor, rest: float = 0.0
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.register_buffer("mean", mean)
        self.register_buffer("basis", basis)
        self.register_buffer("variance", variance)
        self.register_buffer("rest", torch.as_tensor(rest, dtype=torch.float64))

    @staticmethod
    def measured(schedule: Schedule, x: Tensor, most: int | None = None) -> LinearDenoiser:
        """Return the denoiser for the mean and the shrunk covariance of rows `x` (N, *shape).

        Args:
            schedule: the forward process.
            x: the rows.
            most: directions that have a variance of their own, those of the greatest; None: all.
        """
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
        variance = (1 - share) * values + rest
        if most is not None and len(variance) > most:
            cut = len(variance) - most
            outside = float(variance[:cut].sum()) + (d - len(variance)) * rest
            rest, variance, basis = outside / (d - most), variance[cut:], basis[:, cut:]
        return LinearDenoiser(schedule, mean, basis, variance, rest)

    @staticmethod
    def standard(schedule: Schedule, shape: tuple[int, ...], rank: int) -> LinearDenoiser:
        """Return the denoiser of N(0, I) with `rank` directions, to load others into."""
        mean = torch.zeros(shape, dtype=torch.float64)
        basis = torch.eye(mean.numel(), rank, dtype=torch.float64)
        return LinearDenoiser(schedule, mean, basis, torch.ones(rank, dtype=torch.float64), 1.0)

    @override
    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return (x_hat, z_hat), given the entries that `given` (B, 2 C, *S) tells, if it is there.

        Of known entries z_hat is that of x_t.
        """
        if cond.get("given") is None:
            return self._whole(x_t, t)
        known, mask = cond["given"].chunk(2, 1)
        some = mask.flatten(1).any(1)
        if not bool(some.any()):
            return self._whole(x_t, t)
        if not bool(some.all()):
            found = self._whole(x_t, t)
            times = t if t.ndim == 0 else t[some.to(t.device)]
            part = self._given(x_t[some], times, known[some], mask[some] > 0)
            return Estimate(*(one.index_put((some,), its) for one, its in zip(found[:2], part)))
        return Estimate(*self._given(x_t, t, known, mask > 0))

    def _given(self, x_t: Tensor, t: Times, known: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x_hat and z_hat of rows of which entries are known; see the head of this module."""
        alpha, sigma = (c.reshape(-1, 1).to(x_t.device) for c in self.schedule(t))
        seen, x = mask.flatten(1), x_t.double().flatten(1)
        largest = torch.cat([self.variance, self.rest[None]]).max().clamp(min=1e-30)
        rest = self.rest.clamp(min=_LEAST * largest)
        inside = (self.variance - self.rest).clamp(min=_LEAST**2 * largest)
        mean, V = self.mean.double().flatten(), self.basis
        a, n = torch.where(seen, 1.0, alpha), torch.where(seen, 0.0, sigma**2)
        q = a**2 * rest + n
        y = torch.where(seen, known.double().flatten(1), x)
        inverse = (V.T * (a**2 / q)[:, None]) @ V + torch.diag(1 / inside)
        s = solve_each(inverse, (a / q * (y - a * mean)) @ V)
        centre = mean + s @ V.T
        d = y - a * centre
        x_hat = torch.where(seen, y, centre + a * rest / q * d)
        z_hat = torch.where(seen, (x - alpha * y) / sigma, sigma / q * d)
        x_hat, z_hat = (one.reshape(x_t.shape).to(x_t.dtype) for one in (x_hat, z_hat))
        return x_hat, z_hat

    def _whole(self, x_t: Tensor, t: Times) -> Estimate:
        """x_hat and z_hat of rows of which nothing is known."""
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

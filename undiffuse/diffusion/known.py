"""Sampling the rest of a row, some entries of which are known: inpainting, imputing, continuing.

Wanted is x given x_K, the entries of x in a set K. A network that was trained with gaps is told x_K
(`as_given`) and knows E[x | x_t, x_K] itself. Of one that was not, two means, to be combined:

*Conditional*, denoiser -> denoiser. By Tweedie's second-order formula the covariance of x given x_t
is

    C = cov(x | x_t) = (sigma^2 / alpha) d x_hat / d x_t,

and if x given x_t were Gaussian, E[x | x_t, x_K] = x_hat + C_{.K} C_KK^{-1} (x_K - x_hat_K) (Rozet
et al. 2024, "Learning diffusion priors from observations by expectation maximization", section 4,
without noise on what is observed). The inverse is applied by a few conjugate-gradient steps, each
one product with the Jacobian's transpose, which is symmetric for an exact denoiser. Exact for
Gaussian data at every t; entries of K are x_K exactly.

*Known*, step -> step. Known entries of x_t are alpha_t x_K + sigma_t z with fresh z, and each move
t -> s is repeated, after going back from s to t by the forward process (Lugmayr et al. 2022,
"RePaint", Algorithm 1, jump length 1; one repetition is Song et al. 2021, Appendix I.2). Repeating
lets the unknown entries settle to what the known ones ask, each time at one more cost of the move.
In the limit of many repetitions and small steps it is right as t -> 0.

Measured on a Gaussian of correlation 0.9 with one known entry at 1.5 standard deviations, 50 steps:
the conditional mean is off by 1.59 standard deviations after one repetition, 0.40 after 5, 0.18
after 10, 0.08 after 20 (DDIM); with `Conditional` by 0.02, with any step. On a mixture where Bayes'
rule gives a mode 0.26, replacement gives it 0.43, ten repetitions 0.40, `Conditional` 0.39, and
four repetitions of that 0.33: between modes every one of them errs towards what the mode weighs
when nothing is known, and the two together least.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import override

from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate, expand, noised
from undiffuse.diffusion.schedules.process import Schedule, Times, as_times
from undiffuse.diffusion.steps.moves import Moved, Step
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise


def as_given(x: Tensor, mask: Tensor) -> Tensor:
    """Return the condition `given` (B, 2 C, *S) of a denoiser: `x` where `mask` is true, and where.

    >>> as_given(torch.tensor([[3.0, 4.0]]), torch.tensor([[True, False]]))
    tensor([[3., 0., 1., 0.]])
    """
    return torch.cat([torch.where(mask, x, 0.0), mask.to(x.dtype)], dim=1)


def replaced(
    x_t: Tensor, x_known: Tensor, mask: Tensor, schedule: Schedule, t: Times, noise: Noise
) -> Tensor:
    """Return `x_t` (B, *) with the entries in `mask` replaced by alpha_t x_known + sigma_t z."""
    z = noise(x_t) if bool(schedule(t)[1] > 0) else torch.zeros_like(x_t)
    return torch.where(mask, noised(schedule, x_known, z, t).to(x_t.dtype), x_t)


@final
class Conditional(AbstractDenoiser):
    """E[x | x_t, x_known], as if x given x_t were Gaussian; see the head of this module.

    Args:
        denoiser: of whole rows.
        x_known: what is known (B, *shape); not used elsewhere.
        mask: true where an entry is known (B, *shape).
        products: number of conjugate-gradient steps.

    >>> from undiffuse.diffusion import EDM
    >>> from undiffuse.diffusion.oracle import Points
    >>> oracle = Points(EDM(), torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))  # both entries are equal
    >>> known, mask = torch.tensor([[1.0, 0.0]]), torch.tensor([[True, False]])
    >>> Conditional(oracle, known, mask)(torch.zeros(1, 2), 0.5).round(decimals=3)
    tensor([[1., 1.]])
    """

    def __init__(
        self, denoiser: AbstractDenoiser, x_known: Tensor, mask: Tensor, products: int = 3
    ) -> None:
        super().__init__()
        self.denoiser, self.x_known, self.mask, self.products = denoiser, x_known, mask, products
        self.schedule = denoiser.schedule

    def keep(self, rows: Tensor, like: Tensor) -> None:
        """Keep only `rows` of what is held for each row of `like`."""
        places = rows.to(like.device)
        self.x_known = self.x_known.expand_as(like)[places]
        self.mask = self.mask.expand_as(like)[places]

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return the posterior means given what is known; known entries of x_hat are x_known."""
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        if not bool(((alpha > 0) & (sigma > 0)).all()):  # C cannot be had from the Jacobian
            x_hat, z_hat, v = self.denoiser.estimate(x_t, t, **cond)
            moved = torch.where(self.mask, self.x_known, x_hat)
            ratio = torch.where(sigma > 0, alpha / torch.where(sigma > 0, sigma, 1.0), 0.0)
            return Estimate(moved, z_hat - ratio * (moved - x_hat), v)
        with torch.inference_mode(False), torch.enable_grad():
            x = x_t.detach().clone().requires_grad_()
            found = self.denoiser.estimate(x, t, **cond)
        x_hat = found.x_hat.detach()

        def covariance(direction: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(
                found.x_hat, x, direction, retain_graph=True, materialize_grads=True
            )
            return sigma**2 / alpha * product

        residual = torch.where(self.mask, self.x_known - x_hat, 0.0)
        shift = covariance(self._solve(covariance, residual))
        moved = torch.where(self.mask, self.x_known, x_hat + shift)
        return Estimate(moved, found.z_hat.detach() - alpha / sigma * (moved - x_hat), found.v)

    def _solve(self, covariance: Callable[[Tensor], Tensor], residual: Tensor) -> Tensor:
        """The u in K with C_KK u = residual, by conjugate gradients, row by row.

        A row that meets a direction of no or negative curvature, which only an inexact denoiser
        has, stops there.
        """
        solution, direction = torch.zeros_like(residual), residual
        size = _dot(residual, residual)
        enough = 1e-12 * size
        going = size > 0
        for _ in range(self.products):
            product = torch.where(self.mask, covariance(direction), 0.0)
            curvature = _dot(direction, product)
            going = going & (
                curvature > 1e-8 * _dot(direction, direction) * torch.finfo(size.dtype).eps
            )
            going = going & (size > enough)
            share = torch.where(going, size / torch.where(going, curvature, 1.0), 0.0)
            solution = solution + share * direction
            residual = residual - share * product
            smaller = _dot(residual, residual)
            direction = (
                residual
                + torch.where(going, smaller / torch.where(going, size, 1.0), 0.0) * direction
            )
            size = torch.where(going, smaller, size)
        return solution


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each row, (B, 1, ...)."""
    return (a * b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))


@final
class Known(Step):
    """`step` with the entries in `mask` held to `x_known`, each move taken `repetitions` times.

    What the inner step remembers belongs to a path that the replacement has left, so each move
    begins afresh: a multistep method takes its first, lower-order step every time.

    Args:
        step: the sampling method.
        x_known: what is known (B, *shape); not used elsewhere.
        mask: true where an entry is known (B, *shape).
        repetitions: how often each move is taken, at least 1.

    Raises:
        InputError: for fewer repetitions than 1.
    """

    def __init__(self, step: Step, x_known: Tensor, mask: Tensor, repetitions: int = 10) -> None:
        if repetitions < 1:
            raise InputError(f"repetitions {repetitions}: each step is taken at least once.")
        self.step, self.x_known, self.mask, self.repetitions = step, x_known, mask, repetitions

    @override
    def end(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        """Move as everywhere: the inner step knows what to do at sigma = 0."""
        return self.move(denoiser, x_t, t, s, memory, noise)

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        """Take the step `repetitions` times, going back to t in between."""
        schedule = denoiser.schedule
        t, s, x_s = as_times(t), as_times(s), x_t
        for left in reversed(range(self.repetitions)):
            x_t = replaced(x_t, self.x_known, self.mask, schedule, t, noise)
            x_s, _ = self.step(denoiser, x_t, t, s, None, noise)
            if left:
                a, beta = schedule.transition(t, s)
                x_t = a * x_s + beta.sqrt() * noise(x_s)
        return replaced(x_s, self.x_known, self.mask, schedule, s, noise), None

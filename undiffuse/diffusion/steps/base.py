"""Sampling methods, each one move from time t to an earlier time s.

    step(denoiser, x_t, t, s, memory, noise) -> (x_s, memory)

A step is its formula; the loop around it is `sample`. `memory` is whatever the step returned last (None at first), for
multistep methods; `noise(like)` draws standard normals. Deterministic steps declare the order at which they converge
to the probability-flow ODE, `order`; stochastic ones their weak order, `weak_order`. A step to sigma_s = 0 is exact in
x_hat everywhere: it returns alpha_s x_hat up to the method's own correction.

In the coordinates y = x/m(t), u(t) the probability-flow ODE (Song et al. 2021, Eq. 13) has no schedule derivative left:

    Ratio      m = alpha,           u = sigma/alpha,            dy/du = z_hat             (Karras et al. 2022)
    Fraction   m = alpha + sigma,   u = sigma/(alpha + sigma),  dy/du = z_hat - x_hat     (finite where alpha = 0)

Euler's method in either is DDIM.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from undiffuse.diffusion.denoiser import AbstractDenoiser
from undiffuse.diffusion.schedules.process import Times
from undiffuse.errors import InputError

Noise = Callable[[Tensor], Tensor]
Moved = tuple[Tensor, Any]


class Step(ABC):
    """One sampling method: a move from t to s < t. Exactly one of `order` and `weak_order` is set."""

    order: ClassVar[int | None] = None
    weak_order: ClassVar[int | None] = None

    @abstractmethod
    def __call__(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        """(x_s, memory) from x_t (B, *) and scalar float64 times s < t."""

    @property
    def reverse_variance(self) -> ReverseVariance:
        """The variance of p(x_s | x_t) that the bound takes: beta-tilde unless the step has one of its own."""
        return BetaTilde()


class ReverseVariance(ABC):
    """v_t, the variance of p(x_s | x_t): a number, or one per coordinate; `learned` if it takes the network's v."""

    learned: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, beta: Tensor, beta_tilde: Tensor, v: Tensor | None) -> Tensor:
        """From beta_t, beta-tilde_t and the denoiser's own v in [0, 1], of the shape of x_t (None: not learned)."""


@final
@dataclass(frozen=True)
class Beta(ReverseVariance):
    """v_t = beta_t: optimal for x ~ N(0, I) (Ho et al. 2020, section 3.2)."""

    def __call__(self, beta: Tensor, beta_tilde: Tensor, v: Tensor | None) -> Tensor:
        return beta


@final
@dataclass(frozen=True)
class BetaTilde(ReverseVariance):
    """v_t = beta-tilde_t, the posterior's: optimal for a single point, and the better one for fewer than T steps."""

    def __call__(self, beta: Tensor, beta_tilde: Tensor, v: Tensor | None) -> Tensor:
        return beta_tilde


@final
@dataclass(frozen=True)
class Learned(ReverseVariance):
    """exp(v log beta_t + (1 - v) log beta-tilde_t), v the network's (Nichol and Dhariwal 2021, Eq. 15).

    Between strided levels both ends are those of the strided chain. Raises InputError where no v is predicted.
    """

    learned: ClassVar[bool] = True

    def __call__(self, beta: Tensor, beta_tilde: Tensor, v: Tensor | None) -> Tensor:
        if v is None:
            raise InputError(
                "variance learned: this model predicts no variance; use beta or beta_tilde instead."
            )
        return torch.exp(v * beta.log() + (1 - v) * beta_tilde.log())


@final
@dataclass(frozen=True)
class Ancestral(Step):
    """x_s ~ N(mean of q(x_s | x_t, x_hat), v_t) (Ho et al. 2020, Algorithm 2, for any t and s).

    mean = alpha_s x_hat + (a sigma_s^2 / sigma_t) z_hat,  a = alpha_t/alpha_s: the posterior mean with x_t split into
    its parts. Between strided levels beta is that of the strided chain, 1 - alpha_t^2/alpha_s^2 when variance is
    preserved. No noise is added on the step to sigma_s = 0 (Algorithm 2, line 3).
    """

    variance: ReverseVariance = BetaTilde()
    weak_order: ClassVar[int | None] = 1

    @property
    def reverse_variance(self) -> ReverseVariance:
        return self.variance

    def __call__(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        (_, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, z_hat, v = denoiser.estimate(x_t, t)
        if sigma_s == 0:
            return alpha_s * x_hat, None
        a, beta = denoiser.schedule.transition(t, s)
        variance = self.variance(beta, beta * (sigma_s / sigma_t) ** 2, v)
        return alpha_s * x_hat + (a * sigma_s**2 / sigma_t) * z_hat + variance.sqrt() * noise(
            x_t
        ), None


@final
@dataclass(frozen=True)
class DDIM(Step):
    """Denoising diffusion implicit step (Song et al. 2021a, Eq. 12): eta = 0 deterministic, eta = 1 ancestral.

    x_s = alpha_s x_hat + sqrt(sigma_s^2 - c^2) z_hat + c z,   c = eta * std of q(x_s | x_t, x_hat)

    For eta > 0 the order holds in the weak sense.
    """

    eta: float = 0.0
    order: ClassVar[int | None] = 1

    def __call__(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        (_, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, z_hat = denoiser.split(x_t, t)
        if self.eta == 0 or sigma_s == 0:
            return alpha_s * x_hat + sigma_s * z_hat, None
        _, beta = denoiser.schedule.transition(t, s)
        c = self.eta * beta.sqrt() * sigma_s / sigma_t
        return alpha_s * x_hat + (sigma_s**2 - c**2).sqrt() * z_hat + c * noise(x_t), None


class Coordinate(ABC):
    """y = x / scale, u = value, dy/du = slope: a form of the probability-flow ODE."""

    @abstractmethod
    def scale(self, alpha: Times, sigma: Times) -> Times: ...

    @abstractmethod
    def value(self, alpha: Times, sigma: Times) -> Times: ...

    @abstractmethod
    def slope(self, x_hat: Tensor, z_hat: Tensor) -> Tensor: ...


@final
@dataclass(frozen=True)
class Ratio(Coordinate):
    """y = x/alpha, u = sigma/alpha (Karras et al. 2022); infinite where alpha = 0."""

    def scale(self, alpha: Times, sigma: Times) -> Times:
        return alpha

    def value(self, alpha: Times, sigma: Times) -> Times:
        return sigma / alpha

    def slope(self, x_hat: Tensor, z_hat: Tensor) -> Tensor:
        return z_hat


@final
@dataclass(frozen=True)
class Fraction(Coordinate):
    """y = x/(alpha + sigma), u = sigma/(alpha + sigma) in [0, 1]: flow matching's time, on any schedule."""

    def scale(self, alpha: Times, sigma: Times) -> Times:
        return alpha + sigma

    def value(self, alpha: Times, sigma: Times) -> Times:
        return sigma / (alpha + sigma)

    def slope(self, x_hat: Tensor, z_hat: Tensor) -> Tensor:
        return z_hat - x_hat


@final
@dataclass(frozen=True)
class Euler(Step):
    """Euler's method in t on the probability-flow ODE: x_s = x_t + (s - t) dx_t/dt (Song et al. 2021, Eq. 13).

    Needs |dx_t/dt| finite at t; on the linear schedule it is DDIM.
    """

    order: ClassVar[int | None] = 1

    def __call__(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        return x_t + (s - t) * denoiser.velocity(x_t, t), None


@final
@dataclass(frozen=True, kw_only=True)
class Heun(Step):
    """Heun's second-order step with optional churn (Karras et al. 2022, Algorithm 2), in a stated coordinate.

    Churn raises the noise level sigma/alpha by a share gamma = min(`churn`, sqrt(2) - 1) before the step, where it lies
    in [churn_from, churn_to]; `churn` is the published S_churn / steps. The correction is left out
    on the step to sigma_s = 0, and where the coordinate is infinite: give `coordinate=Fraction()` for schedules that
    have no signal at t = 1.
    """

    churn: float = 0.0
    churn_from: float = 0.0
    churn_to: float = 1e9
    churn_noise: float = 1.0
    coordinate: Coordinate = Ratio()
    order: ClassVar[int | None] = 2

    def __call__(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        if self.churn > 0:
            x_t, t = self._raised(denoiser, x_t, t, noise)
        at_t, at_s = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, z_hat = denoiser.split(x_t, t)
        x_s = at_s[0] * x_hat + at_s[1] * z_hat  # Euler in either coordinate
        h = self.coordinate.value(*at_s) - self.coordinate.value(*at_t)
        if at_s[1] == 0 or h.isinf():
            return x_s, None
        change = self.coordinate.slope(*denoiser.split(x_s, s)) - self.coordinate.slope(
            x_hat, z_hat
        )
        return x_s + self.coordinate.scale(*at_s) * h / 2 * change, None

    def _raised(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, noise: Noise
    ) -> tuple[Tensor, Times]:
        """(x, t) at the raised noise level, within the schedule."""
        alpha, sigma = denoiser.schedule(t)
        if not self.churn_from <= sigma / alpha <= self.churn_to:
            return x_t, t
        gamma = min(self.churn, 2**0.5 - 1)
        raised = denoiser.schedule.inverse(-2 * ((1 + gamma) * sigma / alpha).log())
        alpha_r, sigma_r = denoiser.schedule(raised)
        added = ((sigma_r / alpha_r) ** 2 - (sigma / alpha) ** 2).clamp(min=0).sqrt()
        return alpha_r * (x_t / alpha + self.churn_noise * added * noise(x_t)), raised


VARIANCES: dict[str, type[ReverseVariance]] = {
    "beta": Beta,
    "beta_tilde": BetaTilde,
    "learned": Learned,
}
COORDINATES: dict[str, type[Coordinate]] = {"ratio": Ratio, "fraction": Fraction}

"""Sampling methods, each one move from time t to an earlier time s.

    step(denoiser, x_t, t, s, memory, noise) -> (x_s, memory)

A step is its formula; the loop around it is `sample`. `memory` is whatever the step returned last
(None at first), for multistep methods; `noise(like)` draws standard normals. Deterministic steps
declare the order at which they converge to the probability-flow ODE, `order`; stochastic ones
their weak order, `weak_order`; Langevin dynamics have neither. The move to sigma_s = 0 is alpha_s
x_hat in every method: the mean of x_s given x_t, exact in x_hat.

In the coordinates y = x/m(t), u(t) the probability-flow ODE (Song et al. 2021, Eq. 13) has no
schedule derivative left:

    Ratio      m = alpha,          u = sigma/alpha,           dy/du = z_hat   (Karras et al. 2022)
    Fraction   m = alpha + sigma,  u = sigma/(alpha + sigma), dy/du = z_hat - x_hat

Fraction is finite where alpha = 0. Euler's method in either is DDIM.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from undiffuse.diffusion.denoiser import AbstractDenoiser
from undiffuse.diffusion.grid import Grid, Karras
from undiffuse.diffusion.schedules.process import Times
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise

Moved = tuple[Tensor, Any]  # the memory is of each step's own type


class Step(ABC):
    """One sampling method: a move from t to s < t.

    A subclass declares all there is to know about it, and stands in `STEPS`; the names of
    methods, the table of solvers and the laws follow from that.

    Attributes:
        order: order of convergence to the probability-flow ODE, of a deterministic step.
        weak_order: weak order of convergence, of a stochastic step; at most one of the two is set.
        formula: the move in short, for the table of solvers.
        source: the paper.
        grid: the grid it is best on; None is the model's own.
        steps: the number of steps that it is meant for; None is the model's own.
        from_noise: whether it leads from noise to data, so that it is a method of its own.
        adaptive: whether it takes steps of its own within a move, to a `tolerance`.
        variants: other arguments, by name, that are held to the same laws.
    """

    order: ClassVar[int | None] = None
    weak_order: ClassVar[int | None] = None
    formula: ClassVar[str] = ""
    source: ClassVar[str] = ""
    grid: ClassVar[Grid | None] = None
    steps: ClassVar[int | None] = None
    from_noise: ClassVar[bool] = True
    adaptive: ClassVar[bool] = False
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @final
    def __call__(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        """Move from t to s.

        Args:
            denoiser: E[x | x_t].
            x_t: (B, *).
            t: scalar, float64.
            s: scalar, float64, s < t.
            memory: what the call before returned; None at first.
            noise: draws standard normals.

        Returns:
            x_s (B, *) and the memory for the next call.
        """
        _, sigma_s = denoiser.schedule(s)
        move = self.move if sigma_s > 0 else self.end
        return move(denoiser, x_t, t, s, memory, noise)

    @abstractmethod
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        """Move from t to s where sigma_s > 0; the arguments are those of the call."""

    def end(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        """Move from t to s where sigma_s = 0: to alpha_s x_hat."""
        alpha_s, _ = denoiser.schedule(s)
        return alpha_s * denoiser(x_t, t), None

    @property
    def reverse_variance(self) -> ReverseVariance:
        """The variance of p(x_s | x_t) that the bound takes: beta-tilde unless overridden."""
        return BetaTilde()


class ReverseVariance(ABC):
    """v_t, the variance of p(x_s | x_t): a number, or one per coordinate.

    `learned` says whether it takes the network's v.
    """

    learned: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, beta: Tensor, beta_tilde: Tensor, v: Tensor | None) -> Tensor:
        """Return v_t.

        Args:
            beta: beta_t, broadcasting against x_t.
            beta_tilde: beta-tilde_t, likewise.
            v: the denoiser's own v in [0, 1], of the shape of x_t; None where it is not learned.
        """


@final
@dataclass(frozen=True)
class Beta(ReverseVariance):
    """v_t = beta_t: optimal for x ~ N(0, I) (Ho et al. 2020, section 3.2)."""

    @override
    def __call__(self, beta: Tensor, beta_tilde: Tensor, v: Tensor | None) -> Tensor:
        return beta


@final
@dataclass(frozen=True)
class BetaTilde(ReverseVariance):
    """v_t = beta-tilde_t, the posterior's.

    It is optimal for a single point, and the better one for fewer than T steps.
    """

    @override
    def __call__(self, beta: Tensor, beta_tilde: Tensor, v: Tensor | None) -> Tensor:
        return beta_tilde


@final
@dataclass(frozen=True)
class Learned(ReverseVariance):
    """exp(v log beta_t + (1 - v) log beta-tilde_t), v the network's.

    Nichol and Dhariwal (2021), Eq. 15. Between strided levels both ends are those of the strided
    chain. Raises InputError where no v is predicted.
    """

    learned: ClassVar[bool] = True

    @override
    def __call__(self, beta: Tensor, beta_tilde: Tensor, v: Tensor | None) -> Tensor:
        if v is None:
            raise InputError(
                "variance learned: this model predicts no variance; use beta or beta_tilde instead."
            )
        return torch.exp(v * beta.log() + (1 - v) * beta_tilde.log())


VARIANCES: dict[str, type[ReverseVariance]] = {
    "beta": Beta,
    "beta_tilde": BetaTilde,
    "learned": Learned,
}


@final
@dataclass(frozen=True)
class Ancestral(Step):
    """x_s ~ N(mean of q(x_s | x_t, x_hat), v_t) (Ho et al. 2020, Algorithm 2, for any t and s).

    mean = alpha_s x_hat + (a sigma_s^2 / sigma_t) z_hat,  a = alpha_t/alpha_s

    This is the posterior mean with x_t split into its parts. Between strided levels beta is that
    of the strided chain, 1 - alpha_t^2/alpha_s^2 when variance is preserved.

    Args:
        variance: v_t, of the reverse process: `Beta`, `BetaTilde` or `Learned`.
    """

    variance: ReverseVariance = BetaTilde()
    weak_order: ClassVar[int | None] = 1
    formula: ClassVar[str] = "mean of q(x_s given x_t, x_hat) + sqrt(v_t) z"
    source: ClassVar[str] = "Ho et al. 2020, Algorithm 2"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"beta": {"variance": Beta()}}

    @property
    def reverse_variance(self) -> ReverseVariance:
        """v_t."""
        return self.variance

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        (_, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, z_hat, v = denoiser.estimate(x_t, t)
        a, beta = denoiser.schedule.transition(t, s)
        v_t = self.variance(beta, beta * (sigma_s / sigma_t) ** 2, v)
        mean = alpha_s * x_hat + (a * sigma_s**2 / sigma_t) * z_hat
        return mean + v_t.sqrt() * noise(x_t), None


@final
@dataclass(frozen=True)
class DDIM(Step):
    """Denoising diffusion implicit step (Song et al. 2021a, Eq. 12).

    x_s = alpha_s x_hat + sqrt(sigma_s^2 - c^2) z_hat + c z,   c = eta * std of q(x_s | x_t, x_hat)

    eta = 0 is deterministic, eta = 1 ancestral.

    Args:
        eta: share of the ancestral noise, in [0, 1].
    """

    eta: float = 0.0
    formula: ClassVar[str] = "alpha_s x_hat + sigma_s z_hat"
    source: ClassVar[str] = "Song, Meng and Ermon 2021, Eq. 12"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "eta_half": {"eta": 0.5},
        "eta_1": {"eta": 1.0},
    }

    @property
    def order(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """1 where nothing is random."""
        return 1 if self.eta == 0 else None

    @property
    def weak_order(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """1 where noise is added."""
        return None if self.eta == 0 else 1

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        (_, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, z_hat = denoiser.split(x_t, t)
        if self.eta == 0:
            return alpha_s * x_hat + sigma_s * z_hat, None
        _, beta = denoiser.schedule.transition(t, s)
        c = self.eta * beta.sqrt() * sigma_s / sigma_t
        return alpha_s * x_hat + (sigma_s**2 - c**2).sqrt() * z_hat + c * noise(x_t), None


class Coordinate(ABC):
    """y = x / scale, u = value, dy/du = slope: a form of the probability-flow ODE."""

    @abstractmethod
    def scale(self, alpha: Times, sigma: Times) -> Times:
        """Return m."""

    @abstractmethod
    def value(self, alpha: Times, sigma: Times) -> Times:
        """Return u."""

    @abstractmethod
    def slope(self, x_hat: Tensor, z_hat: Tensor) -> Tensor:
        """Return dy/du, of the shape of x_hat."""


@final
@dataclass(frozen=True)
class Ratio(Coordinate):
    """y = x/alpha, u = sigma/alpha (Karras et al. 2022); infinite where alpha = 0."""

    @override
    def scale(self, alpha: Times, sigma: Times) -> Times:
        return alpha

    @override
    def value(self, alpha: Times, sigma: Times) -> Times:
        return sigma / alpha

    @override
    def slope(self, x_hat: Tensor, z_hat: Tensor) -> Tensor:
        return z_hat


@final
@dataclass(frozen=True)
class Fraction(Coordinate):
    """y = x/(alpha + sigma), u = sigma/(alpha + sigma) in [0, 1]: flow matching's time."""

    @override
    def scale(self, alpha: Times, sigma: Times) -> Times:
        return alpha + sigma

    @override
    def value(self, alpha: Times, sigma: Times) -> Times:
        return sigma / (alpha + sigma)

    @override
    def slope(self, x_hat: Tensor, z_hat: Tensor) -> Tensor:
        return z_hat - x_hat


COORDINATES: dict[str, type[Coordinate]] = {"ratio": Ratio, "fraction": Fraction}


@final
@dataclass(frozen=True)
class Euler(Step):
    """Euler's method in t on the probability-flow ODE (Song et al. 2021, Eq. 13).

    x_s = x_t + (s - t) dx_t/dt

    On the linear schedule it is DDIM.
    """

    order: ClassVar[int | None] = 1
    formula: ClassVar[str] = "x_t + (s - t) dx_t/dt"
    source: ClassVar[str] = "Song et al. 2021, Eq. 13"

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        d_alpha, d_sigma = denoiser.schedule.derivative(t)
        x_hat, z_hat = denoiser.split(x_t, t)
        return x_t + (s - t) * (d_alpha * x_hat + d_sigma * z_hat), None


@final
@dataclass(frozen=True, kw_only=True)
class Heun(Step):
    """Heun's second-order step with optional churn (Karras et al. 2022, Algorithm 2).

    Churn raises the noise level sigma/alpha by a share gamma = min(`churn`, sqrt(2) - 1) before
    the step, where it lies in [churn_from, churn_to]; `churn` is the published S_churn / steps.
    The correction is left out where the coordinate is infinite: give `coordinate=Fraction()` for
    schedules that have no signal at t = 1.

    Args:
        churn: S_churn / steps, at least 0; 0: deterministic.
        churn_from: the lowest noise level sigma/alpha with churn.
        churn_to: the highest.
        churn_noise: S_noise, the standard deviation of the noise that churn adds.
        coordinate: in which the step is straight: `Ratio`, sigma/alpha, or `Fraction`.
    """

    churn: float = 0.0
    churn_from: float = 0.0
    churn_to: float = 1e9
    churn_noise: float = 1.0
    coordinate: Coordinate = Ratio()
    grid: ClassVar[Grid | None] = Karras()
    steps: ClassVar[int | None] = 18
    formula: ClassVar[str] = "mean of two slopes in sigma/alpha, or in the fraction"
    source: ClassVar[str] = "Karras et al. 2022, Algorithm 2"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fraction": {"coordinate": Fraction()},
        "churn": {"churn": 0.1},
    }

    @property
    def order(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """2 without churn."""
        return 2 if self.churn == 0 else None

    @override
    def move(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        x_t, t = self._raised(denoiser, x_t, t, noise)
        at_t, at_s = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, z_hat = denoiser.split(x_t, t)
        x_s = at_s[0] * x_hat + at_s[1] * z_hat  # Euler in either coordinate
        h = self.coordinate.value(*at_s) - self.coordinate.value(*at_t)
        if h.isinf():
            return x_s, None
        before = self.coordinate.slope(x_hat, z_hat)
        change = self.coordinate.slope(*denoiser.split(x_s, s)) - before
        return x_s + self.coordinate.scale(*at_s) * h / 2 * change, None

    @override
    def end(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        """alpha_s x_hat, at the raised noise level."""
        x_t, t = self._raised(denoiser, x_t, t, noise)
        return super().end(denoiser, x_t, t, s, memory, noise)

    def _raised(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, noise: Noise
    ) -> tuple[Tensor, Times]:
        """(x, t) at the raised noise level, within the schedule."""
        alpha, sigma = denoiser.schedule(t)
        if self.churn == 0 or not self.churn_from <= sigma / alpha <= self.churn_to:
            return x_t, t
        gamma = min(self.churn, 2**0.5 - 1)
        raised = denoiser.schedule.inverse(-2 * ((1 + gamma) * sigma / alpha).log())
        alpha_r, sigma_r = denoiser.schedule(raised)
        added = ((sigma_r / alpha_r) ** 2 - (sigma / alpha) ** 2).clamp(min=0).sqrt()
        return alpha_r * (x_t / alpha + self.churn_noise * added * noise(x_t)), raised

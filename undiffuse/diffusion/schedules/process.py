"""Forward processes: how much signal and noise there is at time t in [0, 1], 0 data, 1 noise.

    x_t = alpha_t x + sigma_t z,   z ~ N(0, I),   sigma_0 = 0

Everything else follows from (alpha, sigma). With lambda = log(alpha / sigma), log-SNR = 2 lambda.
The linear SDE that has these marginals (Song et al. 2021, Eq. 5; Kingma et al. 2021, Eq. 29) is

    dx = f(t) x dt + g(t) dw,   f = alpha' / alpha,   g^2 = 2 sigma sigma' - 2 f sigma^2

The discrete chain of DDPM is one of them: see `chain.py`.

Times and coefficients are float64 tensors on the CPU, of any shape.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, final

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from undiffuse.diffusion.registered import Registered
from undiffuse.errors import InputError

Times = Float64[Tensor, "*shape"]

LEAST_SAMPLED = 0.002
"""sigma/alpha at which sampling ends if a schedule has no t_min (Karras et al. 2022, Table 1)."""

LEAST_SCORED = 1e-4
"""sigma/alpha at which a likelihood ends where a schedule has no t_min."""

Value = TypeVar("Value")


def level_below(t: Times, levels: int) -> Times:
    """Return t - 1/levels, exactly 0 where t is the first level: a knot is a knot, to rounding."""
    s = t - 1 / levels
    return torch.where(s < 1e-9, 0.0, s)


def as_times(t: Tensor | float | list[float]) -> Tensor:
    """Return times as a float64 tensor on the CPU."""
    return torch.as_tensor(t, dtype=torch.float64, device="cpu")


def remembered(memory: dict[float, Value], t: float, compute: Callable[[], Value]) -> Value:
    """Return `compute()`, or what it gave last time for this `t`.

    The memory is emptied before it grows large. Tensors made in inference mode could not be
    differentiated through later: it is left for what is kept.
    """
    if t not in memory:
        if len(memory) >= 10_000:
            memory.clear()
        with torch.inference_mode(False):
            memory[t] = compute()
    return memory[t]


class Schedule(Registered):
    """The forward process; calling it gives (alpha_t, sigma_t).

    Coefficients at scalar times are remembered, so that those of a sampling grid are computed once;
    not those of a schedule that is itself trained, whose parameters are in `module`.
    """

    t_min: float  # the smallest time that is trained and integrated to
    levels: int | None = None  # T of a discrete chain
    module: nn.Module | None = None

    @abstractmethod
    def marginal(self, t: Times) -> tuple[Times, Times]:
        """Return (alpha_t, sigma_t), each of the shape of `t`: the formula behind the call."""

    @cached_property
    def _remembered(self) -> dict[float, tuple[Tensor, Tensor]]:
        return {}

    @final
    def __call__(self, t: Times) -> tuple[Times, Times]:
        """Return the signal and noise scales (alpha_t, sigma_t), each of the shape of `t`."""
        t = as_times(t)
        if t.ndim or self.module is not None:
            return self.marginal(t)
        return remembered(self._remembered, float(t), lambda: self.marginal(t))

    @abstractmethod
    def inverse(self, log_snr: Times) -> Times:
        """Return the time at which the log signal-to-noise ratio has this value, within [0, 1]."""

    def for_data(self, x: Tensor) -> Schedule:
        """Return the schedule for training rows `x` (N, *): itself, unless the data decide it."""
        return self

    @final
    def last_time(self, least: float) -> Times:
        """Return t_min, or where it is 0 the time at which sigma/alpha is `least`."""
        if self.t_min > 0:
            return as_times(self.t_min)
        return self.inverse(as_times(-2 * math.log(least)))

    @final
    def count_levels(self, given: int | None, where: str, least: int = 1) -> int:
        """Return `given`, or this schedule's own number of levels.

        Raises:
            InputError: naming `where`, if there is neither, or fewer than `least`.
        """
        levels = given or self.levels
        if levels is None:
            raise InputError(f"{where}: this schedule has no levels; give levels=T.")
        if levels < least:
            raise InputError(f"{where}: it takes {least} levels or more, not {levels}.")
        return levels

    @final
    def log_snr(self, t: Times) -> Times:
        """Return log(alpha_t^2 / sigma_t^2): +inf at t = 0, decreasing."""
        alpha, sigma = self(t)
        return 2 * (alpha.log() - sigma.log())

    @abstractmethod
    def slopes(self, t: Times) -> tuple[Times, Times]:
        """Return (d alpha/dt, d sigma/dt), each of the shape of `t`: the formula of `derivative`.

        In closed form: the first automatic derivative of a process loads torch's compiler for
        seconds.
        """

    @final
    def derivative(self, t: Times) -> tuple[Times, Times]:
        """Return (d alpha/dt, d sigma/dt) at times `t`, each of its shape, exact."""
        return self.slopes(as_times(t))

    @final
    def sde(self, t: Times) -> tuple[Times, Times]:
        """Return f(t) and g^2(t) of the SDE with these marginals; infinite where alpha = 0."""
        (alpha, sigma), (d_alpha, d_sigma) = self(t), self.derivative(t)
        f = d_alpha / alpha
        return f, 2 * sigma * d_sigma - 2 * f * sigma**2

    @final
    def transition(self, t: Times, s: Times) -> tuple[Times, Times]:
        """Return (a, b) of q(x_t | x_s) = N(a x_s, b I) for s < t.

        a = alpha_t/alpha_s, b = sigma_t^2 - a^2 sigma_s^2.
        """
        (alpha_t, sigma_t), (alpha_s, sigma_s) = self(t), self(s)
        a = alpha_t / alpha_s
        ratio = a * sigma_s / sigma_t  # in [0, 1]; factored to keep b's relative accuracy
        return a, sigma_t**2 * (1 - ratio) * (1 + ratio)

    @final
    def posterior(self, t: Times, s: Times) -> tuple[Times, Times, Times]:
        """Return (a, b, v) of q(x_s | x_t, x) = N(a x_t + b x, v I); at s = 0 it is the point x.

        Ho et al. (2020), Eq. 7; Kim and Lee (2024), Theorem 2; Malhotra (2024), Eq. 3.5-3.6.
        """
        (_, sigma_t), (alpha_s, sigma_s) = self(t), self(s)
        a, b = self.transition(t, s)
        return a * sigma_s**2 / sigma_t**2, alpha_s * b / sigma_t**2, b * sigma_s**2 / sigma_t**2


def preserved(B: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha and sigma with alpha^2 = 1 - sigma^2 = e^{-B}, B the integral of beta."""
    return torch.exp(-B / 2), torch.sqrt(-torch.expm1(-B))


def preserved_slopes(B: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """Return the derivatives of `preserved(B)` where B grows at `rate`."""
    alpha, sigma = preserved(B)
    return -rate / 2 * alpha, rate * alpha**2 / (2 * sigma)


def rate_integral(log_snr: Tensor) -> Tensor:
    """Return B where variance is preserved: SNR = 1 / (e^B - 1), so B = log(1 + e^{-log SNR})."""
    return torch.nn.functional.softplus(-as_times(log_snr))


def _linear_rate_integral(t: Tensor, low: float, high: float) -> Tensor:
    return low * t + (high - low) * t**2 / 2


def _linear_rate(t: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * t


def _linear_rate_time(B: Tensor, low: float, high: float) -> Tensor:
    return 2 * B / (low + torch.sqrt(low**2 + 2 * (high - low) * B))


@final
@dataclass(frozen=True, kw_only=True)
class LinearVP(Schedule):
    """Variance preserving, beta(t) linear from `low` to `high` (Song et al. 2021, Eq. 32-33).

    Args:
        low: beta at t = 0.
        high: beta at t = 1.
        t_min: the earliest time of training and sampling, in (0, 1).

    >>> alpha, sigma = LinearVP()(torch.tensor([0.0, 1.0], dtype=torch.float64))
    >>> (alpha**2 + sigma**2).round(decimals=12).tolist()
    [1.0, 1.0]
    """

    low: float = 0.1
    high: float = 20.0
    t_min: float = 1e-3

    def marginal(self, t: Times) -> tuple[Times, Times]:
        """Return (alpha_t, sigma_t)."""
        return preserved(_linear_rate_integral(t, self.low, self.high))

    def slopes(self, t: Times) -> tuple[Times, Times]:
        """Return (d alpha/dt, d sigma/dt)."""
        B = _linear_rate_integral(t, self.low, self.high)
        return preserved_slopes(B, _linear_rate(t, self.low, self.high))

    def inverse(self, log_snr: Times) -> Times:
        """Return the time of this log-SNR."""
        return _linear_rate_time(rate_integral(log_snr), self.low, self.high).clamp(0, 1)


@final
@dataclass(frozen=True, kw_only=True)
class CosineVP(Schedule):
    """Variance preserving, alpha = cos(pi t / 2): alpha_1 = 0 exactly.

    Nichol and Dhariwal (2021), continuous limit.

    Args:
        t_min: the earliest time of training and sampling, in (0, 1).

    >>> alpha, sigma = CosineVP()(torch.tensor(1.0, dtype=torch.float64))
    >>> float(alpha), float(sigma)
    (0.0, 1.0)
    """

    t_min: float = 1e-3

    def marginal(self, t: Times) -> tuple[Times, Times]:
        """Return (alpha_t, sigma_t)."""
        angle = math.pi / 2 * t
        # sin of the complement is cos, with relative accuracy near alpha = 0
        return torch.sin(math.pi / 2 * (1 - t)), torch.sin(angle)

    def slopes(self, t: Times) -> tuple[Times, Times]:
        """Return (d alpha/dt, d sigma/dt)."""
        alpha, sigma = self.marginal(t)
        return -math.pi / 2 * sigma, math.pi / 2 * alpha

    def inverse(self, log_snr: Times) -> Times:
        """Return the time of this log-SNR."""
        return (2 / math.pi) * torch.atan(torch.exp(-as_times(log_snr) / 2))


@final
@dataclass(frozen=True, kw_only=True)
class SubVP(Schedule):
    """Sub-VP: alpha = e^{-B/2}, sigma = 1 - e^{-B}, without a root (Song et al. 2021, Eq. 29).

    Args:
        low: beta at t = 0.
        high: beta at t = 1.
        t_min: the earliest time of training and sampling, in (0, 1).
    """

    low: float = 0.1
    high: float = 20.0
    t_min: float = 1e-3

    def marginal(self, t: Times) -> tuple[Times, Times]:
        """Return (alpha_t, sigma_t)."""
        B = _linear_rate_integral(t, self.low, self.high)
        return torch.exp(-B / 2), -torch.expm1(-B)

    def slopes(self, t: Times) -> tuple[Times, Times]:
        """Return (d alpha/dt, d sigma/dt)."""
        alpha, _ = self.marginal(t)
        rate = _linear_rate(t, self.low, self.high)
        return -rate / 2 * alpha, rate * alpha**2

    def inverse(self, log_snr: Times) -> Times:
        """Return the time of this log-SNR."""
        # sigma/alpha = e^{B/2} - e^{-B/2} = 2 sinh(B/2), so B = 2 asinh(e^{-log SNR / 2} / 2)
        B = 2 * torch.asinh(torch.exp(-as_times(log_snr) / 2) / 2)
        return _linear_rate_time(B, self.low, self.high).clamp(0, 1)


@final
@dataclass(frozen=True, kw_only=True)
class VE(Schedule):
    """Variance exploding: alpha = 1, sigma geometric from sigma_min at t_min to sigma_max at 1.

    Below t_min sigma is linear in t. Song et al. (2021), Eq. 30-31. With `levels` = L, t_min is 1/L
    and level i of NCSN is t = i/L (Song and Ermon 2019): a geometric sequence of L noise levels,
    lowest first.

    Args:
        sigma_min: the lowest noise level, at t_min.
        sigma_max: the highest, at t = 1.
        levels: L, the number of levels of a chain; None: continuous.
        start: t_min where `levels` is None, in (0, 1).

    >>> _, sigma = VE(sigma_min=0.01, sigma_max=10.0, levels=4)(as_times([0.25, 1.0]))
    >>> sigma.tolist()
    [0.01, 10.0]
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    levels: int | None = None
    start: float = 1e-3

    @classmethod
    def examples(cls) -> Mapping[str, VE]:
        """Return a continuous one and one of NCSN's levels."""
        return {"": cls(), "ncsn": cls(sigma_max=20.0, levels=10)}

    @property
    def t_min(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """1/L, or where the geometric part starts."""
        return 1 / self.levels if self.levels else self.start

    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def marginal(self, t: Times) -> tuple[Times, Times]:
        """Return (alpha_t, sigma_t)."""
        share = (t - self.t_min) / (1 - self.t_min) if self.t_min < 1 else torch.ones_like(t)
        geometric = self.sigma_max * torch.exp(self._log_ratio() * (share - 1))
        geometric = torch.where(t <= self.t_min, self.sigma_min * t / self.t_min, geometric)
        return torch.ones_like(t), geometric

    def slopes(self, t: Times) -> tuple[Times, Times]:
        """Return (d alpha/dt, d sigma/dt)."""
        _, sigma = self.marginal(t)
        below = self.sigma_min / self.t_min
        if self.t_min == 1:
            return torch.zeros_like(t), torch.full_like(t, below)
        above = sigma * self._log_ratio() / (1 - self.t_min)  # at t_min too: times are above it
        return torch.zeros_like(t), torch.where(t < self.t_min, below, above)

    def inverse(self, log_snr: Times) -> Times:
        """Return the time of this log-SNR."""
        sigma = torch.exp(-as_times(log_snr) / 2)
        share = torch.log(sigma / self.sigma_min) / self._log_ratio()
        above = self.t_min + (1 - self.t_min) * share
        return torch.where(
            sigma <= self.sigma_min, self.t_min * sigma / self.sigma_min, above
        ).clamp(0, 1)


@final
@dataclass(frozen=True, kw_only=True)
class Linear(Schedule):
    """Flow matching's straight path, alpha = 1 - t, sigma = t (Lipman et al. 2023).

    Args:
        t_min: the earliest time of training and sampling, in [0, 1).
    """

    t_min: float = 0.0

    def marginal(self, t: Times) -> tuple[Times, Times]:
        """Return (alpha_t, sigma_t)."""
        return 1 - t, t * 1.0

    def slopes(self, t: Times) -> tuple[Times, Times]:
        """Return (d alpha/dt, d sigma/dt)."""
        return -torch.ones_like(t), torch.ones_like(t)

    def inverse(self, log_snr: Times) -> Times:
        """Return the time of this log-SNR."""
        return torch.sigmoid(-as_times(log_snr) / 2)


@final
@dataclass(frozen=True, kw_only=True)
class EDM(Schedule):
    """alpha = 1, sigma = sigma_max t (Karras et al. 2022, Table 1): time is the noise level.

    Args:
        sigma_min: the lowest noise level of training and sampling, in units of the data's scale.
        sigma_max: the highest, at t = 1.

    >>> EDM()(torch.tensor(0.5, dtype=torch.float64))[1].item()
    40.0
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    @property
    def t_min(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """sigma_min in units of sigma_max."""
        return self.sigma_min / self.sigma_max

    def marginal(self, t: Times) -> tuple[Times, Times]:
        """Return (alpha_t, sigma_t)."""
        return torch.ones_like(t), self.sigma_max * t

    def slopes(self, t: Times) -> tuple[Times, Times]:
        """Return (d alpha/dt, d sigma/dt)."""
        return torch.zeros_like(t), torch.full_like(t, self.sigma_max)

    def inverse(self, log_snr: Times) -> Times:
        """Return the time of this log-SNR."""
        return (torch.exp(-as_times(log_snr) / 2) / self.sigma_max).clamp(0, 1)

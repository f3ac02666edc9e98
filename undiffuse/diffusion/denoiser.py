"""The trained thing, (x_t, t) -> E[x | x_t], and everything else that follows from it.

With x_t = alpha x + sigma z, the posterior means obey x_t = alpha x_hat + sigma z_hat, and
(Tweedie)

    score = grad log p_t(x_t) = -z_hat / sigma
    velocity = alpha' x_hat + sigma' z_hat          (right-hand side of the probability-flow ODE)

A network is called as F = network(c_in x_t, c_noise, **cond), c_in = 1 / sqrt(alpha^2 sigma_data^2
+ sigma^2), and each view is an affine row in (x_t, F) whose coefficients are computed in float64
and cast once: z_hat taken through x_hat in float32 would be off by 6e-5 at sigma = 0.002.

A condition `given` (B, 2 C, *S) is what is known of the rows themselves: x where the mask is 1,
else 0, and the mask (`known.as_given`). There the network is shown 0 instead of x_t, which says no
more, and x_hat is what is known: a loss counts the other entries alone.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from undiffuse.diffusion.registered import Registered
from undiffuse.diffusion.schedules.process import Schedule, Times, as_times, remembered
from undiffuse.diffusion.target import Target, regression_target
from undiffuse.errors import InputError


def expand(c: Times, x: Tensor) -> Tensor:
    """Return coefficients () or (B,) so that they broadcast against `x` (B, *).

    They get the type and device of `x`; a scalar stays a float64 scalar on the CPU, which
    multiplies without a copy and without changing the type of `x`.
    """
    if c.ndim == 0:
        return c
    return c.to(x.device, x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def noised(schedule: Schedule, x: Tensor, z: Tensor, t: Times) -> Tensor:
    """Return x_t = alpha_t x + sigma_t z for `x`, `z` (B, *) and `t` scalar or (B,)."""
    alpha, sigma = schedule(t)
    return expand(alpha, x) * x + expand(sigma, x) * z


class Estimate(NamedTuple):
    """Posterior means of data and noise given x_t, each (B, *); `v` if the variance is learned."""

    x_hat: Tensor
    z_hat: Tensor
    v: Tensor | None = None


class Coefficients(NamedTuple):
    """x_hat = c_skip x_t + c_out F, z_hat = b_skip x_t + b_out F, F = network(c_in x_t, ...)."""

    c_in: Tensor
    c_noise: Tensor  # float32, as networks take it
    c_skip: Tensor
    c_out: Tensor
    b_skip: Tensor
    b_out: Tensor


class Condition(Registered):
    """What the network is told about the noise level."""

    @property
    @abstractmethod
    def span(self) -> float:
        """The length of the interval that it lies in."""

    @abstractmethod
    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """Return c_noise at `t`."""


@final
@dataclass(frozen=True)
class LogSigma(Condition):
    """log(sigma/alpha) / 4, clamped to +-`largest`: it is infinite at the ends.

    Karras et al. (2022), Table 1.
    """

    largest: float = 3.0

    @property
    def span(self) -> float:
        """4: sigma/alpha from e^-8 to e^8; a network may be asked a little outside."""
        return 4.0

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """Return c_noise at `t`."""
        return (-schedule.log_snr(t) / 8).clamp(-self.largest, self.largest)


@final
@dataclass(frozen=True)
class Level(Condition):
    """scale * t + offset, for networks made elsewhere that count levels.

    Those of diffusers count the first level, t = 1/T, as 0: their offset is -1.

    >>> Level(1000.0, offset=-1.0)(None, torch.tensor([0.001, 1.0]))
    tensor([  0., 999.])
    """

    scale: float = 1000.0
    offset: float = 0.0

    @property
    def span(self) -> float:
        """The scale."""
        return self.scale

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """Return c_noise at `t`."""
        return self.scale * t + self.offset


class AbstractDenoiser(nn.Module, ABC):
    """Anything that knows E[x | x_t]: a network, a closed form, or another denoiser wrapped.

    `estimate` is abstract, the views are final. `x_t` is (B, *), `t` a scalar or (B,), float64;
    `cond` is passed to the network.
    """

    schedule: Schedule

    @abstractmethod
    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return (x_hat, z_hat, v). At sigma = 0 these are x_t / alpha and E[z | x_t] = 0."""

    @final
    def forward(self, x_t: Tensor, t: Times | float, **cond: Any) -> Tensor:
        """Return x_hat = E[x | x_t]."""
        return self.estimate(x_t, as_times(t), **cond).x_hat

    @final
    def predict(self, x_t: Tensor, t: Times | float, **cond: Any) -> tuple[Tensor, Tensor | None]:
        """Return (x_hat, v); v is the variance interpolation where it is learned, else None."""
        x_hat, _, v = self.estimate(x_t, as_times(t), **cond)
        return x_hat, v

    @final
    def split(self, x_t: Tensor, t: Times | float, **cond: Any) -> tuple[Tensor, Tensor]:
        """Return (x_hat, z_hat), with x_t = alpha x_hat + sigma z_hat."""
        x_hat, z_hat, _ = self.estimate(x_t, as_times(t), **cond)
        return x_hat, z_hat

    @final
    def noise(self, x_t: Tensor, t: Times | float, **cond: Any) -> Tensor:
        """Return z_hat = E[z | x_t] (Ho et al. 2020, epsilon_theta)."""
        return self.estimate(x_t, as_times(t), **cond).z_hat

    @final
    def score(self, x_t: Tensor, t: Times | float, **cond: Any) -> Tensor:
        """Return grad log p_t(x_t) = -z_hat / sigma_t (Kim and Lee 2024, Eq. 42-43).

        Undefined at sigma = 0.
        """
        t = as_times(t)
        _, sigma = self.schedule(t)
        return -self.noise(x_t, t, **cond) / expand(sigma, x_t)

    @final
    def velocity(self, x_t: Tensor, t: Times | float, **cond: Any) -> Tensor:
        """Return dx_t/dt = alpha' x_hat + sigma' z_hat of the probability-flow ODE.

        Song et al. (2021), Eq. 13.
        """
        t = as_times(t)
        x_hat, z_hat = self.split(x_t, t, **cond)
        d_alpha, d_sigma = self.schedule.derivative(t)
        return expand(d_alpha, x_t) * x_hat + expand(d_sigma, x_t) * z_hat

    @final
    def of_rows(self, rows: Tensor, like: Tensor) -> AbstractDenoiser:
        """Return this denoiser for some rows of a batch.

        Args:
            rows: (b,) int64, the numbers of the rows that are kept.
            like: (B, *), the whole batch, which the denoiser was made for.
        """
        part = copy.copy(self)
        part._modules = {  # pyright: ignore[reportPrivateUsage] torch has no other way
            name: module.of_rows(rows, like) if isinstance(module, AbstractDenoiser) else module
            for name, module in self._modules.items()
        }
        part.keep(rows, like)
        return part

    def keep(self, rows: Tensor, like: Tensor) -> None:
        """Keep only `rows` of what is held for each row of `like`: nothing, unless overridden."""

    @final
    def given(self, **cond: Any) -> Conditioned:
        """Return this denoiser under a fixed condition, e.g. `denoiser.given(label=labels)`.

        A step never sees conditions.
        """
        return Conditioned(self, cond)

    @final
    def on(self, schedule: Schedule) -> Reexpressed:
        """Return the same denoiser for another forward process; see `Reexpressed`."""
        return Reexpressed(self, schedule)


@final
class Denoiser(AbstractDenoiser):
    """A network, its forward process and what it predicts.

    Args:
        network: `network(x, c_noise, **cond)` maps (B, *) to (B, *), or to twice the channels if
            `learned_variance`: the second half is squashed to v in [0, 1] (Nichol and Dhariwal
            2021, Eq. 15).
        schedule: the forward process.
        target: what the network predicts.
        sigma_data: the data's standard deviation at unit scale.
        condition: what the network is told about the noise level.
        learned_variance: whether the network gives a variance as well.
        teacher: another denoiser on the same schedule that this one learns from.
        linear: another one, such as the best linear denoiser, of which the network learns what is
            missing: F = network(...) + what F is for the other's x_hat. None: the network is F.

    Raises:
        InputError: for a target that is undefined where the schedule has no signal left.

    >>> from undiffuse.diffusion.schedules.process import EDM
    >>> from undiffuse.diffusion.target import Preconditioned
    >>> zero = lambda x, c_noise: torch.zeros_like(x)
    >>> denoiser = Denoiser(zero, EDM(), Preconditioned(0.5), sigma_data=0.5)
    >>> denoiser(torch.ones(1, 2), 0.00625)  # sigma = 0.5 = sigma_data: half the way to the mean
    tensor([[0.5000, 0.5000]])
    """

    def __init__(
        self,
        network: Any,  # a module, or any function
        schedule: Schedule,
        target: Target,
        *,
        sigma_data: float = 1.0,
        condition: Condition = LogSigma(),
        learned_variance: bool = False,
        teacher: AbstractDenoiser | None = None,
        linear: AbstractDenoiser | None = None,
    ) -> None:
        super().__init__()
        alpha_1, _ = schedule(as_times(1.0))
        if target.needs_signal and alpha_1 <= 0:
            raise InputError(
                f"target {type(target).__name__.removesuffix('Target').lower()}: undefined on "
                f"{type(schedule).__name__}, which has no signal left at t = 1; use v, data or "
                "velocity instead."
            )
        self.network, self.schedule, self.target = network, schedule, target
        self.sigma_data, self.condition = sigma_data, condition
        self.learned_variance, self.teacher, self.linear = learned_variance, teacher, linear
        self._rows: dict[float, Coefficients] = {}

    def row(self, t: Times) -> Coefficients:
        """Return the coefficients at `t`, () or (B,); those at scalar times are remembered."""
        if t.ndim or self.schedule.module is not None:
            return self._row(t)
        return remembered(self._rows, float(t), lambda: self._row(t))

    def _row(self, t: Times) -> Coefficients:
        alpha, sigma = self.schedule(t)
        c_in = ((alpha * self.sigma_data) ** 2 + sigma**2).rsqrt()
        c_skip, c_out = self.target.row(self.schedule, t)
        b_skip, b_out = (1 - alpha * c_skip) / sigma, -alpha * c_out / sigma
        return Coefficients(
            c_in, self.condition(self.schedule, t).float(), c_skip, c_out, b_skip, b_out
        )

    def evaluate(self, x_t: Tensor, t: Times, **cond: Any) -> Tensor:
        """Return the network's raw output: F (B, *), and v's logits behind it."""
        row = self.row(t)
        c_noise = row.c_noise.to(x_t.device).expand(x_t.shape[0])
        x = expand(row.c_in, x_t) * x_t
        if (given := cond.get("given")) is not None:
            x = torch.where(given.chunk(2, 1)[1] > 0, 0.0, x)
        return self.network(x, c_noise, **cond)

    def outputs(self, x_t: Tensor, t: Times, **cond: Any) -> tuple[Tensor, Tensor | None]:
        """Return (F, v), each (B, *) in the type of x_t; v only if the variance is learned."""
        output, v = self.evaluate(x_t, t, **cond).to(x_t.dtype), None
        if self.learned_variance:
            output, logit = output.chunk(2, dim=1)
            v = torch.sigmoid(logit)
        if self.linear is not None:
            x_hat, z_hat = self.linear.split(x_t, t, **cond)
            c_x, c_z = regression_target(self.schedule, self.target, t)
            output = output + expand(c_x, x_t) * x_hat + expand(c_z, x_t) * z_hat
        if (given := cond.get("given")) is not None:
            known, mask = given.chunk(2, 1)
            row = self.row(t)
            exact = (known - expand(row.c_skip, x_t) * x_t) / expand(row.c_out, x_t)
            output = torch.where(mask > 0, exact.to(output.dtype), output)
        return output, v

    def data(self, x_t: Tensor, output: Tensor, t: Times) -> Tensor:
        """Return x_hat = c_skip x_t + c_out F (B, *), F the network's `output`, if sigma_t > 0."""
        row = self.row(t)
        return expand(row.c_skip, x_t) * x_t + expand(row.c_out, x_t) * output

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return (x_hat, z_hat, v), from one call of the network."""
        alpha, sigma = self.schedule(t)
        if sigma.ndim == 0 and sigma == 0:
            return Estimate(x_t / alpha, torch.zeros_like(x_t))
        output, v = self.outputs(x_t, t, **cond)
        row = self.row(t)
        x_hat = self.data(x_t, output, t)
        if (given := cond.get("given")) is not None:
            known, mask = given.chunk(2, 1)
            x_hat = torch.where(mask > 0, known.to(x_hat.dtype), x_hat)
        z_hat = expand(row.b_skip, x_t) * x_t + expand(row.b_out, x_t) * output
        if sigma.ndim and bool((sigma == 0).any()):
            clean = expand(sigma, x_t) == 0
            x_hat = torch.where(clean, x_t / expand(alpha, x_t), x_hat)
            z_hat = torch.where(clean, 0.0, z_hat)
        return Estimate(x_hat, z_hat, v)


@final
class Conditioned(AbstractDenoiser):
    """A denoiser under a fixed condition; conditions given later take precedence."""

    def __init__(self, denoiser: AbstractDenoiser, cond: dict[str, Any]) -> None:
        super().__init__()
        self.denoiser, self.cond, self.schedule = denoiser, cond, denoiser.schedule

    def keep(self, rows: Tensor, like: Tensor) -> None:
        """Keep only `rows` of what is held for each row of `like`."""
        self.cond = kept_conditions(self.cond, rows, like)

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return what the denoiser gives under the condition."""
        return self.denoiser.estimate(x_t, t, **{**self.cond, **cond})


def kept_conditions(cond: dict[str, Any], rows: Tensor, like: Tensor) -> dict[str, Any]:
    """Return the conditions of some rows (b,) of the batch `like` (B, *)."""
    return {
        name: value[rows.to(value.device)]
        if isinstance(value, Tensor) and value.ndim and len(value) == len(like)
        else value
        for name, value in cond.items()
    }


@final
class Reexpressed(AbstractDenoiser):
    """A denoiser used on another schedule, matched by log-SNR and rescaled.

    x_t on the new schedule is (alpha_t / alpha_t') times a point of the old one at the time t' of
    equal log-SNR; nothing else in p_t depends on the schedule.

    Raises:
        InputError: if the new schedule leaves the range of log-SNR that the denoiser was made for.
    """

    def __init__(self, denoiser: AbstractDenoiser, schedule: Schedule) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, schedule
        old = denoiser.schedule
        (high, low), (new_high, new_low) = (
            [float(s.log_snr(as_times(t))) for t in (s.t_min, 1.0)] for s in (old, schedule)
        )
        slack = 1e-6
        if new_low < low - slack or new_high > high + slack:
            raise InputError(
                f"schedule {type(schedule).__name__}: its log-SNR runs from {new_low:.2f} to "
                f"{new_high:.2f}, but the denoiser was trained from {low:.2f} to {high:.2f}; "
                "choose end points inside that range."
            )

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return what the denoiser gives at the time of equal log-SNR."""
        alpha, sigma = self.schedule(t)
        t_old = self.denoiser.schedule.inverse(self.schedule.log_snr(t))
        alpha_old, sigma_old = self.denoiser.schedule(t_old)
        scale = (alpha_old + sigma_old) / (alpha + sigma)  # equal log-SNR: the ratio of either part
        return self.denoiser.estimate(expand(scale, x_t) * x_t, t_old, **cond)


CONDITIONS: dict[str, type[Condition]] = {"log_sigma": LogSigma, "level": Level}

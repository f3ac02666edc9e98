"""A learned noise schedule: variance preserving, the log-SNR a monotone network of time.

    alpha^2 = sigmoid(-gamma),   sigma^2 = sigmoid(gamma),   gamma(t) = -log SNR(t)

(Kingma et al. 2021, Eq. 3-4). From t_min to 1, gamma runs from gamma_0 to gamma_1 along a monotone
curve; below t_min sigma/alpha is linear in t, so that sigma_0 = 0. In continuous time the diffusion
part of the bound depends on the end points alone,

    L = 1/2 integral of |x - x_hat|^2 dSNR                    (Kingma et al. 2021, Eq. 18)

so that the curve between them can be trained to minimize the variance of its Monte Carlo estimate,
while the end points minimize the bound itself (their section 5 and Appendix I): two gradients, of
E[l] and of E[l^2], for two groups of parameters, taken from one evaluation by `schedule_loss`.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.diffusion import gaussian
from undiffuse.diffusion.denoiser import Denoiser
from undiffuse.diffusion.objectives.objective import AbstractObjective
from undiffuse.diffusion.prior import Prior
from undiffuse.diffusion.schedules.process import Schedule, Times, as_times
from undiffuse.errors import InputError

_SLOPES = 8  # of the sigmoids at the start, in units of the interval
_ROUNDS = 60  # of Newton's method, of which a handful reach the last digit


@final
class MonotoneCurve(nn.Module):
    """gamma on [0, 1]: end points, and an increasing curve g between them with g(0) = 0, g(1) = 1.

    g = normalized( u + sum_j w_j sigmoid(a_j (u - b_j)) ), a_j and w_j positive; at first the
    sigmoids hardly count and g is a straight line. Parameters are float32 and used in float64;
    gradients reach them inside `learns()` alone, so that nothing else that uses the schedule
    depends on its training.
    """

    def __init__(self, first: float, last: float, width: int) -> None:
        super().__init__()
        self.ends = nn.Parameter(torch.tensor([first, last]))
        self.steepness = nn.Parameter(torch.full((width,), math.log(math.expm1(_SLOPES))))
        self.centres = nn.Parameter((torch.arange(width) + 0.5) / width)
        self.weights = nn.Parameter(torch.full((width,), math.log(math.expm1(0.1 / width))))
        self.learning = False

    @contextmanager
    def learns(self) -> Generator[None]:
        """Inside, the schedule's coefficients carry gradients to these parameters."""
        self.learning = True
        try:
            yield
        finally:
            self.learning = False

    def inner(self) -> list[nn.Parameter]:
        """Return the parameters of the curve between the end points."""
        return [self.steepness, self.centres, self.weights]

    def _parameters64(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The end points, a_j, b_j and w_j, in float64."""
        ends, steepness, centres, weights = (
            (p if self.learning else p.detach()).to("cpu", torch.float64)
            for p in (self.ends, self.steepness, self.centres, self.weights)
        )
        return ends, F.softplus(steepness), centres, F.softplus(weights)

    def forward(self, u: Times) -> Times:
        """Return gamma at `u` in [0, 1]."""
        ends, a, b, w = self._parameters64()
        start = torch.sigmoid(-a * b)
        whole = 1 + ((torch.sigmoid(a * (1 - b)) - start) * w).sum()
        risen = u + ((torch.sigmoid(a * (u[..., None] - b)) - start) * w).sum(-1)
        return ends[0] + (ends[1] - ends[0]) * risen / whole

    def slope(self, u: Times) -> Times:
        """Return the derivative of gamma at `u` in [0, 1]."""
        ends, a, b, w = self._parameters64()
        whole = 1 + ((torch.sigmoid(a * (1 - b)) - torch.sigmoid(-a * b)) * w).sum()
        s = torch.sigmoid(a * (u[..., None] - b))
        return (ends[1] - ends[0]) * (1 + (a * w * s * (1 - s)).sum(-1)) / whole


@final
@dataclass(frozen=True, kw_only=True)
class LearnedVP(Schedule):
    """Variance preserving with a learned log-SNR, at first linear in t.

    Args:
        log_snr_max: at t_min, at first; the published gamma_0 is -13.3 (Kingma et al. 2021, B.1).
        log_snr_min: at t = 1, at first; the published gamma_1 is 5.
        width: number of sigmoids in the curve.
        levels: T, at least 2; t_min is then 1/T and level i is t = i/T.
        start: t_min without levels.

    Raises:
        InputError: for fewer levels than 2.

    >>> alpha, sigma = LearnedVP()(torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64))
    >>> (alpha**2 + sigma**2).round(decimals=12).tolist()
    [1.0, 1.0, 1.0]
    """

    log_snr_max: float = 13.3
    log_snr_min: float = -5.0
    width: int = 16
    levels: int | None = None
    start: float = 1e-3
    module: MonotoneCurve = field(  # pyright: ignore[reportIncompatibleVariableOverride]
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.levels is not None and self.levels < 2:
            raise InputError("levels: a learned schedule has at least 2.")
        object.__setattr__(
            self, "module", MonotoneCurve(-self.log_snr_max, -self.log_snr_min, self.width)
        )

    @property
    def t_min(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """1/T, or `start`."""
        return 1 / self.levels if self.levels else self.start

    def gamma(self, t: Times) -> Times:
        """Return -log SNR at `t`, strictly increasing; -inf at t = 0."""
        curve = self.module((t.clamp(min=self.t_min) - self.t_min) / (1 - self.t_min))
        return curve + 2 * torch.log(t.clamp(max=self.t_min) / self.t_min)

    def marginal(self, t: Times) -> tuple[Times, Times]:
        """Return (alpha_t, sigma_t)."""
        # from gamma to its square roots in log space: relative accuracy at both ends
        gamma = self.gamma(t)
        return torch.exp(F.logsigmoid(-gamma) / 2), torch.exp(F.logsigmoid(gamma) / 2)

    def _gamma_slope(self, t: Times) -> Times:
        above = self.module.slope((t.clamp(min=self.t_min) - self.t_min) / (1 - self.t_min))
        return torch.where(t < self.t_min, 2 / t, above / (1 - self.t_min))

    def slopes(self, t: Times) -> tuple[Times, Times]:
        """Return (d alpha/dt, d sigma/dt)."""
        (alpha, sigma), rate = self.marginal(t), self._gamma_slope(t)
        return -rate / 2 * sigma**2 * alpha, rate / 2 * alpha**2 * sigma

    def inverse(self, log_snr: Times) -> Times:
        """Return the time of this log-SNR, by Newton's method kept within a bracket."""
        with torch.no_grad():
            gamma = -as_times(log_snr)
            first, last = self.gamma(as_times([self.t_min, 1.0])).unbind()
            wanted = torch.minimum(torch.maximum(gamma, first), last)
            low, high = torch.full_like(wanted, self.t_min), torch.ones_like(wanted)
            t = (low + high) / 2
            for _ in range(_ROUNDS):
                value = self.gamma(t)
                low, high = (
                    torch.where(value < wanted, t, low),
                    torch.where(value < wanted, high, t),
                )
                step = t + (wanted - value) / self._gamma_slope(t)
                moved = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
                t, change = moved, (moved - t).abs()
                if bool((change <= 1e-14).all()):
                    break
            linear = self.t_min * torch.exp((gamma - first) / 2)
            return torch.where(gamma <= first, linear, torch.where(gamma >= last, 1.0, t)).clamp(
                0, 1
            )


def end_terms(schedule: Schedule, prior: Prior, x: Tensor) -> Tensor:
    """Return L_T + L_0 of each row (B,) of `x` (B, *), nats per coordinate.

    L_T = KL(q(x_1 | x) || prior); L_0 is the cross entropy of q(x_t | x) at t = t_min with a
    Gaussian decoder of mean x_t / alpha and deviation sigma/alpha: the entropy of that Gaussian,
    whatever x is.
    """
    alpha, sigma = (c.to(x.device, x.dtype) for c in schedule(as_times(1.0)))
    axes, variance = prior.axes()
    squares = (alpha * prior.along_axes(x - prior.mean, axes)) ** 2
    variance = alpha**2 * variance.to(x.dtype) + sigma**2
    last = gaussian.kl_per_value(squares, sigma**2, variance)
    least = torch.exp(-schedule.log_snr(as_times(schedule.t_min)))
    first = gaussian.nats_per_value(least, least)
    return last.flatten(1).mean(1) + first.to(x.device, x.dtype)


def schedule_loss(
    denoiser: Denoiser,
    objective: AbstractObjective,
    prior: Prior,
    x: Tensor,
    z: Tensor,
    t: Times,
    **cond: Any,
) -> Tensor:
    """Return the bound on `x`, nats per coordinate, a scalar, for a learned schedule.

    Its gradient in the end points is that of the bound; in the curve between them that of the mean
    square of the rows' estimates, which is their variance but for a constant.

    Args:
        denoiser: what is trained; its schedule is a `LearnedVP`.
        objective: the diffusion part: `LikelihoodWeight` or `VLB` under uniform or discrete times.
        prior: of the model.
        x: rows (B, *).
        z: standard normal noise (B, *).
        t: training times (B,).
        **cond: conditions, passed to the network.
    """
    schedule, curve = denoiser.schedule, denoiser.schedule.module
    assert isinstance(curve, MonotoneCurve), "only a learned schedule has a loss"
    with curve.learns():
        losses = objective.losses(denoiser, x, z, t, **cond)
        bound = (losses + end_terms(schedule, prior, x)).mean()
        ends, inner = [curve.ends], curve.inner()
        slopes = torch.autograd.grad(bound, ends, retain_graph=True)
        slopes += torch.autograd.grad(losses.double().square().mean(), inner)
    carried = torch.stack([(p * slope).sum() for p, slope in zip([*ends, *inner], slopes)]).sum()
    return bound.detach() + carried - carried.detach()

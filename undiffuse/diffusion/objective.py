"""What is minimized: a weighting of the denoising error, and a distribution of training times.

    L = E_{t, x, z} [ w(t) |x_hat(x_t, t) - x|^2 ]

Every weighting in the literature is w on the error of x_hat; in the network's units it is w c_out^2 on |F - F*|^2, so
the papers' weights are converted here, once. With SNR = alpha^2 / sigma^2, |z_hat - z|^2 = SNR |x_hat - x|^2. A
weighting sees only the schedule at t; the expectation over t is the `TrainingTimes`' business, each given by its
quantile function, so that any of them can be drawn with low discrepancy (Kingma et al. 2021, Appendix I.1).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from undiffuse.diffusion.denoiser import Denoiser, expand
from undiffuse.diffusion.schedule import Schedule, Times
from undiffuse.diffusion.target import regression_target


class Weighting(ABC):
    """w(t) on |x_hat - x|^2."""

    @abstractmethod
    def __call__(self, schedule: Schedule, t: Times) -> Times: ...


@final
@dataclass(frozen=True)
class Simple(Weighting):
    """w = SNR: an unweighted error of the noise, L_simple (Ho et al. 2020, Eq. 14). Not a likelihood.

    Kim and Lee (2024), Algorithm 1; Malhotra (2024), Eq. 4.18 with the sign mended; Liu, Eq. 6; NCSN's sigma^2.
    """

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        return schedule.log_snr(t).exp()


@final
@dataclass(frozen=True)
class VLB(Weighting):
    """w = T (SNR_s - SNR_t) / 2, s = t - 1/T: the weights of L_{t-1} under beta-tilde, whose mean is their sum.

    Kingma et al. (2021), Eq. 13-14. At t = 1/T the weight is infinite (L_0 is the decoder's); it is held to that of the
    next level, as a squared error stands in for the decoder in training. `levels` is T; the schedule's own if None.
    """

    levels: int | None = None

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        levels = self.levels or schedule.levels
        if levels is None:
            raise ValueError("weighting vlb: this schedule has no levels; give VLB(levels=T) or use likelihood.")
        t = t.clamp(min=2 / levels)
        s = t - 1 / levels
        return levels * (schedule.log_snr(s).exp() - schedule.log_snr(t).exp()) / 2


@final
@dataclass(frozen=True)
class Likelihood(Weighting):
    """w = -(dSNR/dt) / 2 = g^2 alpha^2 / (2 sigma^4): the continuous bound under uniform t (Song et al. 2021b, Eq. 7).

    Kingma et al. (2021), Eq. 17: the limit of VLB for T to infinity.
    """

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.derivative(t)
        return (alpha / sigma**3) * (alpha * d_sigma - sigma * d_alpha)


@final
@dataclass(frozen=True)
class MinSNR(Weighting):
    """w = min(SNR, gamma) (Hang et al. 2023, Eq. 9)."""

    gamma: float = 5.0

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        return schedule.log_snr(t).exp().clamp(max=self.gamma)


@final
@dataclass(frozen=True)
class EDMWeight(Weighting):
    """w = SNR + 1 / sigma_data^2: unit weight on F under EDM's row (Karras et al. 2022, Table 1)."""

    sigma_data: float = 1.0

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        return schedule.log_snr(t).exp() + self.sigma_data**-2


@final
@dataclass(frozen=True)
class FlowMatching(Weighting):
    """w = (alpha' - alpha sigma'/sigma)^2: an unweighted error of the velocity (Lipman et al. 2023, Eq. 9)."""

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.derivative(t)
        return (d_alpha - alpha * d_sigma / sigma) ** 2


class TrainingTimes(ABC):
    """A distribution over (t_min, 1], by its quantile function."""

    @abstractmethod
    def quantile(self, schedule: Schedule, u: Times) -> Times:
        """The time below which a share `u` in (0, 1) of the training times lies."""


@final
@dataclass(frozen=True)
class UniformTimes(TrainingTimes):
    """Uniform on [t_min, 1]."""

    def quantile(self, schedule: Schedule, u: Times) -> Times:
        return schedule.t_min + (1 - schedule.t_min) * u


@final
@dataclass(frozen=True)
class DiscreteTimes(TrainingTimes):
    """Uniform over the levels i/T, i = 1 .. T (Kim and Lee 2024, Algorithm 1, line 3)."""

    levels: int | None = None

    def quantile(self, schedule: Schedule, u: Times) -> Times:
        levels = self.levels or schedule.levels
        if levels is None:
            raise ValueError(
                "times discrete: this schedule has no levels; give DiscreteTimes(levels=T) or use uniform."
            )
        return ((u * levels).floor() + 1).clamp(max=levels) / levels


@final
@dataclass(frozen=True)
class LogNormalTimes(TrainingTimes):
    """log(sigma/alpha/sigma_data) ~ N(mean, std^2), held to the schedule's [t_min, 1] (Karras et al. 2022, Table 1).

    Relative to sigma_data, the published mean of -1.2 at sigma_data = 0.5 is -1.2 - log(0.5) = -0.507.
    """

    mean: float = -0.507
    std: float = 1.2
    sigma_data: float = 1.0

    def quantile(self, schedule: Schedule, u: Times) -> Times:
        log_ratio = math.log(self.sigma_data) + self.mean + self.std * torch.special.ndtri(u)
        return schedule.inverse(-2 * log_ratio).clamp(min=schedule.t_min)


@final
@dataclass(frozen=True)
class LogitNormalTimes(TrainingTimes):
    """logit(t) ~ N(mean, std^2) (Esser et al. 2024, Eq. 19), held to [t_min, 1]."""

    mean: float = 0.0
    std: float = 1.0

    def quantile(self, schedule: Schedule, u: Times) -> Times:
        t = torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))
        return t.clamp(min=max(schedule.t_min, 1e-5))


class Draw(ABC):
    """How the uniform variables behind the training times are drawn; uses torch's global generator."""

    @abstractmethod
    def __call__(self, n: int) -> Times:
        """`n` numbers in (0, 1), each uniform."""


@final
@dataclass(frozen=True)
class Independent(Draw):
    """Independent draws."""

    def __call__(self, n: int) -> Times:
        return torch.rand(n, dtype=torch.float64).clamp(min=1e-12)


@final
@dataclass(frozen=True)
class LowDiscrepancy(Draw):
    """One uniform offset and n equal strata (Kingma et al. 2021, Appendix I.1), in shuffled order: less variance."""

    def __call__(self, n: int) -> Times:
        u = (torch.rand(1, dtype=torch.float64) + torch.arange(n, dtype=torch.float64) / n) % 1
        return u[torch.randperm(n)].clamp(min=1e-12)


@final
@dataclass(frozen=True, kw_only=True)
class Objective:
    """A weighting, a distribution of training times and how it is drawn."""

    weighting: Weighting
    times: TrainingTimes
    draw: Draw = LowDiscrepancy()

    def sample_times(self, schedule: Schedule, n: int) -> Times:
        """`n` training times (n,), float64."""
        return self.times.quantile(schedule, self.draw(n))

    def losses(self, denoiser: Denoiser, x: Tensor, z: Tensor, t: Times, **cond: Any) -> Tensor:
        """The weighted squared error of each row (B,), averaged over coordinates, at noise `z` and times `t` (B,)."""
        schedule = denoiser.schedule
        alpha, sigma = schedule(t)
        c_x, c_z = regression_target(schedule, denoiser.target, t)
        x_t = expand(alpha, x) * x + expand(sigma, x) * z
        target = expand(c_x, x) * x + expand(c_z, x) * z
        output = denoiser.evaluate(x_t, t, **cond).to(x.dtype)
        weight = self.weighting(schedule, t) * denoiser.row(t).c_out ** 2
        return weight.to(x.device, x.dtype) * (output - target).square().flatten(1).mean(1)


WEIGHTINGS: dict[str, type[Weighting]] = {
    "simple": Simple,
    "vlb": VLB,
    "likelihood": Likelihood,
    "min_snr": MinSNR,
    "edm_weight": EDMWeight,
    "flow_matching": FlowMatching,
}
TIMES: dict[str, type[TrainingTimes]] = {
    "uniform_times": UniformTimes,
    "discrete_times": DiscreteTimes,
    "log_normal_times": LogNormalTimes,
    "logit_normal_times": LogitNormalTimes,
}
DRAWS: dict[str, type[Draw]] = {"independent": Independent, "low_discrepancy": LowDiscrepancy}
OBJECTIVES: dict[str, type[Objective]] = {"objective": Objective}

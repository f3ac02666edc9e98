"""What the network is asked to predict: one affine row per target.

    x_hat = c_skip x_t + c_out F,   F the network's output

`row` gives (c_skip, c_out) at time t. The regression target that a network is trained towards is
the row solved for F at x_hat = x; since x_t = alpha x + sigma z it is a combination of x and z
alone. Noise and score divide by alpha: they are undefined where alpha = 0, which `Denoiser` refuses
at construction.

| target         | F stands for                             | c_skip      | c_out           |
|----------------|------------------------------------------|-------------|-----------------|
| DataTarget     | x                                        | 0           | 1               |
| NoiseTarget    | z                                        | 1/alpha     | -sigma/alpha    |
| ScoreTarget    | sigma times the score, -z                | 1/alpha     | sigma/alpha     |
| VTarget        | alpha z - sigma x                        | alpha/n     | -sigma/n        |
| VelocityTarget | dx_t/dt = alpha' x + sigma' z            | -sigma'/w   | sigma/w         |
| PosteriorMean  | a x_t + b x, mean of q(x_s given x_t, x) | -a/b        | 1/b             |
| Preconditioned | Karras et al. (2022), Table 1            | alpha d^2/m | sigma d/sqrt(m) |
| Bounded        | what another target means, moved by b    | between     | b times its own |

with n = alpha^2 + sigma^2, w = sigma alpha' - alpha sigma', m = alpha^2 d^2 + sigma^2, d =
sigma_data and b = min(1, most sigma d / (sqrt(m) |c_out|)).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from undiffuse.diffusion.registered import Registered
from undiffuse.diffusion.schedules.process import Schedule, Times, level_below


class Target(Registered):
    """One affine row (c_skip, c_out) as a function of schedule and time."""

    needs_signal: ClassVar[bool] = False  # undefined where alpha = 0

    @abstractmethod
    def row(self, schedule: Schedule, t: Times) -> tuple[Times, Times]:
        """Return (c_skip, c_out) at `t`, float64, so that x_hat = c_skip x_t + c_out F."""


@final
@dataclass(frozen=True)
class DataTarget(Target):
    """F is the data itself (Notes after Ho et al. 2020, Appendix D)."""

    def row(self, schedule: Schedule, t: Times) -> tuple[Times, Times]:
        """Return (c_skip, c_out) at `t`."""
        return torch.zeros_like(t), torch.ones_like(t)


@final
@dataclass(frozen=True)
class NoiseTarget(Target):
    """F is the noise z.

    Ho et al. (2020), Eq. 11; Kim and Lee (2024), Eq. 38-40; Malhotra (2024), Eq. 3.10.
    """

    needs_signal = True

    def row(self, schedule: Schedule, t: Times) -> tuple[Times, Times]:
        """Return (c_skip, c_out) at `t`."""
        alpha, sigma = schedule(t)
        return 1 / alpha, -sigma / alpha


@final
@dataclass(frozen=True)
class ScoreTarget(Target):
    """F / sigma is the score of p_t (Song and Ermon 2020)."""

    needs_signal = True

    def row(self, schedule: Schedule, t: Times) -> tuple[Times, Times]:
        """Return (c_skip, c_out) at `t`."""
        alpha, sigma = schedule(t)
        return 1 / alpha, sigma / alpha


@final
@dataclass(frozen=True)
class VTarget(Target):
    """F = alpha z - sigma x (Salimans and Ho 2022, section 4).

    It is the velocity only where alpha and sigma are a cosine and a sine of t.
    """

    def row(self, schedule: Schedule, t: Times) -> tuple[Times, Times]:
        """Return (c_skip, c_out) at `t`."""
        alpha, sigma = schedule(t)
        n = alpha**2 + sigma**2
        return alpha / n, -sigma / n


@final
@dataclass(frozen=True)
class VelocityTarget(Target):
    """F = dx_t/dt = alpha' x + sigma' z, flow matching's target (Lipman et al. 2023, Eq. 14)."""

    def row(self, schedule: Schedule, t: Times) -> tuple[Times, Times]:
        """Return (c_skip, c_out) at `t`."""
        (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.derivative(t)
        w = sigma * d_alpha - alpha * d_sigma
        return -d_sigma / w, sigma / w


@final
@dataclass(frozen=True)
class PosteriorMean(Target):
    """F is the mean of q(x_s | x_t, x) one level down, s = t - 1/T.

    Ho et al. (2020), Eq. 8; Kim and Lee (2024), Eq. 35.

    Args:
        levels: T; the schedule's own if None.
    """

    levels: int | None = None

    @classmethod
    def examples(cls) -> Mapping[str, PosteriorMean]:
        """Return one with levels of its own, for schedules that have none."""
        return {"": cls(levels=50)}

    def row(self, schedule: Schedule, t: Times) -> tuple[Times, Times]:
        """Return (c_skip, c_out) at `t`."""
        levels = schedule.count_levels(self.levels, "target posterior_mean")
        a, b, _ = schedule.posterior(t, level_below(t, levels))
        return -a / b, 1 / b


@final
@dataclass(frozen=True)
class Preconditioned(Target):
    """F has unit variance, and errors in it are amplified least.

    Karras et al. (2022), Table 1 and Eq. 7.
    """

    sigma_data: float = 1.0

    @classmethod
    def examples(cls) -> Mapping[str, Preconditioned]:
        """Return one for data of unit variance and one for others."""
        return {"": cls(), "0.7": cls(0.7)}

    def row(self, schedule: Schedule, t: Times) -> tuple[Times, Times]:
        """Return (c_skip, c_out) at `t`."""
        alpha, sigma = schedule(t)
        m = (alpha * self.sigma_data) ** 2 + sigma**2
        return alpha * self.sigma_data**2 / m, sigma * self.sigma_data / m.sqrt()


@final
@dataclass(frozen=True)
class Bounded(Target):
    """Another target, whose errors are amplified at most `most` times as much as by EDM's.

    Where it would amplify more, its row is moved towards (alpha d^2/m, 0), the best linear
    denoiser of white data, as far as it takes. So the same network is the same denoiser wherever
    that is well conditioned, and x_hat is x_t / alpha where there is no noise left, whatever the
    output: what a consistency function needs (Song et al. 2023, Eq. 5).

    Args:
        of: the other target.
        sigma_data: d, the data's standard deviation at unit scale.
        most: the largest |c_out| in units of EDM's.
    """

    of: Target
    sigma_data: float = 1.0
    most: float = 2.0

    @classmethod
    def examples(cls) -> Mapping[str, Bounded]:
        """Return one that is bounded at low noise, and one at high noise, where it is defined."""
        return {"": cls(DataTarget()), "v": cls(VTarget(), 0.7)}

    @property
    def needs_signal(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As for the other target."""
        return self.of.needs_signal

    def row(self, schedule: Schedule, t: Times) -> tuple[Times, Times]:
        """Return (c_skip, c_out) at `t`."""
        skip, out = self.of.row(schedule, t)
        linear, least = Preconditioned(self.sigma_data).row(schedule, t)
        share = (self.most * least / out.abs()).clamp(max=1)
        return linear + share * (skip - linear), share * out


def regression_target(schedule: Schedule, target: Target, t: Times) -> tuple[Tensor, Tensor]:
    """Return (c_x, c_z): for x_t = alpha_t x + sigma_t z the output should be c_x x + c_z z."""
    alpha, sigma = schedule(t)
    c_skip, c_out = target.row(schedule, t)
    return (1 - c_skip * alpha) / c_out, -c_skip * sigma / c_out


TARGETS: dict[str, type[Target]] = {
    "data": DataTarget,
    "noise": NoiseTarget,
    "score": ScoreTarget,
    "v": VTarget,
    "velocity": VelocityTarget,
    "posterior_mean": PosteriorMean,
    "preconditioned": Preconditioned,
    "bounded": Bounded,
}

data, noise, score = DataTarget(), NoiseTarget(), ScoreTarget()
v, velocity, posterior_mean = VTarget(), VelocityTarget(), PosteriorMean()

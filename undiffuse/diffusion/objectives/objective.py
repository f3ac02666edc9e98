"""What is minimized: a loss per row, and a distribution of training times.

The weighted denoising error,

    L = E_{t, x, z} [ w(t) |x_hat(x_t, t) - x|^2 ],   x_t = alpha_t x + sigma_t z

is all of denoising score matching, DDPM's L_simple, EDM, flow matching and the diffusion part of the bound: they differ
in w, in the times and, for optimal-transport flows, in how z is paired with x (`weighting`, `times`, `coupling`). The
bound with its variances is in `bound`, score matching without noise to regress on in `matching`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from undiffuse.diffusion.denoiser import Denoiser, expand
from undiffuse.diffusion.objectives.coupling import (
    COUPLINGS,
    Coupling,
    IndependentCoupling,
    OptimalTransport,
)
from undiffuse.diffusion.objectives.times import (
    DRAWS,
    TIMES,
    DiscreteTimes,
    Draw,
    Independent,
    LogitNormalTimes,
    LogNormalTimes,
    LowDiscrepancy,
    TrainingTimes,
    UniformTimes,
)
from undiffuse.diffusion.objectives.weighting import (
    VLB,
    WEIGHTINGS,
    EDMWeight,
    FlowMatching,
    LikelihoodWeight,
    MinSNR,
    Simple,
    Weighting,
)
from undiffuse.diffusion.schedules.process import Schedule, Times
from undiffuse.diffusion.target import regression_target

__all__ = [
    "COUPLINGS",
    "DRAWS",
    "TIMES",
    "VLB",
    "WEIGHTINGS",
    "AbstractObjective",
    "Coupling",
    "DiscreteTimes",
    "Draw",
    "EDMWeight",
    "FlowMatching",
    "Independent",
    "IndependentCoupling",
    "LikelihoodWeight",
    "LogNormalTimes",
    "LogitNormalTimes",
    "LowDiscrepancy",
    "MinSNR",
    "Objective",
    "OptimalTransport",
    "Simple",
    "TrainingTimes",
    "UniformTimes",
    "Weighting",
    "weighted_error",
]


class AbstractObjective(ABC):
    """A loss per row at given noise and times, and the distribution of these times."""

    times: TrainingTimes
    draw: Draw

    @property
    @abstractmethod
    def learned_variance(self) -> bool:
        """Whether the network is to give a variance beside its prediction (twice the outputs)."""

    @abstractmethod
    def losses(self, denoiser: Denoiser, x: Tensor, z: Tensor, t: Times, **cond: Any) -> Tensor:
        """The loss of each row (B,), averaged over coordinates, for `x`, `z` (B, *) and times `t` (B,)."""

    @final
    def sample_times(self, schedule: Schedule, n: int) -> Times:
        """`n` training times (n,), float64."""
        return self.times.quantile(schedule, self.draw(n))


@final
@dataclass(frozen=True, kw_only=True)
class Objective(AbstractObjective):
    """The weighted squared error: a weighting, a distribution of training times, how it is drawn, and the coupling.

    Kim and Lee (2024), Algorithm 1 is `weighting=Simple(), times=DiscreteTimes()` with the noise as the target:

    >>> import torch
    >>> from undiffuse.diffusion import DiscreteVP, linear_betas, target
    >>> denoiser = Denoiser(lambda x, c_noise: 0 * x, DiscreteVP(betas=linear_betas(10)), target.noise)
    >>> objective = Objective(weighting=Simple(), times=DiscreteTimes())
    >>> x, z = torch.zeros(2, 3), torch.ones(2, 3)
    >>> objective.losses(denoiser, x, z, objective.sample_times(denoiser.schedule, 2))  # |z - 0|^2
    tensor([1., 1.])
    """

    weighting: Weighting
    times: TrainingTimes
    draw: Draw = LowDiscrepancy()
    coupling: Coupling = IndependentCoupling()

    @property
    def learned_variance(self) -> bool:
        return False

    def losses(self, denoiser: Denoiser, x: Tensor, z: Tensor, t: Times, **cond: Any) -> Tensor:
        z = self.coupling(x, z)
        output, _ = denoiser.outputs(noised(denoiser.schedule, x, z, t), t, **cond)
        return weighted_error(self.weighting, denoiser, output, x, z, t)


def noised(schedule: Schedule, x: Tensor, z: Tensor, t: Times) -> Tensor:
    """x_t = alpha_t x + sigma_t z."""
    alpha, sigma = schedule(t)
    return expand(alpha, x) * x + expand(sigma, x) * z


def weighted_error(
    weighting: Weighting, denoiser: Denoiser, output: Tensor, x: Tensor, z: Tensor, t: Times
) -> Tensor:
    """W |x_hat - x|^2 as w c_out^2 |F - F*|^2, F the network's `output`: (B,), averaged over coordinates."""
    c_x, c_z = regression_target(denoiser.schedule, denoiser.target, t)
    target = expand(c_x, x) * x + expand(c_z, x) * z
    weight = weighting(denoiser.schedule, t) * denoiser.row(t).c_out ** 2
    return weight.to(x.device, x.dtype) * (output - target).square().flatten(1).mean(1)

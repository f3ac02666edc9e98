"""The variational bound as a loss: one Gaussian KL per level, in which the reverse variance can be trained too.

    L_{t-1} = KL( q(x_s | x_t, x) || p(x_s | x_t) ),   q = N(a x_t + b x, beta-tilde),   p = N(a x_t + b x_hat, v)
            = 1/2 [ log(v / beta-tilde) + (beta-tilde + b^2 (x - x_hat)^2) / v - 1 ]   per coordinate,   s = t - 1/T

(Ho et al. 2020, Eq. 5; Kim and Lee 2024, Lemma 3 as it should read.) At the first level q is the point x, and the term
is the decoder's: a Gaussian's negative log-density stands in for it in training, with v there interpolated between beta
and the beta-tilde of the second level, since the first one's is zero (Nichol and Dhariwal 2021, section 3.1). L_T
has no parameters. A level drawn uniformly, the loss is T times its term, in nats per coordinate: its mean is the sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from undiffuse.diffusion.denoiser import Denoiser, expand
from undiffuse.diffusion.objectives.objective import AbstractObjective, noised, weighted_error
from undiffuse.diffusion.objectives.times import DiscreteTimes, Draw, LowDiscrepancy
from undiffuse.diffusion.objectives.weighting import Simple, Weighting
from undiffuse.diffusion.schedules.process import Times
from undiffuse.diffusion.steps.base import BetaTilde, Learned, ReverseVariance


def level_terms(
    denoiser: Denoiser,
    variance: ReverseVariance,
    levels: int,
    x: Tensor,
    x_hat: Tensor,
    v: Tensor | None,
    t: Times,
) -> Tensor:
    """T L_{t-1} of each row (B,), nats per coordinate, for predictions `x_hat` (B, *) and `v` at levels `t` (B,)."""
    schedule = denoiser.schedule
    s = t - 1 / levels
    s = torch.where(s < 1e-9, 0.0, s)
    first = s == 0
    _, b, beta_tilde = schedule.posterior(t, s)
    _, beta = schedule.transition(t, s)
    _, _, second = schedule.posterior(
        torch.full_like(t, 2 / levels), torch.full_like(t, 1 / levels)
    )
    beta_tilde = torch.where(first, torch.minimum(second, beta), beta_tilde)
    value = variance(expand(beta, x), expand(beta_tilde, x), v)
    error = (expand(b, x) * (x - x_hat)).square()
    ratio = expand(beta_tilde, x) / value
    kl = (error / value + ratio - 1 - ratio.log()) / 2
    decoder = ((x - x_hat).square() / value + value.log() + math.log(2 * math.pi)) / 2
    return levels * torch.where(expand(first.double(), x) > 0, decoder, kl).flatten(1).mean(1)


@final
@dataclass(frozen=True, kw_only=True)
class VariationalBound(AbstractObjective):
    """The full bound but for its constant L_T: every KL in full, for a fixed or a learned reverse variance.

    `times` are the levels, `variance` v_t. Ho et al. (2020), Eq. 5; Nichol and Dhariwal (2021), L_vlb.
    """

    variance: ReverseVariance = BetaTilde()
    times: DiscreteTimes = DiscreteTimes()
    draw: Draw = LowDiscrepancy()

    @property
    def learned_variance(self) -> bool:
        return self.variance.learned

    def losses(self, denoiser: Denoiser, x: Tensor, z: Tensor, t: Times, **cond: Any) -> Tensor:
        levels = denoiser.schedule.count_levels(
            self.times.levels, "objective variational_bound", least=2
        )
        x_t = noised(denoiser.schedule, x, z, t)
        output, v = denoiser.outputs(x_t, t, **cond)
        return level_terms(denoiser, self.variance, levels, x, denoiser.data(x_t, output, t), v, t)


@final
@dataclass(frozen=True, kw_only=True)
class Hybrid(AbstractObjective):
    """L_simple + `scale` L_vlb, the mean held fixed in L_vlb, which so trains the variance alone.

    Nichol and Dhariwal (2021), Eq. 16, with their scale of 0.001.
    """

    weighting: Weighting = Simple()
    variance: ReverseVariance = Learned()
    scale: float = 0.001
    times: DiscreteTimes = DiscreteTimes()
    draw: Draw = LowDiscrepancy()

    @property
    def learned_variance(self) -> bool:
        return self.variance.learned

    def losses(self, denoiser: Denoiser, x: Tensor, z: Tensor, t: Times, **cond: Any) -> Tensor:
        levels = denoiser.schedule.count_levels(self.times.levels, "objective hybrid", least=2)
        x_t = noised(denoiser.schedule, x, z, t)
        output, v = denoiser.outputs(x_t, t, **cond)
        bound = level_terms(
            denoiser, self.variance, levels, x, denoiser.data(x_t, output.detach(), t), v, t
        )
        return weighted_error(self.weighting, denoiser, output, x, z, t) + self.scale * bound

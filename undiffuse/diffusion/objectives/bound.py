"""The variational bound as a loss: a Gaussian KL per level, whose variance can be trained too.

    L_{t-1} = KL( q(x_s | x_t, x) || p(x_s | x_t) ),   s = t - 1/T
    q = N(a x_t + b x, beta-tilde),   p = N(a x_t + b x_hat, v)

(Ho et al. 2020, Eq. 5; Kim and Lee 2024, Lemma 3 as it should read.) At the first level q is the
point x, and the term is the decoder's: a Gaussian's negative log-density stands in for it in
training, with v there interpolated between beta and the beta-tilde of the second level, since the
first one's is zero (Nichol and Dhariwal 2021, section 3.1). L_T has no parameters. For a level
drawn uniformly, the loss is T times its term, in nats per coordinate: its mean is the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from undiffuse.diffusion import gaussian
from undiffuse.diffusion.denoiser import Denoiser, expand, noised
from undiffuse.diffusion.objectives.objective import AbstractObjective, weighted_error
from undiffuse.diffusion.objectives.times import DiscreteTimes, Draw, LowDiscrepancy
from undiffuse.diffusion.objectives.weighting import Simple, Weighting
from undiffuse.diffusion.schedules.process import Times, level_below
from undiffuse.diffusion.steps.moves import BetaTilde, Learned, ReverseVariance


def level_terms(
    denoiser: Denoiser,
    variance: ReverseVariance,
    levels: int,
    x: Tensor,
    x_hat: Tensor,
    v: Tensor | None,
    t: Times,
) -> Tensor:
    """Return T L_{t-1} of each row (B,), nats per coordinate.

    Args:
        denoiser: gives the schedule.
        variance: of the reverse kernel.
        levels: T.
        x: rows (B, *).
        x_hat: predictions (B, *).
        v: what the network says of the variance (B, *), if it is learned.
        t: levels (B,).
    """
    schedule = denoiser.schedule
    s = level_below(t, levels)
    first = s == 0
    _, b, beta_tilde = schedule.posterior(t, s)
    _, beta = schedule.transition(t, s)
    _, _, second = schedule.posterior(
        torch.full_like(t, 2 / levels), torch.full_like(t, 1 / levels)
    )
    beta_tilde = torch.where(first, torch.minimum(second, beta), beta_tilde)
    value = variance(expand(beta, x), expand(beta_tilde, x), v)
    squares = (x - x_hat).square()
    kl = gaussian.kl_per_value(expand(b, x) ** 2 * squares, expand(beta_tilde, x), value)
    decoder = gaussian.nats_per_value(squares, value)
    return levels * torch.where(expand(first.double(), x) > 0, decoder, kl).flatten(1).mean(1)


@final
@dataclass(frozen=True, kw_only=True)
class VariationalBound(AbstractObjective):
    """The bound but for its constant L_T: every KL in full, for a fixed or a learned variance.

    Ho et al. (2020), Eq. 5; Nichol and Dhariwal (2021), L_vlb.

    Args:
        variance: v_t, of the reverse kernel.
        times: the levels.
        draw: how the levels are drawn.
    """

    variance: ReverseVariance = BetaTilde()
    times: DiscreteTimes = (  # pyright: ignore[reportIncompatibleVariableOverride] frozen
        DiscreteTimes()
    )
    draw: Draw = LowDiscrepancy()

    @classmethod
    def examples(cls) -> Mapping[str, VariationalBound]:
        """Return one with levels of its own, for a fixed and for a learned variance."""
        times = DiscreteTimes(levels=20)
        return {"": cls(times=times), "learned": cls(times=times, variance=Learned())}

    @property
    def learned_variance(self) -> bool:
        """Whether the variance is learned."""
        return self.variance.learned

    def losses(self, denoiser: Denoiser, x: Tensor, z: Tensor, t: Times, **cond: Any) -> Tensor:
        """Return the loss of each row (B,)."""
        levels = denoiser.schedule.count_levels(
            self.times.levels, "objective variational_bound", least=2
        )
        x_t = noised(denoiser.schedule, x, z, t)
        output, v = denoiser.outputs(x_t, t, **cond)
        return level_terms(denoiser, self.variance, levels, x, denoiser.data(x_t, output, t), v, t)


@final
@dataclass(frozen=True, kw_only=True)
class Hybrid(AbstractObjective):
    """L_simple + `scale` L_vlb, the mean held fixed in L_vlb, which trains the variance alone.

    Nichol and Dhariwal (2021), Eq. 16, with their scale of 0.001.

    Args:
        weighting: of L_simple.
        variance: how the network's second output becomes a variance.
        scale: weight of L_vlb.
        times: the distribution of training times, over the levels.
        draw: how uniform numbers are drawn for a batch of times.
    """

    weighting: Weighting = Simple()
    variance: ReverseVariance = Learned()
    scale: float = 0.001
    times: DiscreteTimes = (  # pyright: ignore[reportIncompatibleVariableOverride] frozen
        DiscreteTimes()
    )
    draw: Draw = LowDiscrepancy()

    @classmethod
    def examples(cls) -> Mapping[str, Hybrid]:
        """Return one with levels of its own."""
        return {"": cls(times=DiscreteTimes(levels=20))}

    @property
    def learned_variance(self) -> bool:
        """Whether the variance is learned."""
        return self.variance.learned

    def losses(self, denoiser: Denoiser, x: Tensor, z: Tensor, t: Times, **cond: Any) -> Tensor:
        """Return the loss of each row (B,)."""
        levels = denoiser.schedule.count_levels(self.times.levels, "objective hybrid", least=2)
        x_t = noised(denoiser.schedule, x, z, t)
        output, v = denoiser.outputs(x_t, t, **cond)
        bound = level_terms(
            denoiser, self.variance, levels, x, denoiser.data(x_t, output.detach(), t), v, t
        )
        return weighted_error(self.weighting, denoiser, output, x, z, t) + self.scale * bound

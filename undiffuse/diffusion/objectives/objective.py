"""What is minimized: a loss per row, and a distribution of training times.

The weighted denoising error,

    L = E_{t, x, z} [ w(t) |x_hat(x_t, t) - x|^2 ],   x_t = alpha_t x + sigma_t z

is all of denoising score matching, DDPM's L_simple, EDM, flow matching and the diffusion part of
the bound: they differ in w, in the times and, for optimal-transport flows, in how z is paired with
x (`weighting`, `times`, `coupling`). The bound with its variances is in `bound`, score matching
without noise to regress on in `matching`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

from torch import Tensor

from undiffuse.diffusion.denoiser import Denoiser, expand, noised
from undiffuse.diffusion.objectives.coupling import Coupling, IndependentCoupling
from undiffuse.diffusion.objectives.times import Draw, LowDiscrepancy, TrainingTimes, UniformTimes
from undiffuse.diffusion.objectives.weighting import Simple, Weighting
from undiffuse.diffusion.registered import Registered
from undiffuse.diffusion.schedules.process import Schedule, Times
from undiffuse.diffusion.target import regression_target


class AbstractObjective(Registered):
    """A loss per row at given noise and times, and the distribution of these times.

    Attributes:
        times: the distribution.
        draw: how times are drawn from it.
        flow: whether the ends of the probability flow's paths are learned, not the denoiser.
        sloped: whether a slope of what the network computes is in the loss.
    """

    times: TrainingTimes
    draw: Draw
    flow: ClassVar[bool] = False
    sloped: ClassVar[bool] = False

    @property
    def learned_variance(self) -> bool:
        """Whether the network is to give a variance beside its prediction (twice the outputs)."""
        return False

    def at(self, progress: float) -> AbstractObjective:
        """Return what is minimized when this share of a run is behind: the same, by default."""
        return self

    @abstractmethod
    def losses(self, denoiser: Denoiser, x: Tensor, z: Tensor, t: Times, **cond: Any) -> Tensor:
        """Return the loss of each row (B,), averaged over coordinates.

        Args:
            denoiser: what is trained.
            x: rows (B, *).
            z: standard normal noise (B, *).
            t: training times (B,).
            **cond: conditions, passed to the network.
        """

    @final
    def sample_times(self, schedule: Schedule, n: int) -> Times:
        """Return `n` training times (n,), float64."""
        return self.times.quantile(schedule, self.draw(n))

    def for_data(self, x: Tensor) -> AbstractObjective:
        """Return this with its training times for rows `x` (N, *) at unit scale."""
        own: Any = self  # a dataclass, as all that are registered
        return replace(own, times=self.times.for_data(x))


@final
@dataclass(frozen=True, kw_only=True)
class Objective(AbstractObjective):
    """The weighted squared error.

    Kim and Lee (2024), Algorithm 1 is `weighting=Simple(), times=DiscreteTimes()` with the noise as
    the target.

    Args:
        weighting: w(t) on |x_hat - x|^2.
        times: the distribution of the training times.
        draw: how they are drawn.
        coupling: how noise is paired with rows.

    >>> import torch
    >>> from undiffuse.diffusion import DiscreteVP, linear_betas, target
    >>> from undiffuse.diffusion.objectives import DiscreteTimes
    >>> schedule = DiscreteVP(betas=linear_betas(10))
    >>> denoiser = Denoiser(lambda x, c_noise: 0 * x, schedule, target.noise)
    >>> objective = Objective(weighting=Simple(), times=DiscreteTimes())
    >>> x, z = torch.zeros(2, 3), torch.ones(2, 3)
    >>> objective.losses(denoiser, x, z, objective.sample_times(schedule, 2))  # |z - 0|^2
    tensor([1., 1.])
    """

    weighting: Weighting
    times: TrainingTimes
    draw: Draw = LowDiscrepancy()
    coupling: Coupling = IndependentCoupling()

    @classmethod
    def examples(cls) -> Mapping[str, Objective]:
        """Return L_simple at uniform times."""
        return {"": cls(weighting=Simple(), times=UniformTimes())}

    def losses(self, denoiser: Denoiser, x: Tensor, z: Tensor, t: Times, **cond: Any) -> Tensor:
        """Return w |x_hat - x|^2 of each row (B,)."""
        z = self.coupling(x, z)
        output, _ = denoiser.outputs(noised(denoiser.schedule, x, z, t), t, **cond)
        return weighted_error(self.weighting, denoiser, output, x, z, t)


def weighted_error(
    weighting: Weighting, denoiser: Denoiser, output: Tensor, x: Tensor, z: Tensor, t: Times
) -> Tensor:
    """Return w |x_hat - x|^2 as w c_out^2 |F - F*|^2, F the network's `output`.

    (B,), averaged over coordinates.
    """
    c_x, c_z = regression_target(denoiser.schedule, denoiser.target, t)
    target = expand(c_x, x) * x + expand(c_z, x) * z
    weight = weighting(denoiser.schedule, t) * denoiser.row(t).c_out ** 2
    return weight.to(x.device, x.dtype) * (output - target).square().flatten(1).mean(1)

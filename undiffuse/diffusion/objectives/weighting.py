"""How much an error counts at each noise level: w(t) on |x_hat - x|^2.

Every weighting in the literature is w on the error of x_hat; in the network's units it is w c_out^2
on |F - F*|^2, so the papers' weights are converted here, once. With SNR = alpha^2 / sigma^2, the
error of the noise |z_hat - z|^2 is SNR |x_hat - x|^2.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from undiffuse.diffusion import target
from undiffuse.diffusion.registered import Registered
from undiffuse.diffusion.schedules.process import Schedule, Times


class Weighting(Registered):
    """w(t) on |x_hat - x|^2.

    What it means is declared, and held by the laws: it is an unweighted error of the network's
    output for the target `unweights`, or its mean over the times is the diffusion part of the bound
    (`bound`), or it is that of the noise, held from above.
    """

    bound: ClassVar[bool] = False

    @property
    def unweights(self) -> target.Target | None:
        """The target for which w c_out^2 is 1, if there is one."""
        return None

    @abstractmethod
    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """Return w at `t`, float64."""


@final
@dataclass(frozen=True)
class Simple(Weighting):
    """w = SNR: an unweighted error of the noise, L_simple; not a likelihood.

    Ho et al. (2020), Eq. 14; Kim and Lee (2024), Algorithm 1; Malhotra (2024), Eq. 4.18 with the
    sign mended; Liu, Eq. 6; NCSN's sigma^2.
    """

    @property
    def unweights(self) -> target.Target:
        """The noise."""
        return target.noise

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """Return SNR."""
        return schedule.log_snr(t).exp()


@final
@dataclass(frozen=True)
class VLB(Weighting):
    """w = T (SNR_s - SNR_t) / 2, s = t - 1/T: the weights of L_{t-1} under beta-tilde.

    Kingma et al. (2021), Eq. 13-14; the mean over the levels is the sum of L_{t-1}. At t = 1/T the
    weight is infinite (L_0 is the decoder's); it is held to that of the next level, as a squared
    error stands in for the decoder in training.

    Args:
        levels: T; the schedule's own if None.
    """

    levels: int | None = None
    bound: ClassVar[bool] = True

    @classmethod
    def examples(cls) -> Mapping[str, VLB]:
        """Return one with levels of its own, for schedules that have none."""
        return {"": cls(levels=50)}

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """Return T (SNR_s - SNR_t) / 2."""
        levels = schedule.count_levels(self.levels, "weighting vlb", least=2)
        t = t.clamp(min=2 / levels)
        s = t - 1 / levels
        return levels * (schedule.log_snr(s).exp() - schedule.log_snr(t).exp()) / 2


@final
@dataclass(frozen=True)
class LikelihoodWeight(Weighting):
    """w = -(dSNR/dt) / 2 = g^2 alpha^2 / (2 sigma^4): the continuous bound under uniform t.

    Song et al. (2021b), Eq. 7; Kingma et al. (2021), Eq. 17: the limit of VLB for T to infinity.
    """

    bound: ClassVar[bool] = True

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """Return -(dSNR/dt) / 2."""
        (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.derivative(t)
        return (alpha / sigma**3) * (alpha * d_sigma - sigma * d_alpha)


@final
@dataclass(frozen=True)
class MinSNR(Weighting):
    """w = min(SNR, gamma) (Hang et al. 2023, Eq. 9)."""

    gamma: float = 5.0

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """Return min(SNR, gamma)."""
        return schedule.log_snr(t).exp().clamp(max=self.gamma)


@final
@dataclass(frozen=True)
class EDMWeight(Weighting):
    """w = SNR + 1 / sigma_data^2: unit weight on F for EDM's row (Karras et al. 2022)."""

    sigma_data: float = 1.0

    @classmethod
    def examples(cls) -> Mapping[str, EDMWeight]:
        """Return one for data of unit variance and one for others."""
        return {"": cls(), "0.7": cls(0.7)}

    @property
    def unweights(self) -> target.Target:
        """EDM's row for the same data."""
        return target.Preconditioned(self.sigma_data)

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """Return SNR + 1 / sigma_data^2."""
        return schedule.log_snr(t).exp() + self.sigma_data**-2


@final
@dataclass(frozen=True)
class FlowMatching(Weighting):
    """w = (alpha' - alpha sigma'/sigma)^2: an unweighted error of the velocity.

    Lipman et al. (2023), Eq. 9.
    """

    @property
    def unweights(self) -> target.Target:
        """The velocity."""
        return target.velocity

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """Return (alpha' - alpha sigma'/sigma)^2."""
        (alpha, sigma), (d_alpha, d_sigma) = schedule(t), schedule.derivative(t)
        return (d_alpha - alpha * d_sigma / sigma) ** 2

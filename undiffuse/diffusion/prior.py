"""What sampling starts from: a Gaussian at t = 1, matched to the data's first two moments.

    x_1 = alpha_1 x + sigma_1 z  has  mean alpha_1 m,  variance alpha_1^2 s^2 + sigma_1^2

in each coordinate. Sampling, the ELBO's L_T and the log-density use the same prior: a standard
normal in place of it is a wrong answer, however close.

The density along the probability-flow ODE may take the prior earlier, at the time where alpha s /
sigma has fallen to e^-5 (`settled`). What the Gaussian lacks of the data is their correlations,
which cost a divergence of fourth order in alpha s / sigma, 1e-9 a pair there, and their third
moments, of sixth. Beyond, a network's error only adds up: the cosine chain's last interval alone
spans 7 in log-SNR between two levels that are trained, with none within.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from undiffuse.diffusion import gaussian
from undiffuse.diffusion.schedules.process import Schedule, Times, as_times

_SETTLED = 10.0  # -log((alpha s / sigma)^2) from which on the noised data count as Gaussian


@final
class Prior(nn.Module):
    """N(alpha_1 mean, alpha_1^2 std^2 + sigma_1^2), coordinate by coordinate.

    Args:
        schedule: the forward process.
        mean: of the data (*shape).
        std: of the data (*shape).
        time: where the Gaussian is taken, if not at t = 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, schedule: Schedule, mean: Tensor, std: Tensor, time: Times | float = 1.0
    ) -> None:
        super().__init__()
        self.schedule, self.time = schedule, time
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the mean and standard deviation of x_1, each (*shape)."""
        alpha, sigma = (float(c) for c in self.schedule(as_times(self.time)))
        return alpha * self.mean, ((alpha * self.std) ** 2 + sigma**2).sqrt()

    def draw(self, z: Tensor) -> Tensor:
        """Return x_1 (B, *shape) made of standard normals `z` (B, *shape)."""
        mean, std = self.moments()
        return mean + std * z

    def log_prob(self, x_1: Tensor) -> Tensor:
        """Return the log-density at x_1 (B, *shape), in nats (B,)."""
        mean, std = self.moments()
        return gaussian.log_prob(x_1, mean, std.square())

    def settled(self) -> Prior:
        """Return this prior at the first time with alpha std / sigma <= e^-5, or else at t = 1."""
        log_snr = as_times(-_SETTLED) - 2 * self.std.double().max().clamp(min=1e-30).log().cpu()
        return Prior(self.schedule, self.mean, self.std, self.schedule.inverse(log_snr))

    @staticmethod
    def standard(schedule: Schedule, shape: tuple[int, ...]) -> Prior:
        """Return N(0, alpha_1^2 + sigma_1^2): the prior of data of zero mean and unit variance."""
        return Prior(schedule, torch.zeros(shape), torch.ones(shape))

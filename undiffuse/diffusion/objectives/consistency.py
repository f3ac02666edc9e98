"""Consistency: learn where a path of the probability flow ends, from any point of it.

    f(x_t, t) = x_0,  the end of the path through x_t

(Song et al. 2023, "Consistency models"). All points of a path have one end. So the network is asked
at two of them, the later one for what it learns and the earlier one, without gradient, for what it
should say there:

    L = E[ w d(f(x_t, t), f(x_r, r)) ],   d(a, b) = |a - b| / sqrt(D)  over the D coordinates

At sigma_r = 0 the end is x_r itself. x_r is where a teacher's denoiser carries x_t; without a
teacher it is alpha_r x + sigma_r z (their Definition 2). Both calls see the same dropout. The
teacher takes one step of Heun's method in an angle, in which white data stand still,

    y = x/m,   m^2 = alpha^2 d^2 + sigma^2,   tan theta = sigma/(alpha d),   d = sigma_data
    dy/dtheta = cos theta z_hat - sin theta x_hat / d

so that steps may be large: from sigma/alpha of 80 to the data, halving it each time, samples of
Gaussians a tenth to one and a half times as wide come out at most 3 % off, in sigma/alpha itself 7.

With k = sigma/alpha the two levels are a share of k_t apart that falls over a run:

    k_r = k_t (1 - 2^-rung),   w = (1 + k_t / sigma_data) / (k_t - k_r)

The ladder of Geng et al. (2024, "Consistency models made easy", section 3.2) goes on to far smaller
steps; in a few hundred updates, with a teacher that can take large ones, these are better. Their
w = 1/(k_t - k_r) leaves next to nothing for high noise, where samples begin: an error of the
network's output has the factor k in x_hat at low noise, and no more than sigma_data there. The
numerator makes up for that: without it samples in one evaluation were several times as far from
the data. d is their pseudo-Huber metric for c = 0.

In the last `adversarial` of a run samples are held against rows instead (see `models.duel`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from undiffuse.diffusion.denoiser import AbstractDenoiser, Denoiser, expand, noised
from undiffuse.diffusion.guidance import HIDDEN, ClassifierFree
from undiffuse.diffusion.objectives.objective import AbstractObjective
from undiffuse.diffusion.objectives.times import Draw, LogNormalTimes, LowDiscrepancy, TrainingTimes
from undiffuse.diffusion.schedules.process import LEAST_SAMPLED, Schedule, Times
from undiffuse.diffusion.typed import fork_rng

MOST = 80.0  # sigma/alpha that levels are spaced from, where a schedule goes higher


@final
@dataclass(frozen=True, kw_only=True)
class Consistency(AbstractObjective):
    """The distance between what is said at two points of a path.

    Args:
        times: the distribution of the later time.
        draw: how it is drawn.
        first: the rung at which a run begins.
        last: the rung at its end.
        sigma_data: the data's standard deviation at unit scale.
        guidance: the scale at which the teacher is guided by classes; 1: not at all.
        variance: whether the network gives a variance as well, which is not trained.
        adversarial: the share of a run, its last, in which a discriminator teaches.
        progress: the share of the run that is behind.
    """

    flow: ClassVar[bool] = True
    times: TrainingTimes = LogNormalTimes()
    draw: Draw = LowDiscrepancy()
    first: float = 1.0
    last: float = 1.5
    sigma_data: float = 1.0
    guidance: float = 1.0
    variance: bool = False
    adversarial: float = 0.0
    progress: float = 1.0

    @property
    def learned_variance(self) -> bool:
        """See `variance`."""
        return self.variance

    @override
    def at(self, progress: float) -> Consistency:
        return replace(self, progress=progress)

    def earlier(self, schedule: Schedule, t: Times) -> tuple[Times, Times]:
        """Return r and the weight w for times `t` (B,); r = 0 is the end of the path."""
        k_t = torch.exp(-schedule.log_snr(t) / 2).clamp(max=MOST)
        k_r = k_t * (1 - 2 ** -(self.first + (self.last - self.first) * self.progress))
        k_r = torch.where(k_r < LEAST_SAMPLED, 0.0, k_r)
        r = torch.where(k_r > 0, schedule.inverse(-2 * k_r.log()), 0.0)
        return r, (1 + k_t / self.sigma_data) / (k_t - k_r)

    def losses(self, denoiser: Denoiser, x: Tensor, z: Tensor, t: Times, **cond: Any) -> Tensor:
        """Return the loss of each row (B,)."""
        schedule = denoiser.schedule
        x_t, (r, weight) = noised(schedule, x, z, t), self.earlier(schedule, t)
        devices = [x.device] if x.device.type == "cuda" else []
        with fork_rng(devices), torch.no_grad():
            if denoiser.teacher is None:
                x_r = noised(schedule, x, z, r)
            else:
                x_r = self.carried(denoiser.teacher, x_t, t, r, cond)
            wanted = denoiser(x_r, r, **cond)
        distance = (denoiser(x_t, t, **cond) - wanted).square().flatten(1).mean(1)
        return (distance + 1e-12).sqrt() * expand(weight, distance)

    def carried(
        self, teacher: AbstractDenoiser, x_t: Tensor, t: Times, r: Times, cond: dict[str, Any]
    ) -> Tensor:
        """Return where the teacher, given conditions, carries x_t (B, *) from t to r, each (B,)."""
        teacher.eval()  # its dropout is not the student's
        if self.guidance != 1 and cond:
            hidden = {name: HIDDEN[name] for name in cond}
            teacher = ClassifierFree(teacher, self.guidance, **hidden)
        schedule, estimate = teacher.schedule, teacher.split(x_t, t, **cond)
        (m_t, angle_t), (m_r, angle_r) = self._turned(schedule, t), self._turned(schedule, r)
        y, turn = x_t / expand(m_t, x_t), expand(angle_r - angle_t, x_t)
        slope = self._slope(angle_t, estimate)
        x_r = expand(m_r, x_t) * (y + turn * slope)
        then = self._slope(angle_r, teacher.split(x_r, r, **cond))
        x_r = expand(m_r, x_t) * (y + turn * (slope + then) / 2)
        return torch.where(expand(r, x_t) > 0, x_r, noised(schedule, *estimate, r))

    def _turned(self, schedule: Schedule, t: Times) -> tuple[Times, Times]:
        """(m, theta): see the head of this module."""
        alpha, sigma = schedule(t)
        level = alpha * self.sigma_data
        return torch.hypot(level, sigma), torch.atan2(sigma, level)

    def _slope(self, angle: Times, estimate: tuple[Tensor, Tensor]) -> Tensor:
        """The slope dy/dtheta."""
        x_hat, z_hat = estimate
        return (
            expand(angle.cos(), x_hat) * z_hat
            - expand(angle.sin() / self.sigma_data, x_hat) * x_hat
        )

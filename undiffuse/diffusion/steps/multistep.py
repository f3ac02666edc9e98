"""Multistep methods beside DPM-Solver++: what was predicted at earlier times, used again.

UniPC interpolates the data, DEIS the noise; both are exponential integrators and are written in the terms of
`solvers`. iPNDM does without: it is Adams and Bashforth's method, its weights those of equal steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from undiffuse.diffusion.denoiser import AbstractDenoiser
from undiffuse.diffusion.schedules.process import Schedule, Times
from undiffuse.diffusion.steps.base import Moved, Noise, Step
from undiffuse.diffusion.steps.solvers import (
    BH,
    BH2,
    Known,
    bend,
    check,
    lambdas,
    predicted,
    remember,
)


@final
@dataclass(frozen=True, kw_only=True)
class UniPC(Step):
    """UniPC-p, a predictor and a corrector that costs nothing (Zhao et al. 2023, Algorithms 1-4), of order p + 1.

    The predictor (UniP-p) interpolates x_hat at p times, t and those before; the next step evaluates x_hat at the new
    point anyway, and then first repeats the move with that prediction among the rest (UniC-p). p = 2 with BH2 predicts
    as DPM-Solver++(2M) does. The order holds once p predictions are known: the first steps have a lower one.
    """

    p: int = 2
    b: BH = BH2()

    def __post_init__(self) -> None:
        check("p", self.p, 3, "UniPC")

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.p + 1

    def __call__(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        (_, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, _ = denoiser.split(x_t, t)
        if sigma_s == 0:
            return alpha_s * x_hat, None
        past: list[Known] = memory or []
        lambda_t, lambda_s = lambdas(denoiser.schedule, t, s)
        x_t = self.corrected(denoiser.schedule, x_t, t, x_hat, past)
        x_s = (sigma_s / sigma_t) * x_t + alpha_s * predicted(
            self.b, lambda_s, (x_hat, lambda_t), past[: self.p - 1]
        )
        return x_s, remember((x_hat, lambda_t), past, self.p)

    def corrected(
        self, schedule: Schedule, x_t: Tensor, t: Times, x_hat: Tensor, past: list[Known]
    ) -> Tensor:
        """`x_t` with the bend of its own prediction `x_hat` put right (UniC-p); as it is where nothing is known."""
        if not past:
            return x_t
        (alpha_t, _), lambda_t = schedule(t), schedule.log_snr(t) / 2
        before, *older = past
        better = predicted(self.b, lambda_t, before, [(x_hat, lambda_t), *older])
        return x_t + alpha_t * (better - predicted(self.b, lambda_t, before, older))


@final
@dataclass(frozen=True)
class DEIS(Step):
    """DEIS, multistep, its polynomial in log(sigma/alpha) (Zhang and Chen 2023, log-rho AB): z_hat at `order` times.

    x_s = alpha_s x_hat + sigma_s z_hat + sigma_s sum_j w_j(-h) (z_hat_j - z_hat)
    """

    order: int = 3  # type: ignore[misc]

    def __post_init__(self) -> None:
        check("order", self.order, 3, "DEIS")

    def __call__(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        alpha_s, sigma_s = denoiser.schedule(s)
        x_hat, z_hat = denoiser.split(x_t, t)
        if sigma_s == 0:
            return alpha_s * x_hat, None
        past: list[Known] = memory or []
        lambda_t, lambda_s = lambdas(denoiser.schedule, t, s)
        h = lambda_s - lambda_t
        r = [(lambda_j - lambda_t) / h for _, lambda_j in past]
        x_s = alpha_s * x_hat + sigma_s * (z_hat + bend(-h, z_hat, r, [z_j for z_j, _ in past]))
        return x_s, remember((z_hat, lambda_t), past, self.order - 1)


ADAMS_BASHFORTH = (
    (1,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@final
@dataclass(frozen=True)
class IPNDM(Step):
    """Adams-Bashforth on the slope dy/du = z_hat, y = x/alpha, u = sigma/alpha, as if all steps were alike.

    x_s/alpha_s = x_t/alpha_t + (u_s - u_t) sum_j b_j z_hat_j          (Zhang and Chen 2023, iPNDM; Liu et al. 2022)

    with up to `points` slopes, t's and those before. On a grid that is even in u the order is `points`; the weights are
    not adapted to others, where it is at most 2, the order declared.
    """

    points: int = 4

    def __post_init__(self) -> None:
        check("points", self.points, 4, "iPNDM")

    @property
    def order(self) -> int:  # type: ignore[override]
        return min(self.points, 2)

    def __call__(
        self, denoiser: AbstractDenoiser, x_t: Tensor, t: Times, s: Times, memory: Any, noise: Noise
    ) -> Moved:
        (alpha_t, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, z_hat = denoiser.split(x_t, t)
        if sigma_s == 0:
            return alpha_s * x_hat, None
        past: list[Tensor] = memory or []
        x_s = alpha_s * x_hat + sigma_s * z_hat
        for b_j, z_j in zip(ADAMS_BASHFORTH[len(past)][1:], past, strict=True):
            x_s = x_s + (sigma_s - alpha_s * sigma_t / alpha_t) * b_j * (z_j - z_hat)
        return x_s, [z_hat, *past][: self.points - 1] if alpha_t > 0 else []

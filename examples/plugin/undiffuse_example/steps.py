"""The two-step method of Adams and Bashforth, on the probability-flow ODE."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

import undiffuse as ud


@dataclass(frozen=True)
class AdamsBashforth(ud.Step):
    """With v = sigma / (alpha + sigma) and y = x / (alpha + sigma), dy/dv = z_hat - x_hat = f.

    y_s = y_t + h (f_t + (f_t - f_before) h / (2 h_before)),    h = v_s - v_t,

    which is of order 2 on any grid, at one evaluation of the network a step. The first step is
    Euler's.
    """

    order: ClassVar[int | None] = 2
    formula: ClassVar[str] = "y_t + h (f_t + (f_t - f_before) h / (2 h_before))"
    source: ClassVar[str] = "Bashforth and Adams 1883"

    def move(
        self, denoiser: Any, x_t: Tensor, t: Tensor, s: Tensor, memory: Any, noise: Any
    ) -> tuple[Tensor, Any]:
        """Move from t to s; the memory is f and the step before."""
        (alpha_t, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        x_hat, z_hat = denoiser.split(x_t, t)
        f = z_hat - x_hat
        h = sigma_s / (alpha_s + sigma_s) - sigma_t / (alpha_t + sigma_t)
        slope = f
        if memory is not None:
            f_before, h_before = memory
            slope = f + (f - f_before) * (h / (2 * h_before))
        y = x_t / (alpha_t + sigma_t) + h * slope
        return (alpha_s + sigma_s) * y, (f, h)

"""The average of the weights over training, with a width relative to the length of the run.

A power-function average (Karras et al. 2024, "Analyzing and improving the training dynamics of
diffusion models", Eq. 123-127): after step t

    avg_t = beta_t avg_{t-1} + (1 - beta_t) theta_t,    beta_t = (1 - 1/t)^(gamma + 1)

gives theta_s the weight (s^(gamma+1) - (s-1)^(gamma+1)) / t^(gamma+1). Its profile is the same
fraction of the run at every t: nothing is tuned to the number of steps, the random start is
forgotten, and no warm-up is needed. Its standard deviation relative to t is `width`, with
width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)); at most 12^-0.5, a uniform average (gamma = 0).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor


def exponent(width: float) -> float:
    """Return the gamma of a relative width in (0, 12^-0.5], by bisection.

    >>> round(exponent(0.10), 2), round(exponent(0.05), 2)
    (6.94, 16.97)
    """
    low, high = 0.0, 2.0 / width
    while high - low > 1e-12 * high:
        gamma = (low + high) / 2
        wider = (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)) > width**2
        low, high = (gamma, high) if wider else (low, gamma)
    return (low + high) / 2


@final
class PowerAverage:
    """The running average of `parameters`; with width 0, the parameters after the latest step."""

    def __init__(self, parameters: Iterable[Tensor], width: float) -> None:
        self.power = exponent(width) + 1 if width else math.inf
        self.parameters = [parameter.detach() for parameter in parameters]
        self.values = [parameter.clone() for parameter in self.parameters]
        self.count = 0

    def weight(self) -> float:
        """Return 1 - beta_t, the share of the newest weights, t counting from 1."""
        return 1.0 - (1.0 - 1.0 / self.count) ** self.power if self.count > 1 else 1.0

    def update(self) -> None:
        """Take the parameters in after a step, in one fused pass over them."""
        self.count += 1
        torch._foreach_lerp_(self.values, self.parameters, self.weight())  # pyright: ignore[reportPrivateImportUsage]

    def exchange(self) -> None:
        """Swap the average and the parameters; calling it again undoes that."""
        held = [parameter.clone() for parameter in self.parameters]
        torch._foreach_copy_(self.parameters, self.values)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_copy_(self.values, held)  # pyright: ignore[reportPrivateImportUsage]


@contextmanager
def averaged(averages: Iterable[PowerAverage]) -> Iterator[None]:
    """Inside, the model has its averaged weights; on leaving, those in training again."""
    averages = list(averages)
    for average in averages:
        average.exchange()
    try:
        yield
    finally:
        for average in averages:
            average.exchange()

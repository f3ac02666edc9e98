"""The only sampling loop.

A sampler is a grid of times and a step; everything between noise and data is `for t, s in
pairs(grid)`. Progress bars, trajectories and live previews are callbacks. Randomness comes from
`noise`; with `RowNoise`, one independent stream per row, results agree across batch sizes to
rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from undiffuse.diffusion.denoiser import AbstractDenoiser
from undiffuse.diffusion.steps.moves import Step
from undiffuse.interfaces import Noise

Callback = Callable[[int, int, Tensor, Tensor], None]
"""`callback(i, n, s, x_s)` after step i of n."""


@torch.no_grad()
def sample(
    denoiser: AbstractDenoiser,
    x: Tensor,
    grid: Tensor,
    step: Step,
    *,
    noise: Noise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Carry rows from the first time of a grid to the last.

    Args:
        denoiser: what is known of the data.
        x: rows (B, *) at the first time.
        grid: descending float64 times.
        step: the sampling method.
        noise: where a stochastic step's noise comes from; torch.randn_like if None.
        callback: called after each step.

    Returns:
        The rows at the last time, of the shape and type of `x`.

    >>> from undiffuse.diffusion import EDM, DDIM, Karras
    >>> from undiffuse.diffusion.oracle import Gaussian
    >>> schedule = EDM()
    >>> oracle = Gaussian(schedule, mean=torch.full((2,), 3.0), std=torch.zeros(2))  # one point
    >>> sample(oracle, 80 * torch.randn(1, 2), Karras()(schedule, 4), DDIM()).round(decimals=4)
    tensor([[3., 3.]])
    """
    noise = noise or torch.randn_like
    memory: Any = None
    for i, (t, s) in enumerate(pairwise(grid.unbind()), start=1):
        x, memory = step(denoiser, x, t, s, memory, noise)
        if callback is not None:
            callback(i, len(grid) - 1, s, x)
    return x


def one_pass(x: Tensor, callback: Callback | None) -> Tensor:
    """Return the samples of a family that draws in one pass, reported as its one step."""
    if callback is not None:
        callback(1, 1, torch.zeros((), dtype=torch.float64), x)
    return x

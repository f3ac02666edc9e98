"""Whole numbers as continuous ones, and back without loss (Theis, van den Oord, Bethge 2016, section 3.1).

A whole number k becomes a point drawn uniformly from its own bin of the line,

    x = (k + u - centre) / scale,   u ~ U[0, 1),        k = floor(scale x + centre),

so that a density p on x gives the probability of k a lower bound, by Jensen's inequality:

    log P(k) = log int_bin p(x) dx >= E_u[log p(x)] - log scale.

Computed in float64; casting x to float32 may carry it over the edge of its bin, where it is put back, so the round
trip is exact while |k - centre| stays below 2^22. Wider integers come back to within one part in 2^23 of their range.
"""

from __future__ import annotations

import torch
from torch import Tensor

from undiffuse.models.base import Noise


def dequantize(k: Tensor, centre: Tensor | float, scale: Tensor | float, noise: Noise) -> Tensor:
    """Whole numbers (B, ...) float64 -> points in their bins (B, ...) float32; u is Phi(z) for standard normal z.

    >>> dequantize(torch.tensor([0.0, 255.0]).double(), 128.0, 128.0, torch.zeros_like)
    tensor([-0.9961,  0.9961])
    """
    u = torch.special.ndtr(noise(k.float())).double()
    x = ((k + u - centre) / scale).float()
    middle = ((k + 0.5 - centre) / scale).float()
    inside = torch.nextafter(
        x + (middle - x) * 2**-20, middle
    )  # a step that is felt both far from zero and at it
    return torch.where(bins(x, centre, scale) == k, x, inside)


def bins(x: Tensor, centre: Tensor | float, scale: Tensor | float) -> Tensor:
    """The whole numbers whose bins hold the points `x`, as float64.

    >>> bins(torch.tensor([-0.9961, 0.9961]), 128.0, 128.0)
    tensor([  0., 255.], dtype=torch.float64)
    """
    return torch.floor(x.double() * scale + centre)

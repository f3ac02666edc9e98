"""Whole numbers as continuous ones, and back without loss (Theis et al. 2016, section 3.1).

A whole number k becomes a point drawn uniformly from its own bin [k, k + 1) of the line,

    x = (k + u - centre) / scale,   u ~ U[0, 1),        k = floor(scale x + centre),

so that a density p on x gives the probability of k a lower bound, by Jensen's inequality:

    log P(k) = log int_bin p(x) dx >= E_u[log p(x)] - log scale.

Points are computed in float64 and stored in float32. Near an edge the rounding can carry one into
the neighbouring bin, where it would be decoded as k - 1 or k + 1: such a point is moved back
inside. The round trip is exact while |k - centre| < 2^22; wider integers come back to within one
part in 2^23 of their range.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from undiffuse.interfaces import Noise


def dequantize(k: Tensor, centre: Tensor | float, scale: Tensor | float, noise: Noise) -> Tensor:
    """Return a random point of the bin of each whole number.

    Args:
        k: whole numbers (B, ...) float64.
        centre: what is subtracted, broadcasting against `k`.
        scale: what the difference is divided by.
        noise: standard normal draws z; the place in the bin is u = Phi(z).

    Returns:
        Points (B, ...) float32.

    >>> dequantize(torch.tensor([0.0, 255.0]).double(), 128.0, 128.0, torch.zeros_like)
    tensor([-0.9961,  0.9961])
    """
    u = torch.special.ndtr(noise(k.float())).double()
    x = ((k + u - centre) / scale).float()
    middle = ((k + 0.5 - centre) / scale).float()
    nearer = torch.nextafter(x + (middle - x) * 2**-20, middle)  # a step near zero and far from it
    return torch.where(quantize(x, centre, scale) == k, x, nearer)


def quantize(x: Tensor, centre: Tensor | float, scale: Tensor | float) -> Tensor:
    """Return the whole numbers whose bins hold the points `x`, as float64.

    >>> quantize(torch.tensor([-0.9961, 0.9961]), 128.0, 128.0)
    tensor([  0., 255.], dtype=torch.float64)
    """
    return torch.floor(x.double() * scale + centre)


def inside(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return `x` as float32, strictly between the edges of its bin.

    It serves bins of any width, mapped by any increasing function.

    Args:
        x: points float64.
        low: lower edges float64, possibly -inf.
        high: upper edges float64, possibly inf.

    >>> edge = torch.tensor(1 / 3, dtype=torch.float64)
    >>> bool(inside(edge, edge, edge + 1) > edge)
    True
    """
    least = torch.nextafter(low.float(), torch.full_like(low, math.inf, dtype=torch.float32))
    most = torch.nextafter(high.float(), torch.full_like(high, -math.inf, dtype=torch.float32))
    return torch.maximum(torch.minimum(x.float(), most), least)

"""Whole numbers as reals: k becomes a point of the bin (k, k + 1), and rounding must not carry it out of its bin.

A map x = m(k + u), u in (0, 1), is computed in float64 and stored in float32. Near an edge the rounding can cross into
the neighbouring bin, and decoding would then give k - 1 or k + 1. `inside` moves such a value by an ulp or two back
between the edges m(k) and m(k + 1), which makes decoding exact wherever a bin is a few ulps wide.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)


def inside(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """`x` (float64) as float32, strictly between the bin's edges `low` and `high` (float64, infinite ones allowed).

    >>> edge = torch.tensor(1 / 3, dtype=torch.float64)
    >>> bool(inside(edge, edge, edge + 1) > edge)
    True
    """
    least = torch.nextafter(low.float(), torch.full_like(low, math.inf, dtype=torch.float32))
    most = torch.nextafter(high.float(), torch.full_like(high, -math.inf, dtype=torch.float32))
    return torch.maximum(torch.minimum(x.float(), most), least)


def negative_log_normal(x: Tensor) -> Tensor:
    """-log of the standard normal density at `x`, elementwise, in float64."""
    return 0.5 * x.double() ** 2 + LOG_ROOT_TWO_PI

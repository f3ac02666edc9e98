"""The discretized Gaussian decoder: the probability that a Gaussian gives to each bin.

    log P(k) = log [ Phi((high - mean)/std) - Phi((low - mean)/std) ],   low, high: edges of bin k

per coordinate (Ho et al. 2020, Eq. 13; Kim and Lee 2024, Eq. 24-27; handwritten notes), with
edges -inf and +inf at the two ends, so that the bins cover the line and the masses sum to one.
Any bit depth: K values on [-1, 1] have bins of width 2/K; Ho et al.'s are 2/255 wide because
their 256 values are themselves spread from -1 to 1.

Everything is done in logarithms. An interval in the right tail is reflected to the left one,
where Phi is small and its logarithm precise; with A <= B the logarithms of Phi at the two edges,
the mass is exp(B) (1 - exp(A - B)). Edges that neighbouring bins share then have the same
rounding error on both sides, and it cancels from the sum.
"""

from __future__ import annotations

import torch
from torch import Tensor

from undiffuse.diffusion.typed import broadcast, log_ndtr


def log_mass(mean: Tensor, std: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Log of the mass of N(mean, std^2) in (low, high), elementwise, in nats, float64.

    The four broadcast against each other; `low` may be -inf and `high` +inf. Finite, with finite
    gradients, wherever the edges are closer than about 10^100 standard deviations.

    >>> edges = torch.tensor([-torch.inf, 0.0, 1.0, torch.inf], dtype=torch.float64)
    >>> log_mass(torch.tensor(0.0), torch.tensor(1.0), edges[:-1], edges[1:]).exp()
    tensor([0.5000, 0.3413, 0.1587], dtype=torch.float64)
    """
    mean, std, low, high = (c.double() for c in broadcast(mean, std, low, high))
    open_left, open_right = low == -torch.inf, high == torch.inf
    # an open edge is moved to the other one: an infinity has no gradient; see `inside`
    a = (torch.where(open_left, torch.where(open_right, 0.0, high), low) - mean) / std
    b = (torch.where(open_right, torch.where(open_left, 0.0, low), high) - mean) / std
    right = torch.where(
        open_left | open_right, open_right, a > 0
    )  # reflected: (a, b) and (-b, -a) hold as much
    a, b = torch.where(right, -b, a), torch.where(right, -a, b)
    upper = log_ndtr(b)
    closed = ~(open_left | open_right)
    gap = torch.where(closed, log_ndtr(a) - upper, -1.0)
    inside = upper + torch.where(closed, torch.log(-torch.expm1(gap)), 0.0)
    return torch.where(open_left & open_right, 0.0, inside)

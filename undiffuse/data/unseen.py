"""The probability of a value that no training row has: surprising, but not impossible.

Of a column that is the same in all n training rows, a new row differs with probability 1/(n + 1):
what is measured on the training rows has to leave room for the held-out and the new ones.
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_seen(seen: Tensor, n: Tensor | int) -> Tensor:
    """Return log n/(n + 1) where seen in the n training rows, else log 1/(n + 1), in float64.

    >>> log_seen(torch.tensor([True, False]), 9).exp()
    tensor([0.9000, 0.1000], dtype=torch.float64)
    """
    return (torch.where(seen, n, 1.0).double() / (n + 1)).log()

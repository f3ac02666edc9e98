"""A law with known truth for conditions that are whole arrays: x = A y + S e at each position.

y ~ N(0, I),   (A y)_ij = 0.8 y_ij - 0.6 y_i,j-1 (around),   x | y ~ N(A y, S^2 I)
"""

from __future__ import annotations

import math

import numpy as np

S, SIDE = 0.5, 4


def simulated(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws of (x, y), each (n, 4, 4)."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, SIDE, SIDE))
    return mean_given(y) + S * rng.normal(size=y.shape), y


def mean_given(y: np.ndarray) -> np.ndarray:
    """A y."""
    return 0.8 * y - 0.6 * np.roll(y, 1, -1)


def nats_given(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The log-density of x (n, 4, 4) given y, in nats."""
    z = (x - mean_given(y)) / S
    return (-z * z / 2 - math.log(S) - math.log(2 * math.pi) / 2).sum((1, 2))

"""Points in the plane whose density is known, small enough to train on in seconds.

Each toy draws n points (n, 2) float32 from a seed. Where the density has a closed form,
`toy_log_density` gives it in nats: the truth that learned densities are measured against.

    rings         radius r = R_j + s z of 3 rings, any angle:  sum_j N(r; R_j, s^2) / (3 2 pi r)
    checkerboard  uniform on the 8 squares of [-2, 2]^2 with (floor x + floor y) even:  1/8
    gaussians8    equal parts of N(c_j, s^2 I), c_j at 8 points of a circle of radius 2
    moons         two half circles of radius 1 with noise s z
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

TOY_ROWS = 20_000
"""How many points a toy has as a data set."""

_RADII, _RING_STD = np.array([0.5, 1.25, 2.0]), 0.06
_ANGLES = np.arange(8) * math.pi / 4
_CENTRES = 2 * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_CENTRE_STD, _MOON_STD = 0.2, 0.06


def draw_toy(name: str, n: int = TOY_ROWS, *, seed: int = 0) -> np.ndarray:
    """Return `n` points (n, 2) float32 of the toy `name`; the same ones for the same seed.

    >>> draw_toy("rings", 5).shape
    (5, 2)
    """
    return TOYS[name](np.random.default_rng(seed), n).astype(np.float32)


def toy_log_density(name: str, x: np.ndarray) -> np.ndarray:
    """Return the log-density (n,) in nats of a toy of `DENSITIES` at points (n, 2).

    >>> float(toy_log_density("checkerboard", np.array([[0.5, 0.5]]))[0]) == -math.log(8)
    True
    """
    return DENSITIES[name](np.asarray(x, np.float64))


def _moons(rng: np.random.Generator, n: int) -> np.ndarray:
    angle, lower = rng.uniform(0, math.pi, n), rng.integers(0, 2, n)
    x = np.where(lower, 1 - np.cos(angle), np.cos(angle)) - 0.5
    y = np.where(lower, 0.5 - np.sin(angle), np.sin(angle)) - 0.25
    return np.stack([x, y], axis=1) + _MOON_STD * rng.standard_normal((n, 2))


def _rings(rng: np.random.Generator, n: int) -> np.ndarray:
    radius = rng.choice(_RADII, n) + _RING_STD * rng.standard_normal(n)
    angle = rng.uniform(0, 2 * math.pi, n)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _rings_log_density(x: np.ndarray) -> np.ndarray:
    # A radius below zero, 8 deviations out, is the only thing neglected.
    radius = np.maximum(np.hypot(x[:, 0], x[:, 1]), 1e-12)[:, None]
    log_normal = -((radius - _RADII) ** 2) / (2 * _RING_STD**2) - math.log(
        _RING_STD * math.sqrt(2 * math.pi)
    )
    around = np.log(len(_RADII) * 2 * math.pi * radius[:, 0])
    return np.logaddexp.reduce(log_normal, axis=1) - around


def _checkerboard(rng: np.random.Generator, n: int) -> np.ndarray:
    x, y = rng.uniform(-2, 2, n), rng.uniform(0, 1, n)
    return np.stack([x, y + 2 * rng.integers(-1, 1, n) + np.floor(x) % 2], axis=1)


def _checkerboard_log_density(x: np.ndarray) -> np.ndarray:
    inside = (np.abs(x) <= 2).all(axis=1) & (np.floor(x).sum(axis=1) % 2 == 0)
    return np.where(inside, -math.log(8), -np.inf)


def _gaussians8(rng: np.random.Generator, n: int) -> np.ndarray:
    return _CENTRES[rng.integers(0, 8, n)] + _CENTRE_STD * rng.standard_normal((n, 2))


def _gaussians8_log_density(x: np.ndarray) -> np.ndarray:
    squares = ((x[:, None] - _CENTRES) ** 2).sum(axis=2)
    log_normal = -squares / (2 * _CENTRE_STD**2) - math.log(2 * math.pi * _CENTRE_STD**2)
    return np.logaddexp.reduce(log_normal, axis=1) - math.log(8)


TOYS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "moons": _moons,
    "rings": _rings,
    "checkerboard": _checkerboard,
    "gaussians8": _gaussians8,
}
DENSITIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rings": _rings_log_density,
    "checkerboard": _checkerboard_log_density,
    "gaussians8": _gaussians8_log_density,
}

"""A number with what is needed to trust it: its interval, its standard error, how many samples, its floor.

Intervals come from subsampling without replacement (Politis and Romano 1994). Drawing with replacement makes copies,
which put a distance near zero between two points: it biases distances and neighbour counts, and is not used here. The
subsets have half the rows. If a figure on n rows is theta + c/n + an error of variance v/n, then over halves h of the
same n rows (the delete-d jackknife, Shao and Wu 1989, with d = n/2)

    E[T_h] - T_n = c (1/b - 1/n) = c/n,        Var[T_h | the n rows] = v (1/b - 1/n) = v/n      for b = n/2:

the spread over halves is the standard error of the whole, and their mean tells its bias, with no factor left to set.

The floor of a figure is what it shows between two disjoint sets of real rows of the same size: what a perfect
sampler would get.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from undiffuse.errors import InputError
from undiffuse.seeds import mix

RATE = 0.95  # at which an interval holds the truth
DRAWS = 20  # halves
SMALL = 100  # rows; with fewer, normal intervals and halves mean little

Matrix = Float[Tensor, "_ _"]  # rows and features


@final
@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of `n` rows on either side, its 95 % interval [low, high], and `floor`, None where there is none.

    >>> one = Figure(value=1.0, low=0.8, high=1.2, stderr=0.1, n=500)
    >>> one.ties(Figure(value=1.3, low=1.0, high=1.6, stderr=0.15, n=500))
    True
    """

    value: float
    low: float
    high: float
    stderr: float
    n: int
    floor: float | None = None
    warning: str = ""

    def ties(self, other: Figure) -> bool:
        """Whether the two differ by less than the 95 % error of their difference, taken as independent."""
        return abs(self.value - other.value) <= 1.96 * math.hypot(self.stderr, other.stderr)


@final
@dataclass(frozen=True, kw_only=True)
class Matched:
    """Samples and a reference of the same number of rows; `others` are real rows that are not in the reference."""

    fake: Matrix
    reference: Matrix
    halves: tuple[
        Matrix, Matrix
    ]  # disjoint sets of real rows, of the same size if there are enough: the floor's

    @property
    def note(self) -> str:
        """What to say of the floor."""
        return floor_note(len(self.fake), len(self.halves[0]))


def floor_note(ours: int, theirs: int) -> str:
    """What to say of the floor of a figure on `ours` rows, if it was measured on `theirs`."""
    if theirs == ours:
        return ""
    return f"the floor is that of {theirs:,} real rows against {theirs:,} others, not of {ours:,}; have more real rows"


def match(real: Tensor, fake: Tensor, *, seed: int = 0) -> Matched:
    """M = min(real rows, samples) of each, drawn at random, and two disjoint sets of real rows, of m where possible.

    Raises InputError for feature matrices that do not fit together, hold anything but finite numbers, or have fewer
    than 8 rows.
    """
    check("real rows", real)
    check("samples", fake)
    if real.shape[1] != fake.shape[1]:
        raise InputError(
            f"samples: {fake.shape[1]} features, and the real rows have {real.shape[1]}; use the same."
        )
    size = min(len(real), len(fake))
    order, chosen = permutation(len(real), mix(seed, 0)), permutation(len(fake), mix(seed, 1))
    part = min(size, len(real) // 2)
    halves = real[order[:part]], real[order[part : 2 * part]]
    return Matched(fake=fake[chosen[:size]], reference=real[order[:size]], halves=halves)


def check(name: str, x: Tensor) -> None:
    """Raises InputError unless `x` is a matrix of finite floating-point numbers with at least 8 rows."""
    if x.ndim != 2 or not x.is_floating_point():
        raise InputError(
            f"{name}: features of shape {tuple(x.shape)}, {x.dtype}; give a matrix (rows, features)."
        )
    if len(x) < 8:
        raise InputError(f"{name}: {len(x)} rows are too few to compare; give at least 8.")
    bad = int((~torch.isfinite(x)).any(1).sum())
    if bad:
        raise InputError(
            f"{name}: the features of {bad:,} of {len(x):,} rows are not finite; leave those rows out."
        )


def permutation(n: int, seed: int) -> Tensor:
    """A random order of 0 ... n - 1, (n,) int64, a function of the seed alone."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def random_halves(n: int, *, draws: int = DRAWS, seed: int = 0) -> list[Tensor]:
    """`draws` random subsets of n // 2 of n rows, in order."""
    return [permutation(n, mix(seed, 2, draw))[: n // 2].sort().values for draw in range(draws)]


def spread(values: Sequence[float], n: int) -> float:
    """The standard error of a figure on n rows, from its values on random halves of them."""
    b = n // 2
    return float(torch.tensor(list(values), dtype=torch.float64).std()) * math.sqrt(b / (n - b))


def student(draws: int) -> float:
    """The quantile of Student's t that goes with a spread measured on so many halves.

    >>> round(student(20), 3)
    2.093
    """
    from scipy.special import stdtrit

    return float(stdtrit(draws - 1, (1 + RATE) / 2))


def of_mean(
    values: Float[Tensor, " n"], *, floor: float | None = None, bounds: tuple[float, float]
) -> Figure:
    """The mean of independent numbers, with its normal interval, cut off at `bounds`."""
    n, mean = len(values), float(values.double().mean())
    stderr = float(values.double().std()) / math.sqrt(n) if n > 1 else math.nan
    return normal(mean, stderr, n, floor=floor, bounds=bounds)


def normal(
    value: float,
    stderr: float,
    n: int,
    *,
    width: float = 1.96,
    floor: float | None = None,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    warnings: Sequence[str] = (),
) -> Figure:
    """Value +- width * stderr, cut off at `bounds`, with the warning that there are few rows where there are."""
    few = [f"only {n} rows: too few for the interval to be trusted"] if n < SMALL else []
    return Figure(
        value=value,
        low=max(bounds[0], value - width * stderr),
        high=min(bounds[1], value + width * stderr),
        stderr=stderr,
        n=n,
        floor=floor,
        warning="; ".join(text for text in (*few, *warnings) if text),
    )

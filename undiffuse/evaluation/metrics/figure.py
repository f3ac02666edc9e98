"""A number with what is needed to trust it: its interval, standard error, number of rows and floor.

Intervals come from subsampling without replacement (Politis and Romano 1994). Drawing with
replacement makes copies, which put a distance near zero between two points: it biases distances and
neighbour counts, and is not used here. The subsets have half the rows. If a figure on n rows is
theta + c/n + an error of variance v/n, then over halves h of the same n rows (the delete-d
jackknife, Shao and Wu 1989, with d = n/2)

    E[T_h] - T_n = c (1/b - 1/n) = c/n,   Var[T_h | the n rows] = v (1/b - 1/n) = v/n  for b = n/2:

the spread over halves is the standard error of the whole, and their mean tells its bias, with no
factor left to set.

The floor of a figure is its value between two disjoint sets of real rows of the same size: what a
perfect sampler would get.

The area under the ROC curve is the probability that a draw a exceeds a draw b, ties by half,

    theta = P(a > b) + P(a = b)/2,      theta_hat = U/(n m)

the statistic of Mann and Whitney (1947). It is the mean of the placements V_a = P_b(b < a) +
P_b(b = a)/2, and of V_b alike, whose spreads give its error: var = var(V_a)/n + var(V_b)/m (DeLong
et al. 1988).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from undiffuse.errors import InputError
from undiffuse.seeds import mix

RATE = 0.95  # at which an interval holds the truth
Z = 1.959964  # of a normal interval at that rate
HALVES = 20
SMALL = 100  # rows; with fewer, normal intervals and halves mean little

Matrix = Float[Tensor, "_ _"]  # rows and features


@final
@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number measured on `n` rows of either side.

    Attributes:
        value: the number.
        low, high: the ends of its 95 % interval.
        stderr: its standard error.
        n: the number of rows.
        floor: its value between two disjoint sets of real rows; None where there is none.
        warning: why it should be trusted less, or "".

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
        """Whether the two differ by less than the 95 % error of their difference."""
        return abs(self.value - other.value) <= 1.96 * math.hypot(self.stderr, other.stderr)


@final
@dataclass(frozen=True, kw_only=True)
class Matched:
    """Samples and reference rows, as many of one as of the other: features, classes or tables.

    Attributes:
        fake: samples (n, ...).
        reference: real rows (n, ...).
        halves: two disjoint sets of real rows, of n rows each if there are enough: for the floor.
        seed: decides which halves of the rows give the intervals.
    """

    fake: Tensor
    reference: Tensor
    halves: tuple[Tensor, Tensor]
    seed: int = 0

    @property
    def note(self) -> str:
        """A warning if the floor was measured on fewer rows than the figure, or ""."""
        ours, theirs = len(self.fake), len(self.halves[0])
        if theirs == ours:
            return ""
        return (
            f"the floor is that of {theirs:,} real rows against {theirs:,} others, not of "
            f"{ours:,}; have more real rows"
        )

    def subsets(self, draws: int = HALVES) -> list[tuple[Tensor, Tensor]]:
        """Return `draws` pairs of random halves of the rows, of the reference and of samples."""
        n = len(self.fake)
        return [
            (_half(n, mix(2 * self.seed, 2, draw)), _half(n, mix(2 * self.seed + 1, 2, draw)))
            for draw in range(draws)
        ]


def match(real: Tensor, fake: Tensor, *, seed: int = 0) -> Matched:
    """Choose as many reference rows as samples, at random, and two disjoint sets of real rows.

    Args:
        real: real rows (n, ...).
        fake: samples (m, ...).
        seed: decides which rows are chosen.

    Returns:
        min(n, m) rows of each; the sets for the floor have as many, or n // 2 if that is fewer.
    """
    size = min(len(real), len(fake))
    order, chosen = _permutation(len(real), mix(seed, 0)), _permutation(len(fake), mix(seed, 1))
    part = min(size, len(real) // 2)
    halves = real[order[:part]], real[order[part : 2 * part]]
    return Matched(fake=fake[chosen[:size]], reference=real[order[:size]], halves=halves, seed=seed)


def match_features(real: Tensor, fake: Tensor, *, seed: int = 0) -> Matched:
    """Match features (n, d) and (m, d) as `match` does.

    Raises:
        InputError: for different widths, anything but finite numbers, or fewer than 8 rows.
    """
    check_features("real rows", real, real.shape[-1])
    check_features("samples", fake, real.shape[-1])
    return match(real, fake, seed=seed)


def check_features(name: str, x: Tensor, width: int) -> None:
    """Raise InputError unless `x` is a matrix (8 or more, width) of finite floats."""
    if x.ndim != 2 or not x.is_floating_point():
        shape = f"shape {tuple(x.shape)}, {x.dtype}"
        raise InputError(f"{name}: features of {shape}; give a matrix (rows, features).")
    if x.shape[1] != width:
        raise InputError(
            f"{name}: {x.shape[1]} features, and the real rows have {width}; use the same."
        )
    if len(x) < 8:
        raise InputError(f"{name}: {len(x)} rows are too few to compare; give at least 8.")
    bad = int((~torch.isfinite(x)).any(1).sum())
    if bad:
        raise InputError(
            f"{name}: the features of {bad:,} of {len(x):,} rows are not finite; leave those rows "
            "out."
        )


def _permutation(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def _half(n: int, seed: int) -> Tensor:
    return _permutation(n, seed)[: n // 2].sort().values


def spread(values: Sequence[float], n: int) -> float:
    """Return the standard error of a figure on n rows, from its values on random halves of them."""
    b = n // 2
    return float(np.std(values, ddof=1)) * math.sqrt(b / (n - b))


def student(draws: int) -> float:
    """Return the quantile of Student's t for a spread measured on `draws` values.

    >>> round(student(20), 3)
    2.093
    """
    from scipy.special import stdtrit

    return float(stdtrit(draws - 1, (1 + RATE) / 2))


def normal(
    value: float,
    stderr: float,
    n: int,
    *,
    width: float = Z,
    floor: float | None = None,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    warnings: Sequence[str] = (),
) -> Figure:
    """Return value +- width * stderr, cut off at `bounds`, with a warning where rows are few."""
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


def by_halves(
    compare: Callable[[Tensor, Tensor], float],
    sets: Matched,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Figure:
    """Return `compare(real, fake)` of matched sets, with its interval from halves, and floor."""
    real, fake, n = sets.reference, sets.fake, len(sets.fake)
    halved = [compare(real[ours], fake[theirs]) for ours, theirs in sets.subsets()]
    return normal(
        compare(real, fake),
        spread(halved, n),
        n,
        width=student(HALVES),
        floor=compare(*sets.halves),
        bounds=bounds,
        warnings=[sets.note],
    )


def of_mean(
    values: np.ndarray,
    *,
    floor: float | None = None,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Figure:
    """Return the mean of independent numbers (n,), with Student's interval cut off at `bounds`."""
    n = len(values)
    stderr = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    width = student(n) if n > 1 else math.nan
    return normal(float(np.mean(values)), stderr, n, width=width, floor=floor, bounds=bounds)


def share(count: int, n: int) -> Figure:
    """Return count/n with Wilson's score interval (1927), which holds at 0 of n too.

    >>> found = share(0, 100)
    >>> found.value, found.low, round(found.high, 4)
    (0.0, 0.0, 0.037)
    """
    from scipy.stats import binomtest

    low, high = binomtest(count, n).proportion_ci(RATE, method="wilson")
    stderr = float(high - low) / (2 * Z)
    return Figure(value=count / n, low=float(low), high=float(high), stderr=stderr, n=n)


def auroc(a: np.ndarray, b: np.ndarray, *, floor: float = 0.5) -> Figure:
    """Return the probability that a draw of the law of `a` (n,) exceeds one of that of `b` (m,).

    >>> auroc(np.array([1.0, 3.0]), np.array([0.0, 1.0])).value
    0.875
    """
    places = placements(a, b), placements(b, a)
    stderr = math.sqrt(sum(float(np.var(place, ddof=1)) / len(place) for place in places))
    value = float(places[0].mean())
    return normal(value, stderr, min(len(a), len(b)), floor=floor, bounds=(0.0, 1.0))


def placements(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the share of `b` (m,) that each of `a` (n,) exceeds, ties by half."""
    ordered = np.sort(b)
    below = np.searchsorted(ordered, a, "left") + np.searchsorted(ordered, a, "right")
    return below / (2 * len(b))

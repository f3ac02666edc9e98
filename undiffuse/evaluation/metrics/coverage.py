"""Whether samples lie where real rows do, and whether all places where real rows lie are reached.

Let r_k(x) be the distance from a row to its k-th nearest other row of its own set, and B(x) the
closed ball of that radius.

    precision   the share of samples that lie in some B(real)
    recall      the share of real rows that lie in some B(sample)
    density     the number of balls B(real) that hold a sample, divided by k, on average
    coverage    the share of balls B(real) that hold some sample

Precision and recall: Kynkaanniemi et al. 2019, Eqs. 1 and 2. Density and coverage: Naeem et al.
2020, Eqs. 3 and 4; one outlier with a large ball does not spoil these. In expectation density is 1
for a perfect sampler and coverage 1 - 2^-k (Naeem et al., section 3.2); their floors show it. Balls
are closed, so a copy of a row is in its ball even where k copies in the real rows make it a point.

None is a mean of independent numbers: intervals come from halves of both sets. All four, on all
halves, come from one pass over each of the three sets of distances: a pair that is farther apart
than any half's radius is in no ball.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from undiffuse.errors import InputError
from undiffuse.evaluation.metrics.figure import (
    HALVES,
    Figure,
    Matched,
    Matrix,
    normal,
    spread,
    student,
)
from undiffuse.evaluation.metrics.neighbours import BLOCK, squared_distances, squared_radii

NEIGHBOURS, SHARE = 5, 0.01  # k at most, and as a share of the rows
_TIE = 1 + 1e-9  # distances that differ by rounding alone are the same


@final
@dataclass(frozen=True, kw_only=True)
class Manifold:
    """The four figures of one set of samples."""

    precision: Figure
    recall: Figure
    density: Figure
    coverage: Figure


def manifold(
    real: Matrix,
    fake: Matrix,
    k: int = 5,
    *,
    halves: Sequence[tuple[Int64[Tensor, " _"], Int64[Tensor, " _"]]] = (),
    block: int = BLOCK,
) -> Float64[Tensor, "sets 4"]:
    """Return (precision, recall, density, coverage) of all rows, then of each pair of subsets.

    Args:
        real: features (n, d).
        fake: features (m, d).
        k: the neighbour whose distance is a ball's radius.
        halves: pairs of subsets, of real rows and of samples: ascending row numbers.
        block: how many rows of the distances are in memory at a time.

    Raises:
        InputError: if a set has no k-th neighbour.
    """
    pairs = [(torch.arange(len(real)), torch.arange(len(fake))), *halves]
    smallest = min(len(part) for pair in pairs for part in pair)
    if not 1 <= k < smallest:
        raise InputError(
            f"k {k}: take at least 1 neighbour, and fewer than the {smallest} rows of a set."
        )
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    real_radii = squared_radii(real, k, ours, block=block) * _TIE
    fake_radii = squared_radii(fake, k, theirs, block=block) * _TIE
    in_real, in_fake = real_radii >= 0, fake_radii >= 0
    balls = torch.zeros(len(pairs), len(fake), dtype=torch.int64)  # that hold each sample
    covered, recalled = torch.zeros_like(in_real), torch.zeros_like(in_real)
    largest = real_radii.amax(0)[:, None], fake_radii.amax(0)
    for first, squared in squared_distances(real, fake, block=block):
        near = (squared <= largest[0][first : first + len(squared)]) | (squared <= largest[1])
        i, j = near.nonzero(as_tuple=True)
        distances, i = squared[i, j], i + first
        for s in range(len(pairs)):
            inside = (distances <= real_radii[s, i]) & in_fake[s, j]
            balls[s] += torch.bincount(j[inside], minlength=len(fake))
            covered[s, i[inside]] = True
            recalled[s, i[(distances <= fake_radii[s, j]) & in_real[s, i]]] = True
    n, m = in_real.sum(1).double(), in_fake.sum(1).double()
    return torch.stack(
        [(balls > 0).sum(1) / m, recalled.sum(1) / n, balls.sum(1) / (m * k), covered.sum(1) / n], 1
    )


def precision_recall(real: Matrix, fake: Matrix, k: int = 3) -> tuple[float, float]:
    """Return improved precision and recall of samples (m, d) against real rows (n, d).

    >>> real = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    >>> fake = torch.tensor([[0.5], [1.5], [20.0]])
    >>> precision_recall(real, fake, k=1)
    (0.6666666666666666, 1.0)
    """
    precision, recall, _, _ = manifold(real, fake, k)[0].tolist()
    return precision, recall


def density_coverage(real: Matrix, fake: Matrix, k: int = 5) -> tuple[float, float]:
    """Return density and coverage of samples (m, d) against real rows (n, d)."""
    _, _, density, coverage = manifold(real, fake, k)[0].tolist()
    return density, coverage


def manifold_figures(sets: Matched, k: int | None = None) -> Manifold:
    """Return the figures of samples against their reference, with intervals and floors.

    `k` is a hundredth of the rows, from 1 to 5, unless asked otherwise: five neighbours of 28 rows
    would make balls that hold a fifth of them, and with them most of what lies between.
    """
    n = len(sets.fake)
    if k is None:
        k = min(max(1, round(SHARE * n)), NEIGHBOURS)
    values = manifold(sets.reference, sets.fake, k, halves=sets.subsets())
    floors = manifold(*sets.halves, k)[0].tolist()
    names = [field.name for field in fields(Manifold)]
    figures = {
        name: normal(
            float(column[0]),
            spread(column[1:].tolist(), n),
            n,
            width=student(HALVES),
            floor=floor,
            bounds=(0.0, math.inf if name == "density" else 1.0),
            warnings=[sets.note],
        )
        for name, column, floor in zip(names, values.T, floors)
    }
    return Manifold(**figures)

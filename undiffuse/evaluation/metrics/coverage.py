"""Whether samples lie where real rows do, and whether all of where real rows lie is reached.

Let r_k(x) be the distance from a row to its k-th nearest other row of its own set, and B(x) the closed ball of that
radius.

    precision   the share of samples that lie in some B(real)
    recall      the share of real rows that lie in some B(sample)
    density     the number of balls B(real) that hold a sample, divided by k, on average
    coverage    the share of balls B(real) that hold some sample

Precision and recall: Kynkaanniemi et al. 2019, Eqs. 1 and 2; density and coverage: Naeem et al. 2020, Eqs. 3 and 4,
which one outlier with a large ball does not spoil. In expectation density is 1 for a perfect sampler and coverage 1 -
2^-k (Naeem et al., section 3.2), of which their floors remind. Balls are closed, so a copy of a row is in its ball
even where k copies in the real rows make it a point.

None is a mean of independent numbers: intervals come from halves of both sets. All four, on all halves, come from one
pass over each of the three sets of distances: a pair that is farther apart than any half's radius is in no ball.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from undiffuse.errors import InputError
from undiffuse.evaluation.metrics.figure import (
    DRAWS,
    Figure,
    Matched,
    Matrix,
    normal,
    random_halves,
    spread,
    student,
)
from undiffuse.evaluation.metrics.neighbours import BLOCK, squared_distances, squared_radii

NAMES = ("precision", "recall", "density", "coverage")
_HIGHEST = {"precision": 1.0, "recall": 1.0, "density": math.inf, "coverage": 1.0}
_TIE = 1 + 1e-9  # distances that differ by rounding alone are the same


def manifold(
    real: Matrix,
    fake: Matrix,
    k: int = 5,
    *,
    halves: Sequence[tuple[Int64[Tensor, " _"], Int64[Tensor, " _"]]] = (),
    block: int = BLOCK,
) -> Float64[Tensor, "sets 4"]:
    """(precision, recall, density, coverage) of all rows, then of each pair of subsets (of real rows, of samples).

    Subsets are ascending row numbers. Raises InputError where a set has no k-th neighbour.
    """
    pairs = [(torch.arange(len(real)), torch.arange(len(fake))), *halves]
    smallest = min(len(part) for pair in pairs for part in pair)
    if not 1 <= k < smallest:
        raise InputError(
            f"k {k}: there must be 1 neighbour at least, and fewer than the {smallest} rows of a set."
        )
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    real_radii = squared_radii(real, k, ours, block=block) * _TIE
    fake_radii = squared_radii(fake, k, theirs, block=block) * _TIE
    in_real, in_fake = real_radii >= 0, fake_radii >= 0
    balls = torch.zeros(
        len(pairs), len(fake), dtype=torch.int64
    )  # of real rows, that hold each sample
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
    """Improved precision and recall of samples (m, d) against real rows (n, d).

    >>> precision_recall(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), torch.tensor([[0.5], [1.5], [20.0]]), k=1)
    (0.6666666666666666, 1.0)
    """
    precision, recall, _, _ = manifold(real, fake, k)[0].tolist()
    return precision, recall


def density_coverage(real: Matrix, fake: Matrix, k: int = 5) -> tuple[float, float]:
    """Density and coverage of samples (m, d) against real rows (n, d)."""
    _, _, density, coverage = manifold(real, fake, k)[0].tolist()
    return density, coverage


def manifold_figures(
    sets: Matched, k: int = 5, *, draws: int = DRAWS, seed: int = 0, block: int = BLOCK
) -> dict[str, Figure]:
    """`NAMES` -> the figure of samples against their reference, its interval from halves of both, and its floor."""
    n = len(sets.fake)
    halves = list(
        zip(
            random_halves(n, draws=draws, seed=2 * seed),
            random_halves(n, draws=draws, seed=2 * seed + 1),
        )
    )
    values = manifold(sets.reference, sets.fake, k, halves=halves, block=block)
    floors = manifold(*sets.halves, k, block=block)[0]
    return {
        name: normal(
            float(values[0, i]),
            spread(values[1:, i].tolist(), n),
            n,
            width=student(draws),
            floor=float(floors[i]),
            bounds=(0.0, _HIGHEST[name]),
            warnings=[sets.note],
        )
        for i, name in enumerate(NAMES)
    }

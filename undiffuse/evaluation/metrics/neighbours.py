"""Nearest neighbours without the matrix of distances: a block of its rows at a time.

    |a - b|^2 = |a|^2 + |b|^2 - 2 a.b

in float64, with both sets moved by the mean of the second, which cancels most of what would cancel in the difference.
What the sum cannot tell from zero is zero: two copies of a row are at distance 0, and a ball of radius 0 holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from undiffuse.evaluation.metrics.figure import Matrix

BLOCK = 512  # rows of the distance matrix in memory at a time
_EPS = torch.finfo(torch.float64).eps


def squared_distances(a: Matrix, b: Matrix, *, block: int = BLOCK) -> Iterator[tuple[int, Float64[Tensor, "r m"]]]:
    """(first row, squared distances of rows first ... first + r of `a` to all of `b`), for a (n, d) and b (m, d)."""
    centre = b.double().mean(0)
    b = b.double() - centre
    b_norms = b.square().sum(1)
    for first in range(0, len(a), block):
        rows = a[first : first + block].double() - centre
        norms = rows.square().sum(1, keepdim=True) + b_norms
        squared = torch.addmm(norms, rows, b.T, alpha=-2)
        yield first, squared.masked_fill_(squared <= a.shape[1] * _EPS * norms, 0.0)


def nearest(
    a: Matrix, b: Matrix, k: int = 1, *, block: int = BLOCK
) -> tuple[Float64[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """Distances of each row of `a` (n, d) to its k nearest rows of `b` (m, d), ascending, and which rows those are.

    >>> distance, index = nearest(torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [7.0], [2.0]]), 2)
    >>> distance.tolist(), index.tolist()
    ([[1.0, 2.0], [2.0, 3.0]], [[0, 2], [1, 2]])
    """
    found = [torch.topk(squared, k, largest=False).indices for _, squared in squared_distances(a, b, block=block)]
    exact = [
        (a[first : first + block, None].double() - b[index].double()).norm(dim=2)
        for first, index in zip(range(0, len(a), block), found)
    ]
    return torch.cat(exact), torch.cat(found)


def squared_radii(
    x: Matrix, k: int, subsets: Sequence[Int64[Tensor, " _"]], *, block: int = BLOCK
) -> list[Float64[Tensor, " _"]]:
    """For each subset of the rows of `x`, in order: the squared distance of each to its k-th nearest other one.

    All subsets are served by one pass over the distances.
    """
    found: list[list[Tensor]] = [[] for _ in subsets]
    for first, squared in squared_distances(x, x, block=block):
        for radii, rows, columns in pieces(squared, first, found, subsets, subsets):
            radii.append(torch.topk(squared[rows][:, columns], k + 1, largest=False).values[:, k])  # itself at 0
    return [torch.cat(radii) for radii in found]


def pieces(
    squared: Tensor, first: int, kept: Sequence, rows: Sequence[Tensor], columns: Sequence[Tensor]
) -> Iterator[tuple]:
    """For each subset: what is kept for it, its rows within this block, its columns."""
    for state, own_rows, own_columns in zip(kept, rows, columns):
        start, stop = torch.searchsorted(own_rows, torch.tensor([first, first + len(squared)])).tolist()
        yield state, own_rows[start:stop] - first, own_columns

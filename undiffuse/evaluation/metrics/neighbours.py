"""Nearest neighbours without the matrix of distances: a block of its rows at a time.

    |a - b|^2 = |a|^2 + |b|^2 - 2 a.b

in float64, with both sets moved by the mean of the second, which cancels most of what would cancel
in the difference. What the sum cannot tell from zero is zero: two copies of a row are at distance
0, and a ball of radius 0 holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from undiffuse.evaluation.metrics.figure import Matrix

BLOCK = 512  # rows of the distance matrix in memory at a time
DEPTH = (
    8  # times k + 1 nearest rows are kept for subsets: half of the rows seldom has fewer than k + 1
)
_EPS = torch.finfo(torch.float64).eps


def squared_distances(
    a: Matrix, b: Matrix, *, block: int = BLOCK
) -> Iterator[tuple[int, Float64[Tensor, "r m"]]]:
    """Yield (first, squared distances of rows first ... first + r of `a` to all rows of `b`).

    `a` is (n, d), `b` is (m, d).
    """
    centre = b.double().mean(0)
    b = b.double() - centre
    b_norms = b.square().sum(1)
    for first in range(0, len(a), block):
        rows = a[first : first + block].double() - centre
        norms = rows.square().sum(1, keepdim=True)
        squared = torch.addmm(b_norms, rows, b.T, alpha=-2).add_(norms)
        yield first, _zeroed(squared, norms, b_norms, a.shape[1] * _EPS)


def _zeroed(squared: Tensor, norms: Tensor, others: Tensor, error: float) -> Tensor:
    """Set what cannot be told from zero to zero; a block without such entries is not copied."""
    if float(squared.min()) <= error * float(norms.max() + others.max()):
        squared.masked_fill_(squared <= error * (norms + others), 0.0)
    return squared


def nearest(
    a: Matrix, b: Matrix, k: int = 1, *, block: int = BLOCK
) -> tuple[Float64[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """Return distances of each row of `a` to its k nearest rows of `b`, and which rows those are.

    `a` is (n, d), `b` is (m, d); distances ascend.

    >>> a, b = torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [7.0], [2.0]])
    >>> distance, index = nearest(a, b, 2)
    >>> distance.tolist(), index.tolist()
    ([[1.0, 2.0], [2.0, 3.0]], [[0, 2], [1, 2]])
    """
    found = [
        torch.topk(squared, k, largest=False).indices
        for _, squared in squared_distances(a, b, block=block)
    ]
    exact = [
        (a[first : first + block, None].double() - b[index].double()).norm(dim=2)
        for first, index in zip(range(0, len(a), block), found)
    ]
    return torch.cat(exact), torch.cat(found)


def nearest_within(
    x: Matrix, k: int, *, block: int = BLOCK
) -> tuple[Float64[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """Return the k smallest squared distances of rows of `x` (n, d) to rows of `x`, and to which.

    The row itself is one of them. Each pair is computed once: a block of rows with itself, and with
    the rows after it.
    """
    x = x.double() - x.double().mean(0)
    norms = x.square().sum(1)
    best = torch.full((len(x), k), torch.inf, dtype=torch.float64)
    index = torch.zeros(len(x), k, dtype=torch.int64)
    for first in range(0, len(x), block):
        stop = min(first + block, len(x))
        own = norms[first:stop, None]
        squared = torch.addmm(norms[first:], x[first:stop], x[first:].T, alpha=-2).add_(own)
        squared.diagonal().fill_(torch.inf)
        _zeroed(squared, own, norms[first:], x.shape[1] * _EPS).diagonal().zero_()
        _merge(best[first:stop], index[first:stop], squared, first)
        _merge(best[stop:], index[stop:], squared[:, stop - first :].T, first)
    return best, index


def _merge(best: Tensor, index: Tensor, squared: Tensor, first: int) -> None:
    """Keep in `best` (n, k) the smallest of these and of `squared` (n, r), columns first and on."""
    found = torch.topk(squared, min(best.shape[1], squared.shape[1]), dim=1, largest=False)
    values, columns = (
        torch.cat([best, found.values], 1),
        torch.cat([index, found.indices + first], 1),
    )
    kept = torch.topk(values, best.shape[1], dim=1, largest=False)
    best.copy_(kept.values)
    index.copy_(columns.gather(1, kept.indices))


def squared_radii(
    x: Matrix, k: int, subsets: Sequence[Int64[Tensor, " _"]], *, block: int = BLOCK
) -> Float64[Tensor, "sets n"]:
    """Return, for each subset of the rows of `x`, the squared distances to the k-th nearest others.

    -1 for rows that are not of the subset.

    One pass over the distances serves all subsets: of a row's nearest rows, the first k + 1 in the
    subset are those. Rows that have fewer there are computed again.
    """
    kept = (
        k + 1 if all(len(subset) == len(x) for subset in subsets) else min(len(x), DEPTH * (k + 1))
    )
    squared, index = nearest_within(x, kept, block=block)
    radii = torch.full((len(subsets), len(x)), -1.0, dtype=torch.float64)
    for own, rows in zip(radii, subsets):
        member = torch.zeros(len(x), dtype=torch.bool)
        member[rows] = True
        place = (member[index[rows]].cumsum(1) <= k).sum(
            1
        )  # of the (k + 1)-th of the subset; the row itself is one
        short = rows[place == kept]
        own[rows] = squared[rows].gather(1, place.clamp(max=kept - 1)[:, None])[:, 0]
        if len(short):
            parts = squared_distances(x[short], x[rows], block=block)
            own[short] = torch.cat(
                [torch.topk(part, k + 1, largest=False).values[:, k] for _, part in parts]
            )
    return radii

"""The kernel distance: the squared maximum mean discrepancy with a cubic kernel, without bias.

    k(x, y) = (x.y / d + 1)^3
    A = mean_{i != j} k(x_i, x_j),   B = mean_{i != j} k(y_i, y_j),   C = mean_{i, j} k(x_i, y_j)
    MMD^2 = A + B - 2 C

(Binkowski et al. 2018, Eq. 4 and section 3.1; Gretton et al. 2012, Eq. 3). Its expectation does not
depend on the number of rows, so it may be negative, and between two sets of one law it is zero on
average.

As a sum of U-statistics its variance is exact for any n and m (Sutherland and Deka 2019 for n = m):

    h_x(x) = E k(x, x'),   h_y(x) = E k(x, y),   g_x(y) = E k(x, y),   g_y(y) = E k(y, y')
    Var A = [4 (n - 2) Var_x h_x + 2 Var k(x, x')] / (n (n - 1)),    Var B alike
    Var C = [(m - 1) Var_x h_y + (n - 1) Var_y g_x + Var k(x, y)] / (n m)
    Var   = Var A + Var B + 4 Var C - (8/n) Cov_x(h_x, h_y) - (8/m) Cov_y(g_y, g_x)

Each term is a difference of means over disjoint indices. These need only the sums along the rows
and columns of the kernel matrices and the sums of squares: one pass, block by block. The estimate
is unbiased, so it can be negative near zero.

For a figure's error it is taken as no less than the variance between two sets of one law, which
comes from the kernel less its means along rows and columns (the terms of second order; Hoeffding
1948):

    Var >= 2 v_xx / (n (n - 1)) + 2 v_yy / (m (m - 1)) + 4 v_xy / (n m)
    v = E k^2 - E h^2 - E g^2 + (E k)^2
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from undiffuse.evaluation.metrics.figure import Figure, Matched, Matrix, normal
from undiffuse.models.paired import cubic_kernel

_BLOCK = 1024


@final
@dataclass(frozen=True)
class _Sums:
    """Sums of a kernel matrix (n, m), without its diagonal where both sets are the same.

    `rows` and `columns` are sums along these, `squares` is the sum of the squared entries.
    """

    rows: Float64[Tensor, " n"]
    columns: Float64[Tensor, " m"]
    squares: float

    @property
    def total(self) -> float:
        """The sum of all entries."""
        return float(self.rows.sum())


def _between(a: Matrix, b: Matrix, *, block: int) -> _Sums:
    rows, columns, squares = [], torch.zeros(len(b), dtype=torch.float64, device=b.device), 0.0
    for first in range(0, len(a), block):
        values = cubic_kernel(a[first : first + block], b)
        rows.append(values.sum(1))
        columns += values.sum(0)
        squares += float(values.square_().sum())
    return _Sums(torch.cat(rows), columns, squares)


def _itself(x: Matrix, *, block: int) -> _Sums:
    """Each pair once: a block of rows with itself, and with the rows after it."""
    rows, squares = torch.zeros(len(x), dtype=torch.float64, device=x.device), 0.0
    for first in range(0, len(x), block):
        values = cubic_kernel(x[first : first + block], x[first:])
        values.diagonal().zero_()
        after = values[:, len(values) :]
        rows[first : first + block] += values.sum(1)
        rows[first + block :] += after.sum(0)
        squares += float(values.square_().sum() + after.sum())
    return _Sums(rows, rows, squares)


def kernel_distance(a: Matrix, b: Matrix, *, block: int = _BLOCK) -> tuple[float, float]:
    """Return the unbiased squared MMD of two sets, and an unbiased estimate of its variance.

    Args:
        a: features (n, d), at least 4 rows.
        b: features (m, d), at least 4 rows.
        block: how many rows of the kernel matrix are in memory at a time.

    >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    >>> value, variance = kernel_distance(x[:100], x[100:] + 3)
    >>> value > 5 * variance**0.5
    True
    """
    value, variance, _ = _measured(a, b, block=block)
    return value, variance


def _measured(a: Matrix, b: Matrix, *, block: int) -> tuple[float, float, float]:
    """The distance, the unbiased estimate of its variance, and the terms of second order in it."""
    n, m, a, b = len(a), len(b), a.double(), b.double()
    xx, yy, xy = _itself(a, block=block), _itself(b, block=block), _between(a, b, block=block)
    value = xx.total / (n * (n - 1)) + yy.total / (m * (m - 1)) - 2 * xy.total / (n * m)
    second = 2 * _centred(xx, n * (n - 1)) + 2 * _centred(yy, m * (m - 1)) + 4 * _centred(xy, n * m)
    return value, _variance(xx, yy, xy, n, m), second


def _centred(sums: _Sums, pairs: int) -> float:
    """V over the number of pairs: of the kernel less its means along rows and columns."""
    means = [float(part.square().sum()) * len(part) / pairs for part in (sums.rows, sums.columns)]
    return max(0.0, (sums.squares - sum(means) + sums.total**2 / pairs) / pairs**2)


def _variance(xx: _Sums, yy: _Sums, xy: _Sums, n: int, m: int) -> float:
    total, squares = xy.total, xy.squares
    rows, columns = float(xy.rows.square().sum()), float(xy.columns.square().sum())
    apart = (total**2 - rows - columns + squares) / (n * (n - 1) * m * (m - 1))  # (E k(x, y))^2
    along = (rows - squares) / (n * m * (m - 1)) - apart  # Var_x h_y
    across = (columns - squares) / (m * n * (n - 1)) - apart  # Var_y g_x
    cross = ((m - 1) * along + (n - 1) * across + squares / (n * m) - apart) / (n * m)
    return (
        _within(xx, n)
        + _within(yy, m)
        + 4 * cross
        - 8 * _joint(xx, xy.rows, n, m)
        - 8 * _joint(yy, xy.columns, m, n)
    )


def _within(own: _Sums, n: int) -> float:
    """Var A: of the mean of k over the pairs of one set."""
    rows, squares = float(own.rows.square().sum()), own.squares
    apart = (own.total**2 - 4 * rows + 2 * squares) / (n * (n - 1) * (n - 2) * (n - 3))
    first = (rows - squares) / (n * (n - 1) * (n - 2)) - apart
    return (4 * (n - 2) * first + 2 * (squares / (n * (n - 1)) - apart)) / (n * (n - 1))


def _joint(own: _Sums, others: Tensor, n: int, m: int) -> float:
    """Cov(A, C)/2 = Cov_x(h_x, h_y)/n: of the means over pairs of one set and of both."""
    both = float(own.rows @ others)
    apart = (own.total * float(others.sum()) - 2 * both) / (n * (n - 1) * (n - 2) * m)
    return (both / (n * (n - 1) * m) - apart) / n


def kernel_figure(sets: Matched) -> Figure:
    """Return the kernel distance of samples to their reference, with its interval and floor."""
    value, variance, second = _measured(sets.reference, sets.fake, block=_BLOCK)
    floor, _ = kernel_distance(*sets.halves)
    return normal(
        value, math.sqrt(max(second, variance)), len(sets.fake), floor=floor, warnings=[sets.note]
    )

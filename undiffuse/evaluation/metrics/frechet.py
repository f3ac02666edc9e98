"""The Frechet distance between the Gaussians with the mean and covariance of two sets of features.

    d^2 = |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2)

(Dowson and Landau 1982; Heusel et al. 2017, Eq. 6, with the features of a network). The last trace
is the sum of the singular values of R_b^T R_a for any factors S = R R^T. No product of covariances
is ever formed: its smallest eigenvalues would drown in rounding. R is Cholesky's where S is well
conditioned, else U diag(l^1/2) of S = U diag(l) U^T without the l that are rounding error: with
fewer rows than features most of them are.

The distance of n rows is too large by about c/n (Chong and Forsyth 2020). The value reported is
this biased one, which other programs compute and which the floor is comparable with. The interval
is for the distance itself, of infinitely many rows, and reaches up to the value. The floor is all
bias: where it was measured on fewer rows k, it is multiplied by k/n.
"""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from undiffuse.evaluation.metrics.figure import (
    HALVES,
    SMALL,
    Figure,
    Matched,
    Matrix,
    spread,
    student,
)

_CONDITION = 1e10  # of a covariance whose Cholesky factor is as good as its eigenvectors
_EPS = torch.finfo(torch.float64).eps

Moments = tuple[Float64[Tensor, " d"], Float64[Tensor, "d d"]]  # mean and covariance


def gaussian(x: Matrix, *, block: int = 4096, panel: int = 256) -> Moments:
    """Return the mean (d,) and the covariance (d, d), with divisor n - 1, of rows (n, d).

    The upper triangle of the covariance is computed in blocks of rows and panels of columns.
    """
    mean = x.double().mean(0)
    scatter = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    for first in range(0, len(x), block):
        centred = x[first : first + block].double() - mean
        for upper in range(0, x.shape[1], panel):
            scatter[upper : upper + panel, upper:].addmm_(
                centred[:, upper : upper + panel].T, centred[:, upper:]
            )
    return mean, (scatter.triu() + scatter.triu(1).T) / (len(x) - 1)


def between(a: Moments, b: Moments) -> float:
    """Return the (squared) Frechet distance between two Gaussians.

    >>> zero, one, eye = torch.zeros(2).double(), torch.ones(2).double(), torch.eye(2).double()
    >>> between((zero, eye), (one, 4 * eye))
    4.0
    """
    (mean_a, cov_a), (mean_b, cov_b) = a, b
    overlap = torch.linalg.svdvals(_root(cov_b).T @ _root(cov_a)).sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * overlap
    return max(0.0, float(distance))  # what rounding leaves of zero may be negative


def _root(cov: Tensor) -> Tensor:
    """R (d, rank) with R R^T = `cov`."""
    factor, failed = torch.linalg.cholesky_ex(cov)
    if not failed:
        eye = torch.eye(len(cov), dtype=cov.dtype)
        inverse = torch.linalg.solve_triangular(factor, eye, upper=False)
        if float(inverse.square().sum() * cov.trace()) < _CONDITION:  # the sum exceeds 1/l_min
            return factor
    values, vectors = torch.linalg.eigh(cov)
    kept = values > len(values) * _EPS * values[-1]
    return vectors[:, kept] * values[kept].sqrt()


def frechet(a: Matrix, b: Matrix) -> float:
    """Return the (squared) Frechet distance between two sets of features, (n, d) and (m, d)."""
    return between(gaussian(a), gaussian(b))


def frechet_figure(sets: Matched) -> Figure:
    """Return the Frechet distance of samples to their reference, with its interval and floor."""
    real, fake, n = sets.reference, sets.fake, len(sets.fake)
    value = frechet(real, fake)
    halved = [frechet(real[ours], fake[theirs]) for ours, theirs in sets.subsets()]
    stderr = spread(halved, n)
    bias = (sum(halved) / HALVES - value) * (n // 2) / (n - n // 2)
    corrected, width = value - bias, student(HALVES) * stderr
    warnings = (_warning(n, fake.shape[1], bias, value), sets.note)
    return Figure(
        value=value,
        low=max(0.0, min(value, corrected - width)),
        high=max(value, corrected + width),
        stderr=stderr,
        n=n,
        floor=frechet(*sets.halves) * len(sets.halves[0]) / n,
        warning="; ".join(text for text in warnings if text),
    )


def _warning(n: int, features: int, bias: float, value: float) -> str:
    if n < 2 * features:
        return (
            f"{n:,} rows for {features:,} features: too few for a Frechet distance; trust the "
            "kernel distance"
        )
    if n < SMALL:
        return f"only {n} rows: too few for the interval to be trusted"
    if bias > value / 2:
        part = min(1.0, bias / value)
        return f"about {part:.0%} of it is due to there being only {n:,} rows; look at the floor"
    return ""

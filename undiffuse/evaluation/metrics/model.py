"""Figures of the model itself: the likelihood of rows, and what a sample costs.

    nats            mean over held-out rows of log p(row), in the data's own units
    bits_per_dim    -nats / (d log 2), d the number of entries of a stored row
    gap             the same mean over training rows, less nats: near 0 without memorization

Rows are independent, so these intervals are those of means; they contain the scatter of the rows'
own estimates.

    samples_per_second    samples drawn in batches, divided by the time these took
    latency               the median time of drawing one sample

The median of a law lies between the shortest and the longest of k draws with probability 1 - 2^(1 -
k): 97 % for six. The standard error of the sample median is that of Maritz and Jarrett (1978): the
standard deviation of a draw whose rank has the law of the middle one,

    var = sum_i w_i t_(i)^2 - (sum_i w_i t_(i))^2,
    w_i = P((i - 1)/k < B < i/k),   B of Beta((k + 1)/2, (k + 1)/2)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from undiffuse.evaluation.metrics.figure import Figure, normal, of_mean, student
from undiffuse.models.likelihood import bits_per_dimension

SINGLES = 6  # samples drawn one at a time


@final
@dataclass(frozen=True, kw_only=True)
class RowScores:
    """Finite log-likelihoods of rows, in nats, and the number of entries of a row.

    `held_out` is (n,), `training` (m,) or None where there are no training rows.
    """

    held_out: np.ndarray
    training: np.ndarray | None
    dimensions: int


@final
@dataclass(frozen=True, kw_only=True)
class Timings:
    """(samples, seconds) of each batch that was drawn, and the seconds of samples drawn singly."""

    batches: tuple[tuple[int, float], ...]
    singles: tuple[float, ...]


def nats(scored: RowScores) -> Figure:
    """Return the mean log-likelihood of held-out rows."""
    return of_mean(scored.held_out)


def bits_per_dim(scored: RowScores) -> Figure:
    """Return the mean length of the code of one entry of a held-out row, in bits."""
    return of_mean(bits_per_dimension(scored.held_out, scored.dimensions))


def likelihood_gap(scored: RowScores) -> Figure | None:
    """Return how much likelier training rows are than held-out rows; None without training rows."""
    if scored.training is None or not len(scored.training):
        return None
    own, other = of_mean(scored.training), of_mean(scored.held_out)
    return normal(
        own.value - other.value, math.hypot(own.stderr, other.stderr), min(own.n, other.n)
    )


def samples_per_second(timings: Timings) -> Figure:
    """Return the rate of drawing in batches, with the interval of the rates of these.

    Batches of fewer than half the rows of the largest, such as the last one, are left out.
    """
    largest = max(rows for rows, _ in timings.batches)
    whole = np.array([batch for batch in timings.batches if 2 * batch[0] >= largest])
    rows, seconds = whole.sum(0)
    k, each, value = len(whole), whole[:, 1] / whole[:, 0], float(rows / max(seconds, 1e-12))
    relative = float(np.std(each, ddof=1) / each.mean()) / math.sqrt(k) if k > 1 else math.nan
    stderr = value * relative
    width = student(k) * stderr if k > 1 else math.nan
    return Figure(
        value=value,
        low=max(0.0, value - width),
        high=value + width,
        stderr=stderr,
        n=int(rows),
        warning="" if k > 1 else "one batch alone: no interval",
    )


def latency(timings: Timings) -> Figure | None:
    """Return the median time of one sample, its interval from the shortest to the longest."""
    times = np.sort(np.array(timings.singles))
    if not len(times):
        return None
    return Figure(
        value=float(np.median(times)),
        low=float(times[0]),
        high=float(times[-1]),
        stderr=_error_of_median(times) if len(times) > 1 else math.nan,
        n=len(times),
        warning=""
        if len(times) >= SINGLES
        else f"only {len(times)} of {SINGLES} draws: they take long",
    )


def _error_of_median(ordered: np.ndarray) -> float:
    from scipy.stats import beta

    k = len(ordered)
    weights = np.diff(beta.cdf(np.arange(k + 1) / k, (k + 1) / 2, (k + 1) / 2))
    return math.sqrt(weights @ (ordered - weights @ ordered) ** 2)

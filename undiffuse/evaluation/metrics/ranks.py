"""How often a draw of one law exceeds a draw of another: the area under the ROC curve, with its error.

    theta = P(a > b) + P(a = b)/2,       theta_hat = mean over all pairs = U/(n m)

theta_hat is the statistic of Mann and Whitney (1947), the mean of the placements V_a = P_b(b < a) + P_b(b = a)/2 and
of V_b alike, whose spreads give its error: var = var(V_a)/n + var(V_b)/m (DeLong et al. 1988). Where both laws are the
same its variance is known exactly, ties t among the N = n + m included: (N + 1 - sum(t^3 - t)/(N (N - 1)))/(12 n m).
"""

from __future__ import annotations

import math

import numpy as np

from undiffuse.evaluation.metrics.figure import Figure, normal


def exceeds(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """(theta_hat, its standard error) for draws a (n,) and b (m,).

    >>> exceeds(np.array([1.0, 3.0]), np.array([0.0, 1.0]))[0]
    0.875
    """
    place_a, place_b = _placements(a, b), _placements(b, a)
    variance = sum(float(np.var(place, ddof=1)) / len(place) for place in (place_a, place_b))
    return float(place_a.mean()), math.sqrt(variance)


def _placements(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The share of `b` that each of `a` exceeds, ties by half."""
    ordered = np.sort(b)
    return (np.searchsorted(ordered, a, "left") + np.searchsorted(ordered, a, "right")) / (
        2 * len(b)
    )


def z_score(a: np.ndarray, b: np.ndarray) -> float:
    """theta_hat - 1/2 in standard deviations of what it is if `a` and `b` are of one law; 0 if all are equal."""
    n, m = len(a), len(b)
    _, ties = np.unique(np.concatenate([a, b]), return_counts=True)
    ties = ties.astype(float)
    total = n + m
    variance = (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1))) / (12 * n * m)
    return (exceeds(a, b)[0] - 0.5) / math.sqrt(variance) if variance > 1e-15 else 0.0


def auroc(a: np.ndarray, b: np.ndarray, *, floor: float = 0.5) -> Figure:
    """theta_hat with its interval; 0.5 is chance."""
    value, stderr = exceeds(a, b)
    return normal(value, stderr, min(len(a), len(b)), floor=floor, bounds=(0.0, 1.0))

"""Whether samples are copies of training rows: are they nearer to them than held-out rows are?

Let d(x) be the distance from x to its nearest training row. Given the training rows, a sampler of
the true law has d(sample) and d(held-out) of one law, exactly and in any feature space. Two tests
of that are made, and the p-value is twice the smaller of theirs:

    all       z of P(d(sample) < d(held-out)), the rank test of Meehan et al. 2020 (C_T over a
              single cell), one-sided
    nearest   of n held-out rows and n samples, how many of the k smallest distances are of samples:
              hypergeometric. k is 12 or 2 % of the 2 n distances, whichever is more, and at most n

The second one sees what ranks miss, a few copies among honest samples. More samples than held-out
rows would take its power: among 1,000 samples and 100 held-out rows most of the smallest distances
are of samples in any case. At a share c of exact copies it finds C of them, C binomial, and

    P(alarm) = sum_C P(C) P(C + H >= least),   H hypergeometric: k - C of the 2 n - C honest rows,

which is inverted for the share of copies that is found in 9 of 10 cases. Neither test says that a
sampler is good: one that draws blurs, which lie near everything, fails the first as well. So the
most suspicious pairs are handed out to be looked at, in the order of the ratio of the distances to
the nearest and the second nearest training row, which is near 0 for a copy whatever the scale (Yoon
et al. 2023 call a ratio below 1/3 a copy).

Where both laws are the same, the variance of the rank statistic over n and m rows is known exactly,
ties t among the N = n + m included: (N + 1 - sum(t^3 - t)/(N (N - 1)))/(12 n m).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import final

import numpy as np
import torch
from torch import Tensor

from undiffuse.evaluation.metrics.figure import Figure, auroc, check_features, match, of_mean
from undiffuse.evaluation.metrics.neighbours import nearest

NEAREST, AT_LEAST = 0.02, 12  # share of the distances that the second test looks at, and how many
FOUND = 0.9  # probability with which the share of copies that is called detectable is found
COPY = 1 / 3  # ratio of distances
ALARM = 0.001  # p-value; a report looks at many figures
PAIRS = 16  # that are handed out


@final
@dataclass(frozen=True, kw_only=True)
class Pair:
    """A sample and the training row nearest to it, by their row numbers.

    `ratio` is that of `distance` to the distance of the second nearest training row.
    """

    sample: int
    training: int
    distance: float
    ratio: float


@final
@dataclass(frozen=True, kw_only=True)
class Memorization:
    """What distances to training rows say of samples.

    Attributes:
        closer: P(d(sample) < d(held-out)), 0.5 without memorization.
        copies: the share of samples that are copies by their ratio; its floor: of held-out rows.
        z: of the rank test, negative where samples are nearer.
        p: the p-value of both tests.
        p_nearest: the p-value of the second test alone.
        least: the smallest p-value that these distances could have given, whatever their order.
        detectable: the smallest share of exact copies that is caught with probability 0.9; None if
            no share is, or if held-out rows are themselves repeats of training rows.
        pairs: the most suspicious pairs, the worst first.
    """

    closer: Figure
    copies: Figure
    z: float
    p: float
    p_nearest: float
    least: float
    detectable: float | None
    pairs: tuple[Pair, ...]

    @property
    def caught(self) -> bool:
        """Whether the p-value is below 0.001."""
        return self.p < ALARM

    @property
    def powerless(self) -> bool:
        """Whether no samples could have been caught."""
        return self.least >= ALARM


def memorization(
    training: Tensor, held_out: Tensor, samples: Tensor, *, seed: int = 0
) -> Memorization:
    """Test samples for copies of training rows.

    Args:
        training: features (t, d) of training rows.
        held_out: the same features (n, d) of held-out rows.
        samples: the same features (m, d) of samples.
        seed: decides which rows the second test compares, as many of either.

    Raises:
        InputError: as `match_features` does.

    >>> rows = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    >>> training, held_out, honest = rows.split(100)
    >>> memorization(training, held_out, training[:50]).caught
    True
    >>> memorization(training, held_out, honest).caught
    False
    """
    for name, x in (("training rows", training), ("held-out rows", held_out), ("samples", samples)):
        check_features(name, x, training.shape[-1])
    distance, index = nearest(samples, training, 2)
    real_distance, _ = nearest(held_out, training, 2)
    ours, theirs = distance[:, 0].numpy(), real_distance[:, 0].numpy()
    closer = auroc(theirs, ours)
    z = z_score(1 - closer.value, ours, theirs)
    sets = match(real_distance[:, 0], distance[:, 0], seed=seed)
    near, far = sets.fake.numpy(), sets.reference.numpy()
    p_nearest = nearest_tail(near, far)
    repeats = float(far.min()) == 0
    ratio, real_ratio = _ratio(distance), _ratio(real_distance)
    order = np.lexsort((ours, ratio))[:PAIRS].tolist()
    return Memorization(
        closer=closer,
        copies=of_mean(ratio < COPY, floor=float((real_ratio < COPY).mean()), bounds=(0.0, 1.0)),
        z=z,
        p=_both(z, p_nearest),
        p_nearest=p_nearest,
        least=_least(ours, theirs, len(near)),
        detectable=None if repeats else detectable(len(near)),
        pairs=tuple(
            Pair(
                sample=i,
                training=int(index[i, 0]),
                distance=float(ours[i]),
                ratio=float(ratio[i]),
            )
            for i in order
        ),
    )


def z_score(theta: float, a: np.ndarray, b: np.ndarray) -> float:
    """Return (theta - 1/2)/std, std that for `a` and `b` of one law; 0 if all are equal."""
    n, m = len(a), len(b)
    _, counts = np.unique(np.concatenate([a, b]), return_counts=True)
    ties, total = counts.astype(float), n + m
    variance = (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1))) / (12 * n * m)
    return (theta - 0.5) / math.sqrt(variance) if variance > 1e-15 else 0.0


def _ratio(distance: Tensor) -> np.ndarray:
    """Nearest over second nearest; 0 for the copy of a row that the training set holds twice."""
    return torch.where(distance[:, 0] > 0, distance[:, 0] / distance[:, 1], 0.0).numpy()


def _both(z: float, p_nearest: float) -> float:
    return min(1.0, 2 * min(math.erfc(-z / math.sqrt(2)) / 2, p_nearest))


def _least(ours: np.ndarray, theirs: np.ndarray, matched: int) -> float:
    """The p-value if all of ours were nearer than all of theirs, ties staying ties."""
    pooled = np.sort(np.concatenate([ours, theirs]))
    near, far = pooled[: len(ours)], pooled[len(ours) :]
    z = z_score(1 - auroc(far, near).value, near, far)
    return _both(z, nearest_tail(near[:matched], far[len(far) - matched :]))


def _looked_at(n: int) -> int:
    """How many of the smallest distances of n rows of either side are looked at."""
    return min(n, max(AT_LEAST, math.ceil(NEAREST * 2 * n)))


def nearest_tail(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return P(as many of ours (n,) are among the smallest of both (n,)), given which are tied."""
    from scipy.stats import hypergeom

    pooled, n = np.sort(np.concatenate([ours, theirs])), len(ours)
    threshold = pooled[_looked_at(n) - 1]
    smallest, own = int((pooled <= threshold).sum()), int((ours <= threshold).sum())
    return float(hypergeom.sf(own - 1, 2 * n, n, smallest))


def power(n: int, share: float) -> float:
    """Return how surely the second test catches samples of which this share are exact copies.

    Of n held-out rows and n samples; the first test can only add to it.

    >>> round(power(100, 0.15), 2), power(100, 1.0)
    (0.88, 1.0)
    """
    from scipy.stats import binom, hypergeom

    k = _looked_at(n)
    caught = 2 * hypergeom.sf(np.arange(k + 1) - 1, 2 * n, n, k) < ALARM
    if not caught.any():
        return 0.0
    copies = np.arange(k)
    short = int(caught.argmax()) - copies  # that honest samples must add
    alarm = hypergeom.sf(short - 1, 2 * n - copies, n - copies, k - copies)
    return float(binom.pmf(copies, n, share) @ alarm + binom.sf(k - 1, n, share))


@cache
def detectable(n: int) -> float | None:
    """Return the smallest share of copies, to a hundredth, that `power` puts at 0.9 or more.

    >>> detectable(28), detectable(300)
    (0.52, 0.06)
    """
    shares = [i / 100 for i in range(1, 101)]
    return next((share for share in shares if power(n, share) >= FOUND), None)

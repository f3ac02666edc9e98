"""Whether samples are copies of training rows: are they nearer to them than held-out rows are?

Let d(x) be the distance from x to its nearest training row. Given the training rows, a sampler of
the true law has d(sample) and d(held-out) of one law, exactly and in any feature space. Two tests
of that are made, and the p-value is twice the smaller of theirs:

    all       z of P(d(sample) < d(held-out)), the rank test of Meehan et al. 2020 (C_T over a
              single cell), one-sided
    nearest   how many of the 2 % smallest distances, both sets pooled, are of samples:
              hypergeometric

The second one sees what ranks miss, a few copies among honest samples. Neither says that a sampler
is good: one that draws blurs, which lie near everything, fails the first as well. So the most
suspicious pairs are handed out to be looked at, in the order of the ratio of the distances to the
nearest and the second nearest training row, which is near 0 for a copy whatever the scale (Yoon et
al. 2023 call a ratio below 1/3 a copy).

Where both laws are the same, the variance of the rank statistic over n and m rows is known exactly,
ties t among the N = n + m included: (N + 1 - sum(t^3 - t)/(N (N - 1)))/(12 n m).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from undiffuse.evaluation.metrics.figure import Figure, auroc, check_features, of_mean
from undiffuse.evaluation.metrics.neighbours import nearest

NEAREST = 0.02  # share of all distances that the second test looks at
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
        pairs: the most suspicious pairs, the worst first.
    """

    closer: Figure
    copies: Figure
    z: float
    p: float
    p_nearest: float
    pairs: tuple[Pair, ...]

    @property
    def caught(self) -> bool:
        """Whether the p-value is below 0.001."""
        return self.p < ALARM


def memorization(training: Tensor, held_out: Tensor, samples: Tensor) -> Memorization:
    """Test samples for copies of training rows.

    Args:
        training: features (t, d) of training rows.
        held_out: the same features (n, d) of held-out rows.
        samples: the same features (m, d) of samples.

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
    p_nearest = _nearest_tail(ours, theirs)
    ratio, real_ratio = _ratio(distance), _ratio(real_distance)
    order = np.lexsort((ours, ratio))[:PAIRS].tolist()
    return Memorization(
        closer=closer,
        copies=of_mean(ratio < COPY, floor=float((real_ratio < COPY).mean()), bounds=(0.0, 1.0)),
        z=z,
        p=min(1.0, 2 * min(math.erfc(-z / math.sqrt(2)) / 2, p_nearest)),
        p_nearest=p_nearest,
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


def _nearest_tail(ours: np.ndarray, theirs: np.ndarray) -> float:
    """P(as many of ours among the smallest), given which ranks are tied."""
    from scipy.stats import hypergeom

    pooled = np.sort(np.concatenate([ours, theirs]))
    threshold = pooled[math.ceil(NEAREST * len(pooled)) - 1]
    smallest, own = int((pooled <= threshold).sum()), int((ours <= threshold).sum())
    return float(hypergeom(len(pooled), len(ours), smallest).sf(own - 1))

"""Whether samples are copies of training rows: are they nearer to them than held-out rows are?

Let d(x) be the distance from x to its nearest training row. Given the training rows, a sampler of the true law has
d(sample) and d(held-out) of one law, exactly and in any feature space. Two tests of that, and their p-value is twice
the smaller one's:

    all       z of P(d(sample) < d(held-out)), the rank test of Meehan et al. 2020 (C_T over a single cell), one-sided
    nearest   of the 2 % smallest distances, both sets pooled, how many are of samples: hypergeometric, exact

The second one sees what ranks miss, a few copies among honest samples. Neither says that a sampler is good: one that
draws blurs, which lie near everything, fails the first as well. So the most suspicious pairs are handed out to be
looked at, by the ratio of the distances to the nearest and the second nearest training row, which is near 0 for a
copy whatever the scale (Yoon et al. 2023 call a ratio below 1/3 a copy).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from undiffuse.errors import InputError
from undiffuse.evaluation.metrics.figure import Figure, check, of_mean
from undiffuse.evaluation.metrics.neighbours import BLOCK, nearest
from undiffuse.evaluation.metrics.ranks import auroc, z_score

NEAREST = 0.02  # share of all distances that the second test looks at
COPY = 1 / 3  # ratio of distances
ALARM = 0.001  # p-value; a report looks at many figures


@final
@dataclass(frozen=True, kw_only=True)
class Pair:
    """A sample and the training row nearest to it, by their numbers; the ratio is to the second nearest."""

    sample: int
    training: int
    distance: float
    ratio: float


@final
@dataclass(frozen=True, kw_only=True)
class Memorization:
    """`closer` is P(d(sample) < d(held-out)), 0.5 without memorization; `copies` the share of samples that are copies
    by their ratio, its floor that of held-out rows; z is negative where samples are nearer; `pairs`: the worst.
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


def memorization(
    training: Tensor, held_out: Tensor, samples: Tensor, *, pairs: int = 16, block: int = BLOCK
) -> Memorization:
    """Samples (m, d) against held-out rows (n, d), by their distances to training rows (t, d), in the same features.

    >>> rows = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    >>> training, held_out, honest = rows.split(100)
    >>> memorization(training, held_out, training[:50]).caught, memorization(training, held_out, honest).caught
    (True, False)
    """
    for name, x in (("training rows", training), ("held-out rows", held_out), ("samples", samples)):
        check(name, x)
        if x.shape[1] != training.shape[1]:
            raise InputError(
                f"{name}: {x.shape[1]} features, the training rows have {training.shape[1]}; use the same."
            )
    distance, index = nearest(samples, training, 2, block=block)
    real_distance, _ = nearest(held_out, training, 2, block=block)
    ours, theirs = distance[:, 0].numpy(), real_distance[:, 0].numpy()
    z = z_score(ours, theirs)
    p_all, p_nearest = _normal_tail(z), _nearest_tail(ours, theirs)
    ratio = _ratio(distance)
    order = np.lexsort((ours, ratio.numpy()))[:pairs]
    return Memorization(
        closer=auroc(theirs, ours),
        copies=of_mean(
            (ratio < COPY).double(),
            floor=float((_ratio(real_distance) < COPY).double().mean()),
            bounds=(0.0, 1.0),
        ),
        z=z,
        p=min(1.0, 2 * min(p_all, p_nearest)),
        p_nearest=p_nearest,
        pairs=tuple(
            Pair(
                sample=int(i),
                training=int(index[i, 0]),
                distance=float(ours[i]),
                ratio=float(ratio[i]),
            )
            for i in order
        ),
    )


def _ratio(distance: torch.Tensor) -> torch.Tensor:
    """Nearest over second nearest; 0 for the copy of a row that the training set itself holds twice."""
    return torch.where(distance[:, 0] > 0, distance[:, 0] / distance[:, 1], 0.0)


def _normal_tail(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _nearest_tail(ours: np.ndarray, theirs: np.ndarray) -> float:
    """P(as many of ours among the smallest), given which ranks are tied."""
    from scipy.stats import hypergeom

    pooled = np.sort(np.concatenate([ours, theirs]))
    threshold = pooled[math.ceil(NEAREST * len(pooled)) - 1]
    smallest, own = int((pooled <= threshold).sum()), int((ours <= threshold).sum())
    return float(hypergeom(len(pooled), len(ours), smallest).sf(own - 1))

"""What tables are asked besides: their columns, pairs of columns, and usefulness.

Columns hold numbers, or categories as codes 0, 1, ...; NaN is a missing value.

    columns       1 - sup |F - G| over the distribution functions of numbers (Kolmogorov and
                  Smirnov), 1 - total variation of categories. A missing value is a category of its
                  own, and -infinity among numbers. 1 is equal
    associations  1 - |r - r'|/range, the mean over pairs of columns: r is Spearman's rank
                  correlation of numbers, Cramer's V of categories, the correlation ratio of ranks
                  within categories
    usefulness    what trees fitted on samples predict of real held-out rows; its floor is that of
                  trees fitted on real rows
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from undiffuse.evaluation.metrics.figure import Figure, Matched, by_halves, match, of_mean
from undiffuse.seeds import mix

TREES = 50
PREDICTED = 8  # columns, at most


@final
@dataclass(frozen=True, kw_only=True)
class Tables:
    """Tables with the same columns, as float64.

    Attributes:
        real: held-out rows (n, c), at least 20.
        fake: samples (m, c), at least 20.
        training: training rows (t, c), at least 20, or None.
        sizes: name -> how many categories the column has, 0 for numbers; c entries.
        seed: decides which rows are compared, and the trees.
    """

    real: np.ndarray
    fake: np.ndarray
    training: np.ndarray | None
    sizes: Mapping[str, int]
    seed: int = 0

    def matched(self) -> Matched:
        """Return as many real rows as samples, and two sets of real rows for the floor."""
        return match(torch.from_numpy(self.real), torch.from_numpy(self.fake), seed=self.seed)


def column_figures(tables: Tables) -> dict[str, Figure]:
    """Return how alike each column is among samples and real rows, in [0, 1], by its name."""
    sets = tables.matched()

    def figure(place: int, size: int) -> Figure:
        def compare(a: Tensor, b: Tensor) -> float:
            return column_fidelity(a[:, place].numpy(), b[:, place].numpy(), size)

        return by_halves(compare, sets)

    return {name: figure(i, size) for i, (name, size) in enumerate(tables.sizes.items())}


def column_fidelity(real: np.ndarray, fake: np.ndarray, size: int = 0) -> float:
    """Return how alike two columns (n,) and (m,) are, in [0, 1].

    >>> column_fidelity(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0]))
    0.5
    """
    from scipy.stats import ks_2samp

    if not size:
        a, b = (np.where(np.isnan(x), -np.inf, x) for x in (real, fake))
        return 1 - float(np.asarray(ks_2samp(a, b, method="asymp"))[0])
    a, b = (
        np.bincount(np.where(np.isnan(x), size, x).astype(int), minlength=size + 1) / len(x)
        for x in (real, fake)
    )
    return 1 - float(np.abs(a - b).sum()) / 2


def association_figure(tables: Tables) -> Figure:
    """Return how alike the associations of columns are, over all pairs; 1 for a single column."""
    sizes = list(tables.sizes.values())

    def compare(real: Tensor, fake: Tensor) -> float:
        kept = []
        for i in range(len(sizes)):
            for j in range(i):
                ours, theirs = (
                    association(x[:, i].numpy(), x[:, j].numpy(), sizes[i], sizes[j])
                    for x in (fake, real)
                )
                kept.append(1 - abs(ours - theirs) / (1 if sizes[i] or sizes[j] else 2))
        return float(np.mean(kept)) if kept else 1.0

    return by_halves(compare, tables.matched())


def association(a: np.ndarray, b: np.ndarray, size_a: int = 0, size_b: int = 0) -> float:
    """Return how strongly two columns (n,) depend on each other, over the rows that have both.

    In [-1, 1] for two columns of numbers, else in [0, 1]; 0 where one is constant.

    >>> round(association(np.arange(5.0), -np.arange(5.0) ** 3), 6)
    -1.0
    """
    from scipy.stats import contingency, rankdata, spearmanr

    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    if size_a and size_b:
        return float(contingency.association(contingency.crosstab(a, b).count, method="cramer"))
    if not size_a and not size_b:
        return float(np.asarray(spearmanr(a, b))[0])
    codes, values = (a, rankdata(b)) if size_a else (b, rankdata(a))
    _, codes, counts = np.unique(codes, return_inverse=True, return_counts=True)
    means = np.bincount(codes, values) / counts
    return float(np.sqrt(np.average((means - values.mean()) ** 2, weights=counts) / values.var()))


def usefulness(tables: Tables) -> dict[str, Figure] | None:
    """Return how well trees fitted on samples predict columns of held-out rows from the others.

    Categorical columns are predicted (the last column if there is none), at most 8. The figure is
    the accuracy of a category, else the share of the variance that is explained, which may be
    negative. Rows with a missing target are left out, and columns of which fewer than two values
    are known on a side or all held-out numbers are equal. None without training rows or other
    columns.
    """
    sizes = list(tables.sizes.values())
    if tables.training is None or len(sizes) < 2:
        return None
    targets = [i for i, size in enumerate(sizes) if size > 1] or [len(sizes) - 1]
    names = list(tables.sizes)
    found = {names[i]: _predicted(tables, tables.training, i) for i in targets[:PREDICTED]}
    return {name: figure for name, figure in found.items() if figure is not None}


def _predicted(tables: Tables, training: np.ndarray, target: int) -> Figure | None:
    train, fake, test = (x[~np.isnan(x[:, target])] for x in (training, tables.fake, tables.real))
    sizes = list(tables.sizes.values())
    size, truth = sizes.pop(target), test[:, target]
    n = min(len(train), len(fake))
    if min(n, len(test)) < 2 or (not size and np.ptp(truth) == 0):
        return None
    right = []
    for rows in (fake[:n], train[:n]):
        known = rows[:, target]
        answer = np.full(len(test), known[0])
        if np.ptp(known) > 0:
            trees = boosted_trees(sizes, size, tables.seed)
            trees.fit(np.delete(rows, target, 1), known)
            answer = trees.predict(np.delete(test, target, 1))
        right.append((answer == truth) * 1.0 if size else 1 - (answer - truth) ** 2 / truth.var())
    return of_mean(right[0], floor=float(right[1].mean()), bounds=(-math.inf, 1.0))


def boosted_trees(
    sizes: Sequence[int], classes: int, seed: int
) -> Any:  # sklearn has no common type
    """Boosted trees that take missing values; more than 254 categories are taken as numbers."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    # their own types do not agree on the options
    kind: Any = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return kind(
        categorical_features=[0 < size < 255 for size in sizes],
        early_stopping=False,
        max_iter=TREES,
        random_state=mix(seed) % 2**32,
    )

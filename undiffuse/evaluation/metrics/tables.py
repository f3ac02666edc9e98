"""What tables are asked beside the yardsticks: columns, pairs of columns, detection, and use.

Columns hold numbers, or categories as codes 0, 1, ...; NaN is a missing value. `sizes` says which: 0 for numbers,
else how many categories.

    columns        1 - sup |F - G| over the distribution functions of numbers (Kolmogorov and Smirnov), 1 - total
                   variation of categories; missing is a category of its own, and -infinity among numbers: 1 is equal
    associations   1 - |r - r'|/range, mean over pairs: r is Spearman's rank correlation of numbers, Cramer's V of
                   categories, the correlation ratio of ranks within categories
    detection      AUROC of boosted trees that tell samples from real rows, each row judged by trees that did not see
                   it: 0.5 is chance, 1 is told apart without fail
    use            what a model fitted on samples predicts of real held-out rows, beside the same fitted on real rows
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from undiffuse.errors import InputError
from undiffuse.evaluation.metrics.figure import (
    DRAWS,
    Figure,
    floor_note,
    normal,
    random_halves,
    spread,
    student,
)
from undiffuse.evaluation.metrics.ranks import auroc
from undiffuse.seeds import mix

FOLDS = 5
TREES = 50


def column_fidelity(real: np.ndarray, fake: np.ndarray, size: int = 0) -> float:
    """How alike two columns (n,) and (m,) are, in [0, 1].

    >>> column_fidelity(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0]))
    0.5
    """
    if size:
        a, b = (np.bincount(_codes(x, size), minlength=size + 1) / len(x) for x in (real, fake))
        return 1 - float(np.abs(a - b).sum()) / 2
    a, b = (np.sort(np.where(np.isnan(x), -np.inf, x)) for x in (real, fake))
    at = np.concatenate([a, b])
    gaps = np.searchsorted(a, at, "right") / len(a) - np.searchsorted(b, at, "right") / len(b)
    return 1 - float(np.abs(gaps).max())


def association(a: np.ndarray, b: np.ndarray, size_a: int = 0, size_b: int = 0) -> float:
    """How strongly two columns (n,) depend on each other, over the rows that have both; 0 where one is constant.

    In [-1, 1] for two columns of numbers, else in [0, 1].

    >>> association(np.arange(5.0), -np.arange(5.0) ** 3)
    -1.0
    """
    from scipy.stats import rankdata

    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    if size_a and size_b:
        return _cramer(a.astype(int), b.astype(int), size_a, size_b)
    if size_a or size_b:
        codes, values = (a.astype(int), rankdata(b)) if size_a else (b.astype(int), rankdata(a))
        counts = np.bincount(codes)
        means = np.bincount(codes, values) / np.maximum(counts, 1)
        return float(
            np.sqrt((counts * (means - values.mean()) ** 2).sum() / (len(values) * values.var()))
        )
    return float(np.clip(np.corrcoef(rankdata(a), rankdata(b))[0, 1], -1, 1).round(12))


def _cramer(a: np.ndarray, b: np.ndarray, size_a: int, size_b: int) -> float:
    """sqrt(chi^2/(n min(r - 1, c - 1))), over the r and c categories that occur."""
    table = (
        np.bincount(a * size_b + b, minlength=size_a * size_b).reshape(size_a, size_b).astype(float)
    )
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    chi = float(((table - expected) ** 2 / expected).sum())
    return math.sqrt(chi / (table.sum() * (min(table.shape) - 1)))


def association_fidelity(real: np.ndarray, fake: np.ndarray, sizes: Sequence[int]) -> float:
    """Mean over pairs of columns of 1 - |r - r'|/range for tables (n, c) and (m, c); 1 for a single column."""
    kept = []
    for i in range(len(sizes)):
        for j in range(i):
            ours, theirs = (association(x[:, i], x[:, j], sizes[i], sizes[j]) for x in (fake, real))
            kept.append(1 - abs(ours - theirs) / (1 if sizes[i] or sizes[j] else 2))
    return float(np.mean(kept)) if kept else 1.0


def fidelity_figures(
    real: np.ndarray, fake: np.ndarray, sizes: Sequence[int], names: Sequence[str], *, seed: int = 0
) -> dict[str, Figure]:
    """Column name -> its fidelity, and "associations", of tables (n, c) and (m, c); intervals from halves."""
    real, fake = _checked(real, sizes), _checked(fake, sizes)
    n = min(len(real), len(fake))
    rng = np.random.default_rng(mix(seed, 0))
    order, ours = rng.permutation(len(real)), fake[rng.permutation(len(fake))[:n]]
    theirs, part = real[order[:n]], min(n, len(real) // 2)
    one, other = real[order[:part]], real[order[part : 2 * part]]
    pairs = [
        (a.numpy(), b.numpy())
        for a, b in zip(random_halves(n, seed=2 * seed), random_halves(n, seed=2 * seed + 1))
    ]

    def figure(of, columns) -> Figure:  # `of(real, fake)` on the chosen columns
        halved = [of(theirs[a][:, columns], ours[b][:, columns]) for a, b in pairs]
        floor = of(one[:, columns], other[:, columns])
        value, width = of(theirs[:, columns], ours[:, columns]), student(DRAWS)
        notes = [floor_note(n, part)]
        return normal(
            value, spread(halved, n), n, width=width, floor=floor, bounds=(0.0, 1.0), warnings=notes
        )

    figures = {
        name: figure(lambda a, b, size=size: column_fidelity(a, b, size), i)
        for i, (name, size) in enumerate(zip(names, sizes))
    }
    figures["associations"] = figure(lambda a, b: association_fidelity(a, b, sizes), slice(None))
    return figures


def detection(real: np.ndarray, fake: np.ndarray, sizes: Sequence[int], *, seed: int = 0) -> Figure:
    """The AUROC of boosted trees that tell `fake` (m, c) from `real` (n, c), cross-validated; at least 20 rows each."""
    from sklearn.model_selection import StratifiedKFold

    real, fake = _checked(real, sizes), _checked(fake, sizes)
    rows, made = np.concatenate([real, fake]), np.repeat([0, 1], [len(real), len(fake)])
    score = np.empty(len(rows))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=mix(seed) % 2**32)
    for train, test in folds.split(rows, made):
        score[test] = (
            _trees(made, sizes, 2, seed)
            .fit(rows[train], made[train])
            .predict_proba(rows[test])[:, 1]
        )
    return auroc(score[made == 1], score[made == 0])


def usefulness(
    train: np.ndarray,
    fake: np.ndarray,
    test: np.ndarray,
    sizes: Sequence[int],
    target: int,
    *,
    seed: int = 0,
) -> Figure:
    """Column `target` of held-out rows `test`, predicted from the others by trees fitted on samples.

    The accuracy where it is a category, else the share of its variance that is explained (which may be negative). The
    floor, here what is hoped for, is that of trees fitted on as many real rows, `train`. Rows with a missing target
    are left out. Raises InputError if fewer than two are left of either, or the numbers to be predicted are all equal.
    """
    train, fake, test = (_checked(x, sizes) for x in (train, fake, test))
    train, fake, test = (x[~np.isnan(x[:, target])] for x in (train, fake, test))
    _check_known(train, fake, test, target, sizes[target])
    n = min(len(train), len(fake))
    others = [i for i in range(len(sizes)) if i != target]
    rest, size = [sizes[i] for i in others], sizes[target]
    truth = test[:, target]
    right = []
    for rows in (fake[:n], train[:n]):
        if np.ptp(rows[:, target]) == 0:
            answer = np.full(len(test), rows[0, target])
        else:
            answer = (
                _trees(rows[:, target], rest, size, seed)
                .fit(rows[:, others], rows[:, target])
                .predict(test[:, others])
            )
        right.append(
            (answer == truth) * 1.0
            if size
            else 1 - (answer - truth) ** 2 / max(truth.var(), 1e-300)
        )
    stderr = float(right[0].std(ddof=1)) / math.sqrt(len(test))
    return normal(
        float(right[0].mean()),
        stderr,
        len(test),
        floor=float(right[1].mean()),
        bounds=(-math.inf, 1.0),
    )


def _check_known(
    train: np.ndarray, fake: np.ndarray, test: np.ndarray, target: int, size: int
) -> None:
    """Raises InputError where nothing can be learned of the target, or nothing is there to be predicted."""
    known = min(len(train), len(fake), len(test))
    if known < 2:
        raise InputError(
            f"column {target}: too few values are known on one side ({known}); give at least two."
        )
    if not size and np.ptp(test[:, target]) == 0:
        raise InputError(
            f"column {target}: all held-out values are equal; there is no variance to explain."
        )


def _trees(target: np.ndarray, sizes: Sequence[int], classes: int, seed: int):
    """Boosted trees that take missing values and up to 255 categories as they are; more are taken as numbers."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    options: dict[str, Any] = {
        "categorical_features": [0 < size < 255 for size in sizes],
        "early_stopping": False,
    }
    return kind(max_iter=TREES, random_state=mix(seed) % 2**32, **options)


def _codes(x: np.ndarray, size: int) -> np.ndarray:
    return np.where(np.isnan(x), size, x).astype(int)


def _checked(x: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    if x.ndim != 2 or x.shape[1] != len(sizes) or len(x) < 20:
        raise InputError(
            f"table of shape {x.shape}: give at least 20 rows of {len(sizes)} columns."
        )
    return x.astype(np.float64)

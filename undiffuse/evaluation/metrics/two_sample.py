"""Whether a classifier tells samples from real rows: the classifier two-sample test, cross-fitted.

Of n held-out rows and n samples, those of one fold are judged by trees that were fitted on the
other folds. If both are of one law, the rows of a fold are exchangeable given those trees, so that

    P(a sample scores higher than a real row of the same fold) = 1/2

exactly, whatever the trees are (Lopez-Paz and Oquab 2017; the statistic is the area under the ROC
curve, by which no threshold has to be chosen). 1 is told apart without fail. A good figure says
only that these trees see no difference; a bad one is proof of one. So is one far below 1/2: samples
that repeat real rows are judged by trees that saw those rows, and so are these by their copies.

The trees are extremely randomized (Geurts et al. 2006), which work from a few dozen rows on, and
see each column by its ranks, so that no unit matters. The error is DeLong's (`figure`) with
placements within folds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from undiffuse.evaluation.metrics.figure import Figure, normal, placements
from undiffuse.seeds import mix

FOLDS = 5
TREES = 50


@final
@dataclass(frozen=True, kw_only=True)
class Mixed:
    """Real rows (n, c) and samples (n, c), n at least 8: numbers or codes, NaN where missing.

    `seed` decides the folds and the trees.
    """

    real: np.ndarray
    fake: np.ndarray
    seed: int = 0


def detection(mixed: Mixed) -> Figure:
    """Return the area under the ROC curve of trees that tell samples from real rows."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedKFold

    rows, n = _ranks(np.concatenate([mixed.real, mixed.fake])), len(mixed.fake)
    made = np.repeat([0, 1], [len(mixed.real), n])
    state = mix(mixed.seed) % 2**32
    ours, theirs = [], []
    for fitted, judged in StratifiedKFold(FOLDS, shuffle=True, random_state=state).split(
        rows, made
    ):
        trees = ExtraTreesClassifier(TREES, random_state=state).fit(rows[fitted], made[fitted])
        score = np.asarray(trees.predict_proba(rows[judged]))[:, 1]
        a, b = score[made[judged] == 1], score[made[judged] == 0]
        ours.append(placements(a, b))
        theirs.append(placements(b, a))
    places = np.concatenate(ours), np.concatenate(theirs)
    stderr = math.sqrt(sum(float(np.var(place, ddof=1)) / len(place) for place in places))
    return normal(float(places[0].mean()), stderr, n, floor=0.5, bounds=(0.0, 1.0))


def _ranks(rows: np.ndarray) -> np.ndarray:
    """The rank of each number in its column, equal ones sharing theirs; 0 for a missing one."""
    from scipy.stats import rankdata

    missing = np.isnan(rows)
    ranks = rankdata(np.where(missing, np.inf, rows), method="dense", axis=0)
    return np.where(missing, 0, ranks)

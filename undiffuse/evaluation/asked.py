"""Measure whether samples have the conditions that they were drawn given.

Trees are fitted on training rows to predict each condition from the rest of the row. One sample is
drawn given the conditions of each held-out row, and the trees predict its conditions: the figure is
the accuracy for categories, and the share of variance explained for numbers. The floor is the same
figure of the held-out rows themselves. A perfect sampler reaches it; it is below 1 where a row does
not show all of a condition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from undiffuse.data import Conditions
from undiffuse.evaluation.metrics.figure import Figure, of_mean
from undiffuse.evaluation.metrics.tables import boosted_trees
from undiffuse.evaluation.references import Reference
from undiffuse.evaluation.yardsticks import JUDGED, columns_of
from undiffuse.interfaces import Stop
from undiffuse.models import GenerativeModel

FITTED = 3000  # training rows
_FEWEST = 8


def by_condition(
    model: GenerativeModel,
    reference: Reference,
    *,
    sampler: Mapping[str, Any],
    seed: int = 0,
    batch: int = 64,
    stop: Stop = lambda: False,
) -> dict[str, Figure] | None:
    """Return a figure for each condition; {} without, and None if `stop()` was true.

    Args:
        model: the model.
        reference: training and held-out rows.
        sampler: options of `draw`.
        seed: of samples and trees.
        batch: samples drawn at a time.
        stop: polled before each batch.
    """
    own, training = Conditions.restore(model.data_config or {}), reference.training
    held_out = reference.held_out
    if own is None or training is None or training.vector is None or held_out.vector is None:
        return {}
    vector = held_out.vector[:JUDGED]
    drawn: list[np.ndarray] = []
    for first in range(0, len(vector), batch):
        if stop():
            return None
        part, shared = vector[first : first + batch], {"seed": seed, "first": first}
        drawn.append(model.sample_rows(1, vector=part, batch=batch, **shared, **sampler))
    rows = np.concatenate(drawn)
    known = training.rows[:FITTED], held_out.rows[: len(vector)], rows
    features = training.features[:FITTED], held_out.features[: len(vector)]
    sides = [
        np.delete(columns_of(stored, found, reference), own.places, 1)
        for stored, found in zip(known, (*features, reference.features_of(rows)))
    ]
    sizes = [
        size for i, size in enumerate(reference.form.column_sizes.values()) if i not in own.places
    ]
    codes = own.decode(training.vector[:FITTED].numpy()), own.decode(vector.numpy())
    figures: dict[str, Figure] = {}
    for column, learned, asked in zip(own.columns, codes[0].T, codes[1].T):
        fit, told = ~np.isnan(learned), ~np.isnan(asked)
        if min(fit.sum(), told.sum()) < _FEWEST or np.ptp(learned[fit]) == 0:
            continue
        trees = boosted_trees(sizes or [0] * sides[0].shape[1], len(column.categories), seed)
        trees.fit(sides[0][fit], learned[fit])
        truth, spread = asked[told], asked[told].var()
        if not column.categories and spread == 0:
            continue
        real, ours = (
            (answer == truth) * 1.0 if column.categories else 1 - (answer - truth) ** 2 / spread
            for answer in (trees.predict(side[told]) for side in sides[1:])
        )
        figures[column.name] = of_mean(ours, floor=float(real.mean()), bounds=(-math.inf, 1.0))
    return figures

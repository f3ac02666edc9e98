"""Measure whether samples have the conditions that they were drawn given.

Trees are fitted on training rows to predict each condition from the rest of the row. One sample is
drawn given the conditions of each held-out row, and the trees predict its conditions: the figure is
the accuracy for categories, and the share of variance explained for numbers; of a map they are
predicted at each position, from the values around it. The floor is the same figure of the held-out
rows themselves. A perfect sampler reaches it; it is below 1 where a row does not show all of a
condition.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from undiffuse.data import Conditions
from undiffuse.data.maps import ConditionMap
from undiffuse.data.pictures import map_to_image
from undiffuse.evaluation.metrics.figure import Figure, of_mean
from undiffuse.evaluation.metrics.tables import boosted_trees
from undiffuse.evaluation.references import Reference
from undiffuse.evaluation.views import side_by_side
from undiffuse.evaluation.yardsticks import JUDGED, columns_of
from undiffuse.interfaces import Stop
from undiffuse.models import GenerativeModel
from undiffuse.seeds import mix

FITTED, MAPS_FITTED = 3000, 1000  # training rows, of maps
POINTS, WINDOW = 8000, 5  # of a map: positions that are looked at, and values a side around them
SHOWN = 16  # maps in the picture
_FEWEST = 8
_CHANNELS = 3  # of a map, at most
_BOUNDS = (-math.inf, 1.0)
_PLACES = 0x9A9  # keeps the choice of positions apart from others


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
        found = _right(trees, asked[told], [side[told] for side in sides[1:]], column.categories)
        if found is not None:
            figures[column.name] = of_mean(found[1], floor=float(found[0].mean()), bounds=_BOUNDS)
    maps = (
        own.decode_maps(training.vector[:MAPS_FITTED].numpy()) if own.maps else {},
        own.decode_maps(vector.numpy()) if own.maps else {},
    )
    for one in own.maps:
        asked = [maps[0][one.name], maps[1][one.name]]
        figure = _of_map(one, reference, [known[0][: len(asked[0])], *known[1:]], asked, seed)
        figures |= {} if figure is None else {one.name: figure}
    return figures


def picture_of_maps(
    model: GenerativeModel,
    reference: Reference,
    *,
    sampler: Mapping[str, Any],
    seed: int = 0,
) -> Image.Image | None:
    """Return held-out maps, each with a sample given it and the held-out row that has it.

    Args:
        model: the model.
        reference: the held-out rows.
        sampler: options of `draw`.
        seed: of the samples.

    Returns:
        None without maps, and for rows or maps that are no images.
    """
    own, real = Conditions.restore(model.data_config or {}), reference.held_out
    drawn = (
        [one for one in own.maps if len(one.shape) == 3 and one.shape[0] in (1, 3)] if own else ()
    )
    if own is None or not drawn or real.vector is None:
        return None
    vector, form = real.vector[:SHOWN], reference.form
    rows = model.sample_rows(1, vector=vector, batch=len(vector), seed=seed, **sampler)
    maps = own.decode_maps(vector.numpy())
    ends = {one.name: (min(one.classes), max(one.classes)) if one.classes else (one.low, one.high)
            for one in drawn}  # fmt: skip
    groups = [
        [
            form.preview(rows[i : i + 1]),
            *(map_to_image(maps[name][i : i + 1], *limits) for name, limits in ends.items()),
            form.preview(real.rows[i : i + 1]),
        ]
        for i in range(len(vector))
    ]
    return side_by_side(groups)


def _right(
    trees: Any,  # sklearn has no common type
    truth: np.ndarray,
    sides: Sequence[np.ndarray],
    classes: Sequence[Any],
) -> list[np.ndarray] | None:
    """How right the trees are of each row of real rows and samples; None if all is the same.

    1 or 0 of categories, and of numbers 1 less the squared error over the variance.
    """
    spread = truth.var()
    if not classes and spread == 0:
        return None
    answers = [trees.predict(side) for side in sides]
    return [
        (answer == truth) * 1.0 if classes else 1 - (answer - truth) ** 2 / spread
        for answer in answers
    ]


def _of_map(
    own: ConditionMap,
    reference: Reference,
    rows: Sequence[np.ndarray],
    asked: Sequence[np.ndarray],
    seed: int,
) -> Figure | None:
    """The figure of a map: the mean over its channels, told from what lies around each position.

    Args:
        own: the map.
        reference: encodes rows.
        rows: training rows, held-out rows and samples, each (n, ...).
        asked: the maps (n, C, *S) of the first two.
        seed: of the positions and the trees.
    """
    draw = np.random.default_rng(mix(seed, _PLACES))
    space = own.shape[1:]
    each = max(1, POINTS // len(rows[0])), max(1, POINTS // len(rows[1]))
    places = [
        draw.integers(space, size=(len(side), count, len(space)))
        for side, count in zip(rows, (each[0], each[1]))
    ]
    places.append(places[1])
    around = [_around(reference.encode(side).numpy(), at) for side, at in zip(rows, places)]
    scores: list[list[np.ndarray]] = []
    for channel in range(min(own.shape[0], _CHANNELS)):
        learned, truth = (
            values[:, channel][(np.arange(len(values))[:, None], *np.moveaxis(at, -1, 0))].ravel()
            for values, at in zip(asked, places)
        )
        fit, told = ~np.isnan(learned), ~np.isnan(truth)
        if min(fit.sum(), told.sum()) < _FEWEST or np.ptp(learned[fit]) == 0:
            continue
        trees = boosted_trees([0] * around[0].shape[1], len(own.classes), seed)
        trees.fit(around[0][fit], learned[fit])
        found = _right(trees, truth[told], [side[told] for side in around[1:]], own.classes)
        if found is not None:
            row = np.repeat(np.arange(len(rows[1])), each[1])[told]
            count = np.bincount(row, minlength=len(rows[1]))
            means = [
                np.bincount(row, one, len(count))[count > 0] / count[count > 0] for one in found
            ]
            scores.append(means)
    if not scores:
        return None
    real, ours = (np.mean([pair[k] for pair in scores], 0) for k in (0, 1))
    return of_mean(ours, floor=float(real.mean()), bounds=_BOUNDS)


def _around(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the values around positions, and where these are, (n k, features).

    Args:
        x: rows (n, C, *S) at unit scale.
        places: (n, k, axes) positions in them.
    """
    axes, sides = places.shape[2], x.shape[2:]
    padded = np.pad(x, [(0, 0), (0, 0), *[(WINDOW // 2, WINDOW // 2)] * axes], "edge")
    row = np.arange(len(x))[:, None]
    found = [
        padded[(row, slice(None), *np.moveaxis(places + np.array(offset), -1, 0))]
        for offset in itertools.product(range(WINDOW), repeat=axes)
    ]
    where = places / np.array(sides)
    return np.concatenate([*found, where], -1).reshape(-1, len(found) * x.shape[1] + axes)

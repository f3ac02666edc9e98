"""What a table's transform measures on the training rows: shares of levels, quantiles of numbers.

What a column *can* hold (its support) is known from the whole table, so that every row has a probability; how often it
does is measured on the training rows alone. A support is a plain mapping: "code", "name", "missing"; for levels the
rising "values" and whether they are "ordered"; for numbers "whole", "low", "high", "atoms"; for constants the "value".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.special import ndtr, ndtri

from undiffuse.data.tables.transform import TableTransform

SHARED = 0.01  # this part of the probability is spread evenly over the levels, so that none is too thin to hit
KNOTS = 33  # at most; with fewer than eight rows to a knot there are fewer
EXACT_STEPS = 2**20  # whole numbers with up to this many steps come back exactly from float32
LEAST_SLOPE = (
    3e-6  # of the map on such a column: a bin is then several ulps wide, even in a heavy tail
)


def fit_table(
    supports: Sequence[Mapping[str, Any]], chunks: Callable[[], Iterator[np.ndarray]]
) -> TableTransform:
    """The transform for training rows that come in `chunks` of (b, columns), one support per column."""
    rows = np.concatenate(list(chunks()))
    return TableTransform(columns=[_FIT[s["code"]](s, rows[:, i]) for i, s in enumerate(supports)])


def _fit_constant(support: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
    return {"code": "constant", "name": support["name"], "value": support["value"]}


def _fit_levels(support: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
    values = np.asarray(support["values"], dtype=np.float64)
    present = rows[~np.isnan(rows)]
    counts = np.bincount(np.searchsorted(values, present), minlength=len(values))
    if not support["ordered"]:
        falling = np.argsort(-counts, kind="stable")
        values, counts = values[falling], counts[falling]
    if support["missing"]:
        counts = np.append(counts, len(rows) - len(present))
    column = {"code": "levels", "name": support["name"], "values": values.tolist()}
    return column | {"masses": _masses(counts)}


def _masses(counts: np.ndarray) -> list[float]:
    """The shares of the levels, with a small part spread evenly over them all."""
    return ((1 - SHARED) * counts / max(counts.sum(), 1) + SHARED / len(counts)).tolist()


def _fit_number(support: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
    column = {name: support[name] for name in ("code", "name", "whole", "low", "high", "atoms")}
    special = [rows == atom for atom in support["atoms"]]
    if support["missing"]:
        special.append(np.isnan(rows))
    ordinary = ~np.any(special, axis=0) if special else np.ones(len(rows), dtype=bool)
    counts = np.array([ordinary.sum(), *(mask.sum() for mask in special)])
    knots, marks = _knots(rows[ordinary], support)
    return column | {"knots": knots, "marks": marks, "states": _masses(counts) if special else []}


def _knots(values: np.ndarray, support: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Quantiles of the values at evenly spaced normal scores; equal ones share the mean of their scores."""
    n, half = len(values), 0.5 if support["whole"] else 0.0
    farthest = float(ndtri(torch.tensor(1 - 0.5 / max(n, 2), dtype=torch.float64)))
    scores = np.linspace(-farthest, farthest, int(np.clip(n // 8, 2, KNOTS)))
    shares = ndtr(torch.tensor(scores)).numpy()
    knots, group = np.unique(
        np.quantile(values + half, shares) if n else np.zeros(2), return_inverse=True
    )
    marks = np.bincount(group, weights=scores) / np.bincount(group)
    apart = np.diff(knots) > 1e-12 * np.maximum(np.abs(knots[1:]), np.abs(knots[:-1])) + 1e-290
    knots, marks = knots[np.append(True, apart)], marks[np.append(True, apart)]
    if len(knots) < 2:  # hardly any ordinary value in the training rows: spread the whole range
        knots, marks = np.array([support["low"], support["high"] + 2 * half]), np.array([-1.0, 1.0])
    if support["whole"] and support["high"] - support["low"] < EXACT_STEPS:
        rises = np.maximum(np.diff(marks), LEAST_SLOPE * np.diff(knots))
        wider = np.append(0.0, rises.cumsum())
        marks = wider - wider[len(marks) // 2] + marks[len(marks) // 2]
    return knots.tolist(), marks.tolist()


_FIT = {"constant": _fit_constant, "levels": _fit_levels, "number": _fit_number}

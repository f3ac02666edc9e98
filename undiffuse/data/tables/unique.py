"""Find which columns name the rows together: no two rows hold the same values in all of them.

Of m pairs of rows that agree in all columns of a set but j, about c_j m would agree in j too, if
that were independent; c_j is the share of all pairs that agree in column j. A set of two or three
columns is a key if no pair agrees in it, and SURE would, whichever j is left out: by accident that
has a probability of about exp(-20). Samples are drawn one by one, so that two may agree in a key;
how many do is said of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from undiffuse.data.tables.columns import Column, FloatColumn

SURE = 20.0
MOST_COLUMNS = 30  # of which sets are tried
_SKETCH = 1_000  # rows in which most sets of columns are refused


def unique_keys(columns: Sequence[Column], rows: np.ndarray) -> list[list[int]]:
    """Return the sets of two or three columns that are keys, and of which no two are one.

    Args:
        columns: how each is stored; numbers on no grid are part of no key.
        rows: (N, columns), codes.
    """
    n, places = len(rows), {}
    pairs = n * (n - 1) / 2
    for i, column in enumerate(columns):
        if not isinstance(column, FloatColumn) and not np.isnan(rows[:, i]).any():
            places[i] = np.unique(rows[:, i], return_inverse=True)[1]
    agree = {(i,): _agreeing(place) for i, place in places.items()}
    free = [i for i in places if 0 < agree[i,] < pairs]
    sketch = np.random.default_rng(0).permutation(n)[:_SKETCH]
    found: list[list[int]] = []
    for size in (2, 3) if len(free) <= MOST_COLUMNS else ():
        for key in combinations(free, size):
            without = [(tuple(i for i in key if i != j), j) for j in key]
            if any(agree.get(others, 0) * agree[j,] < SURE * pairs for others, j in without):
                continue
            sizes = [places[i].max() + 1 for i in key]
            whole = np.asarray(np.ravel_multi_index([places[i] for i in key], sizes))
            if size == 2 or not _agreeing(whole[sketch]):
                agree[key] = _agreeing(whole)
                found += [] if agree[key] else [list(key)]
    return found


def _agreeing(values: np.ndarray) -> float:
    """Return how many pairs of values (N,) agree."""
    counts = np.unique(values, return_counts=True)[1].astype(float)
    return float((counts * (counts - 1)).sum() / 2)


def repeats(rows: np.ndarray, key: Sequence[int]) -> int:
    """Return how many rows (N, columns) agree in a key with one above them."""
    return len(rows) - len(np.unique(rows[:, list(key)], axis=0))

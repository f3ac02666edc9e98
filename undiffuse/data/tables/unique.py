"""Find which columns name the rows: no two rows hold the same values in all of them.

Of m pairs of rows that agree in all columns of a set but j, about c_j m would agree in j too, if
that were independent; c_j is the share of all pairs that agree in column j. A set of two or three
columns is a key if no pair agrees in it, and SURE would, whichever j is left out: by accident that
has a probability of about exp(-20). One column is a key if none agrees in it, and SURE would if all
steps of its grid between its ends were equally likely; any other law of them has more that agree.

Samples are drawn one by one, so that two may agree in a key, or one with a row of the data. Those
are drawn again (`undiffuse.models.again`). A form holds a hash of 32 bits of each row's key, so
that of n rows a new key is taken for one of theirs with a probability of n/2^32.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import combinations
from typing import final

import numpy as np

from undiffuse.data.tables.columns import Column, FloatColumn

SURE = 20.0
MOST_COLUMNS = 30  # of which sets are tried
_SKETCH = 1_000  # rows in which most sets of columns are refused
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio


@final
class Key:
    """Columns that name the rows.

    Args:
        places: of the columns.
        taken: hashes of what the rows of the data hold in them, uint32 in base64.
    """

    def __init__(self, *, places: Sequence[int], taken: str) -> None:
        self.places, self.taken = places, taken
        self._taken = np.frombuffer(base64.b64decode(taken), "<u4")

    @classmethod
    def of(cls, rows: np.ndarray, places: Sequence[int]) -> Key:
        """Return the key of some columns of rows (N, columns)."""
        taken = np.unique(_hashes(rows[:, list(places)])).astype("<u4")
        return cls(places=list(places), taken=base64.b64encode(taken.tobytes()).decode("ascii"))

    def repeated(self, rows: np.ndarray) -> np.ndarray:
        """Return which rows (B, columns) agree with one above them, or with one of the data."""
        own = rows[:, list(self.places)]
        repeated = np.ones(len(rows), dtype=bool)
        repeated[np.unique(own, axis=0, return_index=True)[1]] = False
        return repeated | np.isin(_hashes(own), self._taken)


def _hashes(codes: np.ndarray) -> np.ndarray:
    """Return a hash (N,) uint32 of each row of codes (N, columns), -0 as 0."""
    mixed = np.zeros(len(codes), np.uint64)
    for column in np.ascontiguousarray(codes.T + 0.0, dtype="<f8"):
        mixed = (mixed ^ column.view("<u8")) * _MIX
        mixed ^= mixed >> np.uint64(29)
    return (mixed * _MIX >> np.uint64(32)).astype(np.uint32)


def unique_keys(columns: Sequence[Column], rows: np.ndarray) -> list[list[int]]:
    """Return the sets of one to three columns that are keys, and of which no smaller one is.

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
    found = [
        [i]
        for i in places
        if columns[i].on_grid and not agree[i,] and pairs >= SURE * (np.ptp(rows[:, i]) + 1)
    ]
    free = [i for i in places if 0 < agree[i,] < pairs]
    sketch = np.random.default_rng(0).permutation(n)[:_SKETCH]
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

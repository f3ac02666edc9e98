"""What is read at once, a piece; the order of rows in an epoch; and which pieces are held out.

A piece is a row group of a Parquet file, or some rows of another file that lie one after another.
The pieces stand in an order of their own in each epoch, so that a file is read in large parts, and
the rows that this gives are cut into windows of W rows, each of them in an order of its own:

    position q -> window j = q div W -> place q' = jW + R_j(q mod W) -> piece i of Q_e, and its row

with keyed permutations Q_e of the pieces and R_j of a window. All of it is a function of the seed
and of q: nothing is stored but how many rows each piece has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import final

import numpy as np

from undiffuse.data.permutation import key, permute
from undiffuse.data.split import MOST_HELD_OUT, rows_wanted
from undiffuse.errors import InputError

_EPOCH, _WINDOW, _FILES, _SPREAD, _ORDER = 6, 7, 8, 9, 10  # what a key is for; see also `source`
_SPREAD_OVER = 32  # pieces that some rows are taken from, at least
_KEPT = 4  # orders of pieces that are kept in memory


@final
@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of some files: piece i holds rows `starts[i]` to `starts[i + 1]` of all.

    Args:
        sizes: (P,) rows in each.
        files: (P,) the number of the file that each is of.

    >>> pieces = Pieces(np.array([3, 2]), np.array([0, 0]))
    >>> [part.tolist() for part in pieces.locate(np.array([4, 0]))]
    [[1, 0], [1, 0]]
    """

    sizes: np.ndarray
    files: np.ndarray

    @cached_property
    def starts(self) -> np.ndarray:
        """The first row of each piece, and how many rows there are."""
        return np.concatenate([[0], np.cumsum(self.sizes)])

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.starts[-1])

    def locate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the piece of each row (n,), and its place there."""
        piece = np.searchsorted(self.starts, rows, side="right") - 1
        return piece, rows - self.starts[piece]


def some_of(pieces: Pieces, chosen: np.ndarray, n: int, *words: int) -> np.ndarray:
    """Return about `n` rows of some pieces, evenly spaced in 32 of them or more; all if fewer.

    Args:
        pieces: all pieces.
        chosen: the numbers of those that rows are taken of.
        n: how many rows.
        words: what the choice of pieces depends on.
    """
    order = chosen[permute(np.arange(len(chosen)), len(chosen), key(_SPREAD, *words))]
    enough = int(np.searchsorted(np.cumsum(pieces.sizes[order]), n)) + 1
    used = np.sort(order[: max(enough, _SPREAD_OVER)])
    share = min(1.0, n / max(int(pieces.sizes[used].sum()), 1))
    rows = []
    for piece in used.tolist():
        size = int(pieces.sizes[piece])
        count = min(size, int(np.ceil(size * share)))
        rows.append(pieces.starts[piece] + np.arange(count) * size // max(count, 1))
    return np.concatenate(rows)


@final
class Shuffled:
    """The rows of some pieces, in an order for each epoch.

    Args:
        pieces: all pieces.
        chosen: the numbers of those whose rows these are.
        window: W, in rows.

    >>> order = Shuffled(Pieces(np.array([3, 2]), np.array([0, 1])), np.array([0, 1]), window=4)
    >>> sorted(order.rows(np.arange(5), np.zeros(5, int), seed=0).tolist())
    [0, 1, 2, 3, 4]
    """

    def __init__(self, pieces: Pieces, chosen: np.ndarray, window: int) -> None:
        self.pieces, self.chosen, self.window = pieces, chosen, window
        self.n = int(pieces.sizes[chosen].sum())
        self._order = lru_cache(_KEPT)(self._ordered)

    def rows(self, within: np.ndarray, epochs: np.ndarray, seed: int) -> np.ndarray:
        """Return the rows at positions `within` epochs, both of one shape."""
        rows = np.empty(within.shape, np.int64)
        for epoch in np.unique(epochs).tolist():
            own = epochs == epoch
            rows[own] = self._of_epoch(within[own], epoch, seed)
        return rows

    def _of_epoch(self, within: np.ndarray, epoch: int, seed: int) -> np.ndarray:
        window, place = np.divmod(within, self.window)
        whole = self.n // self.window  # windows; what is left is one of fewer rows
        keys = np.asarray(key(_WINDOW, seed, epoch, window))
        moved = np.empty_like(place)
        for last in (False, True):
            own = (window >= whole) == last
            size = self.n - whole * self.window if last else self.window
            if own.any():
                moved[own] = permute(place[own], size, keys[own])
        places = window * self.window + moved
        order, ends = self._order(epoch, seed)
        i = np.searchsorted(ends, places, side="right")
        return self.pieces.starts[order[i]] + places - (ends[i] - self.pieces.sizes[order[i]])

    def _ordered(self, epoch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The pieces in the order of an epoch, and where each ends."""
        count = len(self.chosen)
        order = self.chosen[permute(np.arange(count), count, key(_EPOCH, seed, epoch))]
        return order, np.cumsum(self.pieces.sizes[order])


@final
class SplitByFiles:
    """Whole files, a share of them that holds the rows wanted on average; see `split.Split`.

    Of what they hold at most 10,000 rows are compared with, spread over them. Pieces of the file
    are held out if it is the only one.

    Args:
        pieces: of all files.
        wanted: the mean number of rows to hold out.
        seed: decides which.
        window: as for `Shuffled`.
        name: what the data is called in messages.

    >>> pieces = Pieces(np.array([3, 2, 4, 4]), np.array([0, 0, 1, 2]))
    >>> split = SplitByFiles(pieces, wanted=1, seed=0, window=4, name="x")
    >>> len(set(pieces.files[pieces.locate(split.held_out(np.arange(split.n_held_out)))[0]]))
    1
    """

    def __init__(self, pieces: Pieces, wanted: int, seed: int, window: int, name: str) -> None:
        units = pieces.files
        self.wanted: int | None = wanted
        alone = bool(np.all(units == units[0]))
        if alone:
            units = np.arange(len(pieces.sizes))
        names = np.unique(units)
        if len(names) < 2:
            raise InputError(
                f"{name}: is one file of one part, so none can be held out; write it in several, "
                "or leave --data.stream out."
            )
        order = permute(np.arange(len(names)), len(names), key(_FILES, seed))
        count = int(np.clip(round(len(names) * wanted / len(pieces)), 1, len(names) - 1))
        self._outside = np.isin(units, names[order[:count]])
        self._seed = seed
        self._training = Shuffled(pieces, np.flatnonzero(~self._outside), window)
        outside = np.flatnonzero(self._outside)
        some = some_of(pieces, outside, max(wanted, MOST_HELD_OUT), seed)
        self._held_out = some[permute(np.arange(len(some)), len(some), key(_ORDER, seed))]
        self.n_held_out, self.n_training = len(some), self._training.n
        self.n_test = 0
        self._pieces = pieces
        total = int(pieces.sizes[outside].sum())
        said = f"{name}: held out are {count:,} of {len(names):,} files"
        if alone:
            said = f"{name}: is one file, of which {count:,} of {len(names):,} parts are held out"
        if len(some) < total:
            said += f"; figures take {len(some):,} of their {total:,} rows"
        self.notes: tuple[str, ...] = (f"{said}.",)

    def held_out(self, positions: np.ndarray) -> np.ndarray:
        """See `Split`."""
        return self._held_out[positions]

    def training(self, positions: np.ndarray) -> np.ndarray:
        """See `Split`."""
        return self._training.rows(positions, np.full(positions.shape, -1), self._seed)

    def shuffled(self, within: np.ndarray, epochs: np.ndarray, seed: int) -> np.ndarray:
        """See `Split`."""
        return self._training.rows(within, epochs, seed)

    def holds_out(self, indices: np.ndarray) -> np.ndarray:
        """See `Split`."""
        return self._outside[self._pieces.locate(indices)[0]]

    def tested(self) -> SplitByFiles:
        """See `Split`."""
        return self


def split_by_files(
    pieces: Pieces, wanted: float | int | None, seed: int, window: int, name: str
) -> SplitByFiles:
    """Split by whole files; see `split.make_split` for `wanted`."""
    return SplitByFiles(pieces, rows_wanted(len(pieces), wanted), seed, window, name)


def sizes_of(parts: Sequence[Sequence[int]]) -> Pieces:
    """Return the pieces of files, given how many rows each piece of each file has."""
    files = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Pieces(np.array([size for part in parts for size in part], np.int64), files)

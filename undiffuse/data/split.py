"""Which rows are held out: single rows, whole groups of rows that belong together, or given ones.

*By rows.* One keyed permutation P of range(N): rows P(0) ... P(h-1) are held out, P(h) ... P(N-1)
are for training. Nothing is stored, whatever N is.

*By groups.* Windows of one recording resemble each other: a window beside one that was trained on
is no new data. Of G groups the first round(G h/N) in a keyed order are held out, at least one and
not all, whatever their sizes: a long recording is as likely to be held out as any. Within each side
the rows stand in the order of P. The numbers of the rows are stored, as their groups are already.

*By parts.* Folders train/, val/ and test/ say what their files are for. Without val/ a share of
train/ is held out; the rows of test/ are on neither side, and are compared with in an evaluation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, final, runtime_checkable

import numpy as np

from undiffuse.data.permutation import key, permute, unpermute
from undiffuse.errors import InputError

DEFAULT_SHARE, MOST_HELD_OUT = 0.1, 10_000
FEWEST = 8  # held-out rows that a report compares with
TRAINING, HELD_OUT, TEST = range(3)  # parts that rows belong to
_ROWS, _EPOCH, _GROUPS, _PARTS = 1, 2, 3, 4  # what a key is for


@runtime_checkable
class Split(Protocol):
    """Rows of the source, by their place on one of the two sides."""

    wanted: int | None
    n_held_out: int
    n_training: int
    n_test: int
    notes: tuple[str, ...]

    def held_out(self, positions: np.ndarray) -> np.ndarray:
        """Return which rows of the source the held-out rows at these positions are."""
        ...

    def training(self, positions: np.ndarray) -> np.ndarray:
        """Return which rows of the source the training rows at these positions are."""
        ...

    def holds_out(self, indices: np.ndarray) -> np.ndarray:
        """Return whether each of these rows of the source is not trained on."""
        ...

    def tested(self) -> Split:
        """Return the split with the test rows held out instead; itself without such rows."""
        ...

    def shuffled(self, within: np.ndarray, epochs: np.ndarray, seed: int) -> np.ndarray:
        """Return the training rows at positions within epochs, each row once an epoch."""
        ...


class _InAnyOrder(ABC):
    """A split whose training rows stand in an order of all of them in each epoch."""

    n_training: int

    @abstractmethod
    def training(self, positions: np.ndarray) -> np.ndarray:
        """See `Split`."""

    @final
    def shuffled(self, within: np.ndarray, epochs: np.ndarray, seed: int) -> np.ndarray:
        """See `Split`."""
        return self.training(permute(within, self.n_training, key(_EPOCH, seed, epochs)))


@final
class SplitByRows(_InAnyOrder):
    """`n_held_out` of `n` rows, drawn with `seed`."""

    def __init__(self, n: int, n_held_out: int, seed: int, notes: tuple[str, ...] = ()) -> None:
        self.n = n
        self.wanted: int | None = n_held_out
        self.n_held_out = n_held_out
        self.n_training, self.n_test = n - n_held_out, 0
        self.notes = notes
        self._key = key(_ROWS, seed)

    def held_out(self, positions: np.ndarray) -> np.ndarray:
        """See `Split`."""
        return permute(positions, self.n, self._key)

    def training(self, positions: np.ndarray) -> np.ndarray:
        """See `Split`."""
        return permute(positions + self.n_held_out, self.n, self._key)

    def holds_out(self, indices: np.ndarray) -> np.ndarray:
        """See `Split`."""
        return unpermute(indices, self.n, self._key) < self.n_held_out

    def tested(self) -> Split:
        """See `Split`."""
        return self


@final
class SplitByGroups(_InAnyOrder):
    """Whole groups, a share of them that holds `wanted` rows on average.

    Args:
        groups: (N,) the group of each row.
        wanted: the mean number of rows to hold out.
        seed: decides which groups.

    >>> groups = np.array([0, 0, 1, 1, 1, 2, 2])
    >>> split = SplitByGroups(groups, wanted=2, seed=0)
    >>> len(set(groups[split.held_out(np.arange(split.n_held_out))].tolist()))
    1
    """

    def __init__(self, groups: np.ndarray, wanted: int, seed: int) -> None:
        names, group = np.unique(groups, return_inverse=True)
        order = permute(np.arange(len(names)), len(names), key(_GROUPS, seed))
        chosen = np.zeros(len(names), dtype=bool)
        chosen[
            order[: int(np.clip(round(len(names) * wanted / len(group)), 1, len(names) - 1))]
        ] = True
        self.wanted: int | None = wanted
        self._outside = chosen[group]
        shuffled = permute(np.arange(len(group)), len(group), key(_ROWS, seed))
        self._held_out = shuffled[self._outside[shuffled]]
        self._training = shuffled[~self._outside[shuffled]]
        self.n_held_out, self.n_training, self.n_test = len(self._held_out), len(self._training), 0
        self.notes: tuple[str, ...] = ()

    def held_out(self, positions: np.ndarray) -> np.ndarray:
        """See `Split`."""
        return self._held_out[positions]

    def training(self, positions: np.ndarray) -> np.ndarray:
        """See `Split`."""
        return self._training[positions]

    def holds_out(self, indices: np.ndarray) -> np.ndarray:
        """See `Split`."""
        return self._outside[indices]

    def tested(self) -> Split:
        """See `Split`."""
        return self


@final
class SplitByParts(_InAnyOrder):
    """Rows in the order of a key, the training rows, those held out and those to test apart.

    Args:
        training: the numbers of the training rows.
        held_out: of those held out.
        test: of those to test.
        wanted: what was asked for, to split the same rows again.
        notes: sentences on the split.
    """

    def __init__(
        self,
        training: np.ndarray,
        held_out: np.ndarray,
        test: np.ndarray,
        *,
        wanted: int | None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._training, self._held_out, self._test = training, held_out, test
        self.n_training, self.n_held_out, self.n_test = len(training), len(held_out), len(test)
        self.wanted: int | None = wanted
        self.notes = notes

    def held_out(self, positions: np.ndarray) -> np.ndarray:
        """See `Split`."""
        return self._held_out[positions]

    def training(self, positions: np.ndarray) -> np.ndarray:
        """See `Split`."""
        return self._training[positions]

    def holds_out(self, indices: np.ndarray) -> np.ndarray:
        """See `Split`."""
        return ~np.isin(indices, self._training)

    def tested(self) -> Split:
        """See `Split`."""
        if not self.n_test:
            return self
        apart = SplitByParts(self._training, self._test, self._test, wanted=self.wanted)
        apart.n_test = 0
        return apart


def split_by_parts(
    parts: np.ndarray,
    groups: np.ndarray | None,
    wanted: float | int | None,
    seed: int,
    name: str,
) -> SplitByParts:
    """Split rows by what they are for.

    Args:
        parts: (n,) TRAINING, HELD_OUT or TEST.
        groups: as for `make_split`, of the training rows if none is held out already.
        wanted: as for `make_split`; None if some are.
        seed: decides the order, and which.
        name: what the data is called in messages.

    Raises:
        InputError: no row is left to train on, or rows are held out already and `wanted` is given.
    """
    order = permute(np.arange(len(parts)), len(parts), key(_PARTS, seed))
    training, held_out, test = (order[parts[order] == part] for part in range(3))
    if len(held_out):
        if wanted is not None:
            raise InputError(
                f"held_out {wanted}: {name} says itself which rows are held out; leave it out."
            )
        return SplitByParts(training, held_out, test, wanted=None)
    inner = make_split(
        len(training), None if groups is None else groups[training], wanted, seed, name
    )
    return SplitByParts(
        training[inner.training(np.arange(inner.n_training))],
        training[inner.held_out(np.arange(inner.n_held_out))],
        test,
        wanted=inner.wanted,
        notes=inner.notes,
    )


def make_split(
    n: int, groups: np.ndarray | None, wanted: float | int | None, seed: int, name: str
) -> Split:
    """Split rows; a group is never divided, unless it is the only one, which is noted.

    Args:
        n: the number of rows.
        groups: (n,) the group of each row, or None.
        wanted: how many rows to hold out: a number, a share, or None for the default share,
            and 8 rows at least where these are at most a third.
        seed: decides which.
        name: what the data is called in messages.

    Raises:
        InputError: for a number that leaves no rows on one side.
    """
    rows = rows_wanted(n, wanted)
    if groups is None:
        return SplitByRows(n, rows, seed)
    if np.all(groups == groups[0]):
        note = (
            f"{name}: all rows have one origin, so those held out tell less of new data than usual."
        )
        return SplitByRows(n, rows, seed, notes=(note,))
    return SplitByGroups(groups, rows, seed)


def rows_wanted(n: int, wanted: float | int | None) -> int:
    """Return how many of `n` rows to hold out; see `make_split`, and for what it raises."""
    if wanted is None:
        least = FEWEST if n >= 3 * FEWEST else 1
        return int(np.clip(round(DEFAULT_SHARE * n), least, MOST_HELD_OUT))
    rows = max(1, round(wanted * n)) if isinstance(wanted, float) else int(wanted)
    if wanted <= 0 or rows >= n:
        raise InputError(
            f"held_out {wanted}: of {n:,} rows this leaves none on one side; "
            "give a share between 0 and 1, or a smaller number of rows."
        )
    return rows

"""Which rows are held out: single rows, or whole groups of rows that belong together.

*By rows.* One keyed permutation P of range(N): rows P(0) ... P(h-1) are held out, P(h) ... P(N-1)
are for training. Nothing is stored, whatever N is.

*By groups.* Windows of one recording resemble each other: a window beside one that was trained on
is no new data. Of G groups the first round(G h/N) in a keyed order are held out, at least one and
not all, whatever their sizes: a long recording is as likely to be held out as any. Within each side
the rows stand in the order of P. The numbers of the rows are stored, as their groups are already.
"""

from __future__ import annotations

from typing import Protocol, final, runtime_checkable

import numpy as np

from undiffuse.data.permutation import key, permute, unpermute
from undiffuse.errors import InputError

DEFAULT_SHARE, MOST_HELD_OUT = 0.1, 10_000
FEWEST = 8  # held-out rows that a report compares with
_ROWS, _GROUPS = 1, 3  # what a key is for


@runtime_checkable
class Split(Protocol):
    """Rows of the source, by their place on one of the two sides."""

    wanted: int
    n_held_out: int
    notes: tuple[str, ...]

    def held_out(self, positions: np.ndarray) -> np.ndarray:
        """Return which rows of the source the held-out rows at these positions are."""
        ...

    def training(self, positions: np.ndarray) -> np.ndarray:
        """Return which rows of the source the training rows at these positions are."""
        ...

    def holds_out(self, indices: np.ndarray) -> np.ndarray:
        """Return whether each of these rows of the source is held out."""
        ...


@final
class SplitByRows:
    """`n_held_out` of `n` rows, drawn with `seed`."""

    def __init__(self, n: int, n_held_out: int, seed: int, notes: tuple[str, ...] = ()) -> None:
        self.n = n
        self.wanted = self.n_held_out = n_held_out
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


@final
class SplitByGroups:
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
        self.wanted = wanted
        self._outside = chosen[group]
        shuffled = permute(np.arange(len(group)), len(group), key(_ROWS, seed))
        self._held_out = shuffled[self._outside[shuffled]]
        self._training = shuffled[~self._outside[shuffled]]
        self.n_held_out = len(self._held_out)
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
    if wanted is None:
        least = FEWEST if n >= 3 * FEWEST else 1
        rows = int(np.clip(round(DEFAULT_SHARE * n), least, MOST_HELD_OUT))
    else:
        rows = max(1, round(wanted * n)) if isinstance(wanted, float) else int(wanted)
        if wanted <= 0 or rows >= n:
            raise InputError(
                f"held_out {wanted}: of {n:,} rows this leaves none on one side; "
                "give a share between 0 and 1, or a smaller number of rows."
            )
    if groups is None:
        return SplitByRows(n, rows, seed)
    if np.all(groups == groups[0]):
        note = (
            f"{name}: all rows have one origin, so those held out tell less of new data than usual."
        )
        return SplitByRows(n, rows, seed, notes=(note,))
    return SplitByGroups(groups, rows, seed)

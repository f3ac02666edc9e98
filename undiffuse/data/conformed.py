"""Rows of a new source in the stored type of a run: their names, and what is wrong with some."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

import numpy as np

from undiffuse.data.conditions import Vectors
from undiffuse.data.rows import ByRow, as_tensor
from undiffuse.interfaces import Rows


@final
@dataclass(frozen=True)
class Problem:
    """What is wrong with a row.

    Args:
        nats: its score, NaN where that cannot be told; None: what the model gives it.
        reason: for the person who scores it.

    >>> Problem.unreadable().reason
    'could not be read'
    """

    nats: float | None
    reason: str

    @staticmethod
    def unreadable(reason: str = "") -> Problem:
        """Return the problem of a row that cannot be read."""
        return Problem(math.nan, "could not be read" + (f": {reason}" if reason else ""))

    @staticmethod
    def unseen(reason: str) -> Problem:
        """Return the problem of a row with a value that no training row has."""
        return Problem(None, reason)


Taken = tuple[np.ndarray, dict[int, Problem]]
"""Rows (B, ...) in the run's stored type, and the problems of some, by their place among the B."""


@runtime_checkable
class Readable(Protocol):
    """Rows by number. A row that has a problem is filled with one that can be encoded."""

    def take(self, indices: np.ndarray) -> Taken:
        """Return the rows at these positions, and their problems."""
        ...


@final
class CheckedRows:
    """Rows whose problems are known before they are taken.

    Args:
        rows: the rows.
        problems: what is wrong, by the number of the row.
        dtype: the type that they are converted to, if it is not theirs.
    """

    def __init__(
        self, rows: Rows, problems: Mapping[int, Problem] | None = None, dtype: Any = None
    ) -> None:
        self.rows, self.problems, self.dtype = rows, problems or {}, dtype

    def take(self, indices: np.ndarray) -> Taken:
        """See `Readable`."""
        rows = self.rows.take(indices)
        numbers = enumerate(indices.tolist() if self.problems else ())
        problems = {i: self.problems[row] for i, row in numbers if row in self.problems}
        return (rows if self.dtype is None else rows.astype(self.dtype)), problems


@final
class WithProblems:
    """Rows of another, some of which have further problems, by the number of the row."""

    def __init__(self, readable: Readable, problems: Mapping[int, Problem]) -> None:
        self.readable, self.problems = readable, problems

    def take(self, indices: np.ndarray) -> Taken:
        """See `Readable`."""
        rows, found = self.readable.take(indices)
        own = {i: self.problems[n] for i, n in enumerate(indices.tolist()) if n in self.problems}
        return rows, {**found, **own}


@final
class Conformed:
    """The rows of a source, in its order and in a run's stored type; made by `conform`.

    Args:
        readable: the rows.
        names: what each is called: a number, a file, a recording and where in it the window begins.
        name: what the source is called.
        fingerprint: changes when the source changes.
        labels: (N,) indices into the run's classes, -1 where the class is none of them; or None.
        vector: (N, v) the condition vector of each row; None: not known of any.
        groups: (N,) numbers of what the rows are parts of, such as recordings; None: of nothing.
        notes: what was changed, one sentence each.
    """

    def __init__(
        self,
        readable: Readable,
        names: Sequence[Any],
        *,
        name: str,
        fingerprint: str,
        labels: np.ndarray | ByRow | None = None,
        vector: np.ndarray | Vectors | ByRow | None = None,
        groups: np.ndarray | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.readable = readable
        self.names = names
        self.name = name
        self.fingerprint = fingerprint
        self.labels = labels
        self.vector = vector
        self.groups = groups
        self.notes = notes

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.names)

    def only(self, indices: np.ndarray) -> Conformed:
        """Return the rows at these positions alone."""
        return Conformed(
            _Subset(self.readable, indices),
            [self.names[i] for i in indices],
            name=self.name,
            fingerprint=self.fingerprint,
            labels=None if self.labels is None else self.labels[indices],
            vector=self._vector_of(indices),
            groups=None if self.groups is None else self.groups[indices],
            notes=self.notes,
        )

    def _vector_of(self, indices: np.ndarray) -> np.ndarray | Vectors | None:
        vector = self.vector
        if isinstance(vector, Vectors):
            return vector.only(indices)
        return None if vector is None else vector[indices]

    def batches(self, size: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the rows in order, `size` at a time, from row `start` on.

        Yields:
            {"row": (size, ...), "problems": {place in the batch: Problem}}, "label" (size,) int64
            where the source has classes that are the run's, and "vector" (size, v) float32 where it
            has conditions that are.
        """
        for first in range(start, len(self), size):
            indices = np.arange(first, min(first + size, len(self)))
            rows, problems = self.readable.take(indices)
            batch: dict[str, Any] = {"row": as_tensor(rows), "problems": problems}
            if self.labels is not None:
                batch["label"] = as_tensor(self.labels[indices])
            if self.vector is not None:
                batch["vector"] = as_tensor(self.vector[indices])
            yield batch


@final
class _Subset:
    """Some of the rows of another."""

    def __init__(self, readable: Readable, indices: np.ndarray) -> None:
        self.readable, self.indices = readable, indices

    def take(self, indices: np.ndarray) -> Taken:
        return self.readable.take(self.indices[indices])

"""Rows of a new source in the stored type of a run: what they are called, and what is wrong with some of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

import numpy as np

from undiffuse.data.rows import as_tensor


@dataclass(frozen=True)
class Problem:
    """Why a row has no finite score: `nats` is minus infinity where it has no probability, NaN where nobody can tell.

    >>> Problem.unreadable().reason
    'could not be read'
    """

    nats: float
    reason: str

    @staticmethod
    def unreadable(reason: str = "") -> Problem:
        """Of a row that cannot be read."""
        return Problem(math.nan, "could not be read" + (f": {reason}" if reason else ""))

    @staticmethod
    def impossible(reason: str) -> Problem:
        """Of a row that the run's model gives no probability."""
        return Problem(-math.inf, reason)


Taken = tuple[np.ndarray, dict[int, Problem]]
"""Rows (B, ...) in the run's stored type, and what is wrong with some of them, by their place among the B."""


@runtime_checkable
class Readable(Protocol):
    """Rows by number, some of which may have a problem; such a row is filled with one that can be encoded."""

    def take(self, indices: np.ndarray) -> Taken: ...


@final
class Conformed:
    """The rows of a source, in its order and in a run's stored type; made by `conform`.

    `names` says what each row is called: a number, a file, a recording and where in it the window begins. `labels`
    (N,) are indices into the run's classes, -1 where the class is none of them, or None.
    """

    def __init__(
        self,
        readable: Readable,
        names: Sequence[Any],
        *,
        name: str,
        fingerprint: str,
        labels: np.ndarray | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.readable = readable
        self.names = names
        self.name = name
        self.fingerprint = fingerprint
        self.labels = labels
        self.notes = notes

    def __len__(self) -> int:
        return len(self.names)

    def only(self, indices: np.ndarray) -> Conformed:
        """The rows at these positions."""
        return Conformed(
            _Chosen(self.readable, indices),
            [self.names[i] for i in indices],
            name=self.name,
            fingerprint=self.fingerprint,
            labels=None if self.labels is None else self.labels[indices],
            notes=self.notes,
        )

    def batches(self, size: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """{"row": (size, ...), "problems": {place in the batch: Problem}} from row `start` to the last, in order; and
        "label" (size,) int64 where the source has classes that are the run's.
        """
        for first in range(start, len(self), size):
            indices = np.arange(first, min(first + size, len(self)))
            rows, problems = self.readable.take(indices)
            batch: dict[str, Any] = {"row": as_tensor(rows), "problems": problems}
            if self.labels is not None:
                batch["label"] = as_tensor(self.labels[indices])
            yield batch


@final
class _Chosen:
    """Some of the rows of another."""

    def __init__(self, readable: Readable, indices: np.ndarray) -> None:
        self.readable, self.indices = readable, indices

    def take(self, indices: np.ndarray) -> Taken:
        return self.readable.take(self.indices[indices])

"""What every reader hands over, whatever it read: rows that can be taken by number, and what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from undiffuse.models.base import Transform

Progress = Callable[[int, int, str], None]
"""`progress(done, total, what)`: called now and then by work that can last."""


@runtime_checkable
class Rows(Protocol):
    """Random access to rows, from memory or from disk; `take` is the only way data is read."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The rows (B, ...) at these positions, in their stored type, as a fresh array."""
        ...


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The result of reading one source. `make_transform` is called once, with the training rows in chunks, so that
    nothing is measured on held-out rows; it may iterate more than once by calling its argument again.
    """

    rows: Rows
    form: Any  # how rows are presented and written: see `forms.py`
    make_transform: Callable[[Callable[[], Iterator[np.ndarray]]], Transform]
    name: str
    path: str | None  # absolute, None for data that came as an object
    fingerprint: str  # changes when the data changes
    labels: np.ndarray | None = None  # (N,) int64, an index into classes
    classes: tuple[str, ...] = ()
    groups: np.ndarray | None = (
        None  # (N,) int64: rows of one group are held out together, or trained on together
    )
    notes: tuple[str, ...] = ()  # one sentence each: what was skipped, resized, left out
    facts: dict[str, Any] = field(default_factory=dict)  # plain data for `undiffuse info`

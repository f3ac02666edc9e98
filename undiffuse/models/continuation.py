"""Series longer than the rows of training, by windows that overlap.

The first window is a sample; each next one is drawn given the last half of what is there:

    x[0 : L] ~ p(x),    x[a + L/2 : a + L] ~ p(x[L/2 : L] | x[0 : L/2] = x[a : a + L/2])

for a = L/2, L, ... Nothing is blended, so there is no seam: what is known comes back as it was. For
a process that is stationary, and whose future depends on its last L/2 steps alone, the law is that
of the process as far as the model knows it.
"""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows
from undiffuse.room import check_room
from undiffuse.seeds import mix


@runtime_checkable
class Continuing(Protocol):
    """A model that completes rows."""

    completes: bool
    transform: Any

    def sample_rows(self, n: int, **options: Any) -> np.ndarray:
        """Return samples, or completions of rows."""
        ...

    def vectors_of(self, where: Any) -> Tensor | None:
        """Return what is asked for as vectors."""
        ...

    def sample_conditions(
        self, n: int, *, label: Any = None, vector: Any = None, seed: int = 0, first: int = 0
    ) -> dict[str, Tensor]:
        """Return the conditions of samples by name."""
        ...


def windows(model: Continuing, length: int) -> int:
    """Return how many windows make series of `length` steps.

    Raises:
        InputError: for rows that are no series or cannot begin anywhere, a model that does not
            complete rows or was trained without gaps, and a length below that of a row.
    """
    transform, problem = model.transform, ""
    axes, shape = getattr(transform, "axes", ""), transform.shape
    if "T" not in axes or len(shape) != 2:
        problem = "the rows are no series; leave it out."
    elif shape[1] < 2:
        problem = "rows of one step cannot be continued; leave it out."
    elif not model.completes:
        problem = "this model draws whole rows only; leave it out."
    elif not getattr(model, "gaps", 0):
        problem = "the run was trained without gaps; train one with --gaps 0.25."
    elif transform.by_step:
        problem = (
            "the data change along the steps of a row, so rows begin at a time of their own and "
            "are not continued; leave it out."
        )
    elif length < shape[1]:
        problem = f"a row has {shape[1]:,} steps; give at least as many, or leave it out."
    if problem:
        raise InputError(f"length {length}: {problem}")
    return 1 + math.ceil((length - shape[1]) / (shape[1] - shape[1] // 2))


def continued(model: Continuing, n: int, length: int, **options: Any) -> np.ndarray:
    """Return `n` series of `length` steps, of which the first window is what `sample_rows` gives.

    Args:
        model: of series, trained with gaps.
        n: how many.
        length: steps of each.
        options: as for `sample_rows`, but `given`.

    Raises:
        InputError: as `windows` and `sample_rows` do.
    """
    count, seed = windows(model, length), options.pop("seed", 0)
    transform = model.transform
    time, size = transform.axes.index("T") + 1, transform.shape[1]
    own = {name: options.get(name) for name in ("label", "vector")}
    if options.get("where") is not None:
        own["vector"] = model.vectors_of(options["where"])
    rows = model.sample_rows(n, seed=seed, **options)
    check_room(rows.nbytes * 2.0 * length / size, f"series of {length:,} steps", "draw fewer")
    conditions = model.sample_conditions(len(rows), seed=seed, first=options.get("first", 0), **own)
    told = {name: value.numpy() for name, value in conditions.items()}
    options = {k: v for k, v in options.items() if k not in ("label", "vector", "where")}
    parts, kept = [np.moveaxis(rows, time, 1)], size // 2
    for number in range(1, count):
        last = np.moveaxis(parts[-1][:, -kept:], 1, time)  # a part has at least half a row
        given = _given(last, rows.shape, time, told)
        drawn = model.sample_rows(1, given=given, seed=mix(seed, number), **options)
        parts.append(np.moveaxis(drawn, time, 1)[:, kept:])
    whole = np.concatenate(parts, 1)[:, :length]
    return np.ascontiguousarray(np.moveaxis(whole, 1, time))


def _given(
    last: np.ndarray, shape: tuple[int, ...], time: int, told: dict[str, np.ndarray]
) -> PartialRows:
    """Rows that begin with the last steps of others, and have their conditions."""
    rows, known = np.zeros(shape, last.dtype), np.zeros(shape, bool)
    start = (*[slice(None)] * time, slice(last.shape[time]))
    known[start] = last == last  # NaN is no value
    rows[start] = np.where(known[start], last, 0)
    return PartialRows(rows, known, vector=told.get("vector"), label=told.get("label"))

"""Arrays as rows of a run: new ones, and ones of which some entries are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from undiffuse.data.arrays.files import array_in
from undiffuse.data.arrays.objects import to_array
from undiffuse.data.arrays.transform import ArrayTransform
from undiffuse.data.conditions import Conditions
from undiffuse.data.conformed import Conformed, Problem, Taken
from undiffuse.data.labels import match_classes
from undiffuse.data.load import read, recorded_reading
from undiffuse.data.maps import names_of
from undiffuse.data.paths import name_of
from undiffuse.data.rows import Loaded, as_tensor, chunk_indices, chunk_length
from undiffuse.data.source import Data
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows, Progress, Rows
from undiffuse.options import ReadingOptions


def conform_rows(
    source: Any,  # whatever `undiffuse.load` takes but a folder
    config: Mapping[str, Any],
    transform: ArrayTransform,
    classes: tuple[str, ...],
    progress: Progress | None,
) -> Conformed:
    """Return the rows of a source, converted to a run's type where that loses nothing.

    Args:
        source: anything but a folder.
        config: the run's config["data"].
        transform: the run's.
        classes: the names of the run's classes.
        progress: is told how many values have been checked.

    Raises:
        InputError: a table, rows of another shape, or values that the run's type does not hold.
    """
    loaded = source.loaded if isinstance(source, Data) else _read(source, config, progress)
    if loaded.form.column_sizes:
        raise InputError(
            f"{loaded.name}: this is a table, and the run was trained on arrays; "
            "give rows like those."
        )
    own = loaded.rows.take(np.arange(1))
    shape = tuple(transform.row_shape)
    if own.shape[1:] != shape:
        single = (len(loaded.rows), *own.shape[1:]) == shape
        advice = "for one row alone, give an array of one row" if single else "reshape them"
        raise InputError(
            f"{loaded.name}: its rows have shape {own.shape[1:]}, those of the run {shape}; "
            f"{advice}."
        )
    _refuse_gaps(loaded, transform)
    guess = f"{loaded.name}: {loaded.facts.get('axes')}."
    allowed = _Allowed(np.dtype(transform.dtype), transform.levels)
    if not allowed.holds(own.dtype):
        _refuse_others(loaded.rows, allowed, loaded.name, progress)
    own = Conditions.restore(config)
    vector, notes = own.vector(loaded.given, loaded.maps) if own else (None, ())
    return Conformed(
        _Cast(loaded.rows, transform),
        loaded.names or range(len(loaded.rows)),
        name=loaded.name,
        fingerprint=loaded.fingerprint,
        labels=match_classes(_labels(loaded), loaded.classes, classes),
        vector=vector,
        notes=(*(note for note in loaded.notes if note != guess), *notes),  # its axes are the run's
    )


def _labels(loaded: Loaded) -> np.ndarray | None:
    """The classes of all rows."""
    labels = loaded.labels
    if labels is None or isinstance(labels, np.ndarray):
        return labels
    return labels[np.arange(len(loaded.rows))]


def _read(source: Any, config: Mapping[str, Any], progress: Progress | None) -> Loaded:
    """Read new rows, and what stands beside them by the run's names, if they have it."""
    seed, names = config.get("split", {}).get("seed", 0), recorded_reading(config).condition
    names = names_of(names)  # arrays in files stand beside other rows
    if names and (isinstance(source, tuple) or Path(str(source)).suffix.lower() == ".npz"):
        with suppress(InputError):
            return read(source, seed, ReadingOptions(condition=names), progress)
    return read(source, seed, progress=progress)


def complete_rows(source: Any, transform: ArrayTransform) -> PartialRows:
    """Return rows in which NaN stands for an unknown entry.

    Args:
        source: the Path of a .npy, .npz or HDF5 file, an array or a tensor: one row, or several.
        transform: the run's.

    Raises:
        InputError: another shape, no numbers, or a known value that the run's data could not hold.
    """
    name = name_of(source) if isinstance(source, Path) else "given"
    values = array_in(source) if isinstance(source, Path) else to_array(source)
    shape = tuple(transform.row_shape)
    values = values[None] if values.shape == shape else values
    if values.shape[1:] != shape or len(values) == 0:
        raise InputError(
            f"{name}: its shape is {values.shape}, and a row of the run has {shape}; "
            "give such rows."
        )
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"{name}: values of type {values.dtype} are no numbers; "
            "give floats, with NaN for unknown."
        )
    known = ~np.isnan(values)
    filled = np.where(known, values, values.dtype.type(0))
    allowed = _Allowed(np.dtype(transform.dtype), transform.levels)
    wrong = allowed.others(filled)
    if wrong.any():
        row, *rest = np.argwhere(wrong)[0].tolist()
        raise InputError(
            f"{name}: holds {values[(row, *rest)]} at position {tuple(rest)} of row {row}, and the "
            f"run's data are {allowed.description}; correct it, or make it NaN to have it drawn."
        )
    return PartialRows(filled.astype(allowed.dtype), known)


@final
class _Cast:
    """Rows of another numeric type, converted; a problem where what was constant is not."""

    def __init__(self, rows: Rows, transform: ArrayTransform) -> None:
        self.rows, self.transform = rows, transform

    def take(self, indices: np.ndarray) -> Taken:
        rows = self.rows.take(indices).astype(self.transform.dtype)
        part = "channel" if len(self.transform.layout) > 1 else "column"
        problems: dict[int, Problem] = {}
        if self.transform.gaps:
            for row in self.transform.missing_elsewhere(as_tensor(rows)).nonzero()[:, 0].tolist():
                rows[row] = np.nan_to_num(rows[row])
                problems[row] = Problem(math.nan, "a value is missing where none was in training")
        differs = self.transform.differs(as_tensor(rows)).nonzero().tolist()
        for row, k in differs:
            place = self.transform.constant[k]
            reason = f"{part} {place}: all training rows hold {self.transform.low[place]} there"
            problems.setdefault(row, Problem.unseen(reason))
        return rows, problems


@final
@dataclass(frozen=True)
class _Allowed:
    """The values that rows of a run can have: those of a type, or the levels of images."""

    dtype: np.dtype
    levels: int | None

    @property
    def ends(self) -> tuple[int | float, int | float]:
        """The least and the greatest of them."""
        if self.dtype.kind == "f":
            limit = np.finfo(self.dtype)
            return float(limit.min), float(limit.max)
        if self.dtype.kind == "b":
            return 0, 1
        limit = np.iinfo(self.dtype)
        return (0, self.levels - 1) if self.levels else (int(limit.min), int(limit.max))

    @property
    def description(self) -> str:
        low, high = self.ends
        if self.dtype.kind == "f":
            return f"numbers up to {high:g}"
        return f"whole numbers from {low:,} to {high:,}"

    def holds(self, other: np.dtype) -> bool:
        """Return whether every value of another type is allowed, so that none needs a look."""
        (low, high), (least, greatest) = self.ends, _Allowed(other, None).ends
        fractions = other.kind == "f" and self.dtype.kind != "f"
        return low <= least and greatest <= high and not fractions

    def others(self, values: np.ndarray) -> np.ndarray:
        """Return where the values are not allowed."""
        low, high = self.ends
        wrong = (values < low) | (values > high)
        return wrong if self.dtype.kind == "f" else wrong | (values != np.rint(values))


def _refuse_gaps(loaded: Loaded, transform: ArrayTransform) -> None:
    """Raise InputError for NaN where the training rows had none at all."""
    if (missing := loaded.facts.get("missing")) and not transform.gaps:
        values = "value is" if missing == 1 else "values are"
        first = next(
            int(indices[np.isnan(rows).any(tuple(range(1, rows.ndim)))][0])
            for indices in chunk_indices(loaded.rows)
            if np.isnan(rows := loaded.rows.take(indices)).any()
        )
        raise InputError(
            f"{loaded.name}: {missing:,} {values} NaN, the first in row {first}, and none was in "
            "training; fill them, or complete the rows with sample --given."
        )


def _refuse_others(rows: Rows, allowed: _Allowed, name: str, progress: Progress | None) -> None:
    """Raise InputError for values that are not allowed, with their count and the first."""
    count, first, length = 0, "", chunk_length(rows)
    for start in range(0, len(rows), length):
        chunk = rows.take(np.arange(start, min(start + length, len(rows))))
        wrong = allowed.others(chunk)
        if wrong.any() and not first:
            row, *rest = np.argwhere(wrong)[0].tolist()
            where = f" at position {tuple(rest)}" if rest else ""
            first = f"{chunk[(row, *rest)]} in row {start + row}{where}"
        count += int(wrong.sum())
        if progress:
            progress(min(start + length, len(rows)), len(rows), f"checking {name}")
    if count:
        values = "value is" if count == 1 else "values are"
        raise InputError(
            f"{name}: {count:,} {values} unlike the run's, which are {allowed.description}: "
            f"the first is {first}."
        )

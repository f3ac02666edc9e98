"""Rows that are arrays already, as rows of a run: new ones, and ones of which some entries are known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from undiffuse.data.arrays.objects import to_array
from undiffuse.data.conformed import Conformed, Taken
from undiffuse.data.labels import match_classes
from undiffuse.data.load import read
from undiffuse.data.rows import chunk_length
from undiffuse.data.source import Data
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows, Progress, Rows

_KEYS = ("data", "x", "images", "arr_0")  # of an .npz archive


def conform_rows(
    source: Any,
    config: Mapping[str, Any],
    transform: Any,
    form: Any,
    classes: tuple[str, ...],
    progress: Progress | None,
) -> Conformed:
    """Return the rows of a source other than a folder, converted to the run's type where that loses nothing."""
    if isinstance(source, Data):
        loaded = source.loaded
    else:
        loaded = read(source, config.get("split", {}).get("seed", 0), None, progress)
    if loaded.form.column_sizes:
        raise InputError(
            f"{loaded.name}: this is a table, and the run was trained on arrays; give rows like those."
        )
    own = loaded.rows.take(np.arange(1))
    shape = tuple(transform.row_shape)
    if own.shape[1:] != shape:
        hint = (
            "; for one row alone, give an array of one row"
            if (len(loaded.rows), *own.shape[1:]) == shape
            else ""
        )
        raise InputError(
            f"{loaded.name}: its rows have shape {own.shape[1:]}, those of the run {shape}{hint or '; reshape them'}."
        )
    dtype = np.dtype(form.dtype)
    low, high = _range(dtype, transform.levels)
    if not _fits(own.dtype, dtype, low, high):
        _refuse_others(loaded.rows, dtype, (low, high), loaded.name, progress)
    return Conformed(
        _Cast(loaded.rows, dtype),
        loaded.names or range(len(loaded.rows)),
        name=loaded.name,
        fingerprint=loaded.fingerprint,
        labels=match_classes(loaded.labels, loaded.classes, classes),
        notes=loaded.notes,
    )


def complete_rows(source: Any, transform: Any, form: Any) -> PartialRows:
    """Return rows from a .npy or .npz file or an array, NaN where an entry is unknown."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return _array(_numpy(path), path.name, transform, form)
    return _array(to_array(source), "given", transform, form)


def _numpy(path: Path) -> np.ndarray:
    try:
        with open(path, "rb") as stream:
            found = np.load(stream, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            key = next((key for key in _KEYS if key in found.files), found.files[0])
            return found[key]
    except (ValueError, EOFError, OSError, IndexError) as problem:
        raise InputError(
            f"{path.name}: could not be read as an array ({problem}); write it with numpy.save."
        ) from None


def _array(values: np.ndarray, name: str, transform: Any, form: Any) -> PartialRows:
    """NaN is unknown; the rest as the run's type."""
    shape = tuple(transform.row_shape)
    values = values[None] if values.shape == shape else values
    if values.shape[1:] != shape or len(values) == 0:
        raise InputError(
            f"{name}: its shape is {values.shape}, and a row of the run has {shape}; give such rows."
        )
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"{name}: values of type {values.dtype} are no numbers; give floats, with NaN for unknown."
        )
    known = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    dtype = np.dtype(form.dtype)
    filled = np.where(known, values, values.dtype.type(0))
    wrong = ~np.isfinite(filled)
    what = f"numbers that {dtype} holds"
    if dtype.kind == "f":
        wrong |= np.abs(filled) > np.finfo(dtype).max
    else:
        limit = np.iinfo(dtype) if dtype.kind in "iu" else None
        low, high = (0, 1) if limit is None else (int(limit.min), int(limit.max))
        low, high = (0, transform.levels - 1) if transform.levels else (low, high)
        what = f"whole numbers from {low:,} to {high:,}"
        wrong |= (filled != np.rint(filled)) | (filled < low) | (filled > high)
    if wrong.any():
        row, *rest = np.argwhere(wrong)[0].tolist()
        raise InputError(
            f"{name}: holds {values[(row, *rest)]} at position {tuple(rest)} of row {row}, and the run's data "
            f"are {what}; correct it, or make it NaN to have it drawn."
        )
    return PartialRows(filled.astype(dtype), known)


@final
class _Cast:
    """Rows of another numeric type, converted."""

    def __init__(self, rows: Rows, dtype: np.dtype) -> None:
        self.rows, self.dtype = rows, dtype

    def take(self, indices: np.ndarray) -> Taken:
        return self.rows.take(indices).astype(self.dtype), {}


def _range(dtype: np.dtype, levels: int | None) -> tuple[int | float, int | float]:
    """The least and the greatest value that rows of the run can have."""
    if dtype.kind == "f":
        return -float(np.finfo(dtype).max), float(np.finfo(dtype).max)
    if dtype.kind == "b":
        return 0, 1
    limit = np.iinfo(dtype)
    return (0, levels - 1) if levels else (int(limit.min), int(limit.max))


def _fits(own: np.dtype, dtype: np.dtype, low: int | float, high: int | float) -> bool:
    """Whether any value of the type `own` is one of the run's, so that none needs to be looked at."""
    if dtype.kind == "f":
        return own.kind != "f" or own.itemsize <= dtype.itemsize
    least, greatest = _range(own, None)
    return own.kind != "f" and low <= least and greatest <= high


def _refuse_others(
    rows: Rows,
    dtype: np.dtype,
    ends: tuple[int | float, int | float],
    name: str,
    progress: Progress | None,
) -> None:
    """Raise InputError for values that are none of the run's, with their count and the first of them."""
    low, high = ends
    count, first, length = 0, "", chunk_length(rows)
    for start in range(0, len(rows), length):
        chunk = rows.take(np.arange(start, min(start + length, len(rows))))
        wrong = (chunk < low) | (chunk > high)
        if dtype.kind != "f":
            wrong |= chunk != np.rint(chunk)
        if wrong.any() and not first:
            row, *rest = np.argwhere(wrong)[0].tolist()
            where = f" at position {tuple(rest)}" if rest else ""
            first = f"{chunk[(row, *rest)]} in row {start + row}{where}"
        count += int(wrong.sum())
        if progress:
            progress(min(start + length, len(rows)), len(rows), f"checking {name}")
    if count:
        what = (
            f"numbers up to {high:g}"
            if dtype.kind == "f"
            else f"whole numbers from {low:,} to {high:,}"
        )
        values = "value is" if count == 1 else "values are"
        raise InputError(
            f"{name}: {count:,} {values} unlike the run's, which are {what}: the first is {first}."
        )

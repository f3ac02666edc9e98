"""New data for a trained run: the rows of any source in the type that the run stores rows in.

A run has fixed what a row is: a shape and a type, the columns of a table with their grids and categories, the size of
an image, the rate of a recording. New data come to it by the same way as its own did:

    a folder of images       decoded to the run's size and kind of pixels, a batch at a time
    a folder of recordings   brought to the run's rate and channels, cut into windows as the run's were
    a table                  each column coded on the run's grid, or in its categories (`conform_table.py`)
    anything else            rows of the run's shape, converted to its type where that loses nothing

What is structurally different is refused. What is wrong with one row alone is that row's `Problem`: it is left to
others to say so, and to go on with the rest.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from undiffuse.data.conformed import Conformed, Taken
from undiffuse.data.families import describe_part
from undiffuse.data.folder import classes_of, fingerprint, walk
from undiffuse.data.labels import index_labels
from undiffuse.data.load import picture_suffixes, read, restore
from undiffuse.data.loaded import Loaded, Progress, Rows
from undiffuse.data.problem import Problem
from undiffuse.data.recordings.files import SUFFIXES, WHAT, Header, decoded
from undiffuse.data.recordings.windows import Windows
from undiffuse.data.rows import chunk_length
from undiffuse.data.source import Data
from undiffuse.errors import InputError


def conform(
    source: Any, config: Mapping[str, Any], *, progress: Progress | None = None
) -> Conformed:
    """The rows of `source` (anything `ud.load` takes, or a `Data`) as rows of the run whose config's "data" is given.

    Raises InputError for another shape, for values that the run's type does not hold, for NaN and infinite values, for
    columns that are missing or too many, and for values missing where none were in training; a category or a step of a
    grid that training never met is a problem of its row.

    >>> from undiffuse.data import load
    >>> data = load("digits")
    >>> rows = conform(data.held_out, data.config())
    >>> len(rows), next(rows.batches(32))["row"].shape
    (180, torch.Size([32, 8, 8]))
    """
    kind = config["transform"]["kind"]
    if kind == "table":
        from undiffuse.data.tables.conform import conform_table

        return conform_table(source, config, progress)
    if isinstance(source, str | os.PathLike) and os.fspath(source):
        folder = Path(os.path.expanduser(source))
        if folder.is_dir():
            if kind not in _FOLDERS:
                raise InputError(
                    f"{folder.name}/: the run was trained on arrays, not on a folder of files; give those."
                )
            return _FOLDERS[kind](folder.resolve(), config, progress)
    if isinstance(source, Data):
        loaded = source.loaded
    else:
        loaded = read(source, config.get("split", {}).get("seed", 0), None, progress)
    return _conform_rows(loaded, config, progress)


# --- rows that are arrays already


@final
class _Cast:
    """Rows of another numeric type, converted."""

    def __init__(self, rows: Rows, dtype: np.dtype) -> None:
        self.rows, self.dtype = rows, dtype

    def take(self, indices: np.ndarray) -> Taken:
        return self.rows.take(indices).astype(self.dtype), {}


def _conform_rows(
    loaded: Loaded, config: Mapping[str, Any], progress: Progress | None
) -> Conformed:
    transform, form, classes = restore(config)
    if describe_part(loaded.form)["kind"] == "table_form":
        raise InputError(
            f"{loaded.name}: this is a table, and the run was trained on arrays; give rows like those."
        )
    own = loaded.rows.take(np.arange(1))
    shape = _row_shape(config["transform"]["kind"], transform)
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
    low, high = _range(dtype, getattr(transform, "levels", None))
    if not _fits(own.dtype, dtype, low, high):
        _refuse_others(loaded.rows, dtype, (low, high), loaded.name, progress)
    return Conformed(
        _Cast(loaded.rows, dtype),
        range(len(loaded.rows)),
        name=loaded.name,
        fingerprint=loaded.fingerprint,
        labels=_index(loaded.labels, loaded.classes, classes),
        notes=loaded.notes,
    )


def _row_shape(kind: str, transform: Any) -> tuple[int, ...]:
    if kind != "audio":
        return tuple(transform.row_shape)
    return (
        (transform.length,) if transform.channels == 1 else (transform.length, transform.channels)
    )


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


def _index(
    labels: np.ndarray | None, own: Sequence[str], classes: Sequence[str]
) -> np.ndarray | None:
    """The classes of a source as indices into those of the run, by name; -1 for others."""
    if labels is None or not classes:
        return None
    places = {name: i for i, name in enumerate(classes)}
    return np.array([places.get(name, -1) for name in own], dtype=np.int64)[labels]


# --- folders


def _conform_images(
    folder: Path, config: Mapping[str, Any], progress: Progress | None
) -> Conformed:
    from undiffuse.data.images.conform import Pictures

    _, form, classes = restore(config)
    name = f"{folder.name}/"
    pictures = picture_suffixes()
    files = [path for path in walk(folder) if path.suffix.lower() in pictures]
    if not files:
        raise InputError(
            f"{name}: no images are in it, and the run was trained on images; check the path."
        )
    rows = Pictures(files, form, name)
    notes = rows.changes(progress)
    return Conformed(
        rows,
        [str(path.relative_to(folder)) for path in files],
        name=name,
        fingerprint=fingerprint(folder, files),
        labels=_folders_as_labels(folder, files, classes, name, "images"),
        notes=notes,
    )


@final
class _Cut:
    """Windows of recordings; those of a recording that could not be read have a problem."""

    def __init__(self, windows: Windows, unreadable: np.ndarray) -> None:
        self.windows, self.unreadable = windows, unreadable

    def take(self, indices: np.ndarray) -> Taken:
        lost = np.flatnonzero(self.unreadable[indices])
        return self.windows.take(indices), {int(i): Problem.unreadable() for i in lost}


def _conform_recordings(
    folder: Path, config: Mapping[str, Any], progress: Progress | None
) -> Conformed:
    transform, form, classes = restore(config)
    name = f"{folder.name}/"
    files = [path for path in walk(folder) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise InputError(
            f"{name}: no recordings are in it, and the run was trained on recordings; check the path."
        )
    found = decoded(folder, files, progress, Header(form.rate, form.channels, form.dtype))
    kept = dict(zip(found.kept, found.lengths))
    windows = Windows(
        found.samples, tuple(kept.get(i, 0) for i in range(len(files))), transform.length
    )
    begin = (
        windows.starts
        - np.cumsum([0, *(kept.get(i, 0) for i in range(len(files)))])[windows.groups]
    )
    called = [str(path.relative_to(folder)) for path in files]
    labels = _folders_as_labels(folder, files, classes, name, WHAT)
    return Conformed(
        _Cut(windows, np.array([group not in kept for group in windows.groups])),
        [f"{called[group]}@{at / form.rate:.3f}" for group, at in zip(windows.groups, begin)],
        name=name,
        fingerprint=fingerprint(folder, files),
        labels=None if labels is None else labels[windows.groups],
        notes=found.notes,
    )


def _folders_as_labels(
    folder: Path, files: Sequence[Path], classes: Sequence[str], name: str, what: str
) -> np.ndarray | None:
    own, _ = classes_of(folder, files, name, what)
    return _index(*index_labels(own, len(files), name), classes)


_FOLDERS = {"image": _conform_images, "audio": _conform_recordings}

"""Rows of which some entries are known, from the file that a person has them in, for a run to complete.

    a table            empty cells are unknown; so is every column that is left out
    .npy, .npz         NaN is unknown (so whole numbers come as floats); one row, or several along the first axis
    pictures           a PNG or a folder of them; transparent pixels (alpha 0) are unknown
    recordings         a file or a folder; what lies beyond the end of a recording shorter than the run's is unknown

What is known has to be something that the run's data could hold: it comes back unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from undiffuse.data.arrays.objects import to_array
from undiffuse.data.folder import walk
from undiffuse.data.load import picture_suffixes, restore
from undiffuse.data.recordings.files import SUFFIXES, Header, Unreadable, read_samples
from undiffuse.errors import InputError
from undiffuse.models.base import Given

_KEYS = ("data", "x", "images", "arr_0")  # of an .npz archive


def read_given(source: Any, config: Mapping[str, Any]) -> Given:
    """The rows in `source` (a path, an array, a tensor, a frame) for the run whose config's "data" is given.

    Raises InputError for a column that the run does not have, another shape, type, rate or size, and for a known value
    that the run's data could not hold.

    >>> from undiffuse.data import load
    >>> row = np.full((8, 8), np.nan)
    >>> row[:4] = 3
    >>> given = read_given(row, load("digits").config())
    >>> given.rows.dtype, int(given.known.sum())
    (dtype('uint8'), 32)
    """
    kind = config["transform"]["kind"]
    if kind == "table":
        return _table(source, config)
    transform, form, _ = restore(config)
    if isinstance(source, str | os.PathLike):
        path = Path(os.path.expanduser(source))
        if not path.exists():
            raise InputError(f"{source}: no such file or folder; check the path.")
        if path.suffix.lower() not in (".npy", ".npz"):
            if kind not in _FILES:
                raise InputError(
                    f"{path.name}: the run was trained on arrays; give .npy or .npz, with NaN for unknown."
                )
            return _FILES[kind](path, transform, form)
        return _array(_numpy(path), path.name, kind, transform, form)
    return _array(to_array(source), "given", kind, transform, form)


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


def _array(values: np.ndarray, name: str, kind: str, transform: Any, form: Any) -> Given:
    """NaN is unknown; the rest as the run's type."""
    shape = (
        (transform.length, transform.channels)[: 1 + (transform.channels > 1)]
        if kind == "audio"
        else None
    )
    shape = tuple(transform.row_shape) if shape is None else shape
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
        low, high = (0, transform.levels - 1) if hasattr(transform, "levels") else (low, high)
        what = f"whole numbers from {low:,} to {high:,}"
        wrong |= (filled != np.rint(filled)) | (filled < low) | (filled > high)
    if wrong.any():
        row, *rest = np.argwhere(wrong)[0].tolist()
        raise InputError(
            f"{name}: holds {values[(row, *rest)]} at position {tuple(rest)} of row {row}, and the run's data "
            f"are {what}; correct it, or make it NaN to have it drawn."
        )
    return Given(filled.astype(dtype), known)


def _pictures(path: Path, transform: Any, form: Any) -> Given:
    from PIL import Image

    files = _files(path, picture_suffixes(), "images")
    c, h, w = transform.shape
    if c not in (1, 3) or transform.levels > 256:
        raise InputError(
            f"{path.name}: the run's images are not 8-bit grey or RGB; give .npy, with NaN for unknown."
        )
    rows, known = [], []
    for file in files:
        try:
            with Image.open(file) as image:
                rgba = np.asarray(image.convert("RGBA"))
                grey = np.asarray(image.convert("RGBA").convert("RGB").convert("L"))[..., None]
        except Exception as problem:
            raise InputError(
                f"{file.name}: could not be read as an image; repair or remove it."
            ) from problem
        if rgba.shape[:2] != (h, w):
            there, here = f"{rgba.shape[0]} x {rgba.shape[1]}", f"{h} x {w}"
            raise InputError(
                f"{file.name}: is {there} (height x width), and the run's images are {here}; resize it."
            )
        pixels = np.rint((grey if c == 1 else rgba[..., :3]) / 255 * (transform.levels - 1))
        rows.append(_as_row(pixels.astype(form.dtype), form.channel_axis))
        known.append(_as_row(np.repeat(rgba[..., 3:] > 0, c, 2), form.channel_axis))
    return Given(np.stack(rows), np.stack(known))


def _as_row(pixels: np.ndarray, channel_axis: int | None) -> np.ndarray:
    return pixels[..., 0] if channel_axis is None else np.moveaxis(pixels, -1, channel_axis)


def _recordings(path: Path, transform: Any, form: Any) -> Given:
    shape = (transform.length, transform.channels)
    files = _files(path, SUFFIXES, "recordings")
    rows, known = np.zeros((len(files), *shape), form.dtype), np.zeros((len(files), *shape), bool)
    for i, file in enumerate(files):
        try:
            samples = read_samples(file, Header(form.rate, form.channels, form.dtype))
        except Unreadable as problem:
            raise InputError(
                f"{file.name}: could not be read ({problem or 'damaged'}); repair or remove it."
            ) from problem
        if len(samples) > transform.length:
            raise InputError(
                f"{file.name}: has {len(samples):,} samples at {form.rate:,} Hz, and the run's windows "
                f"{transform.length:,}; cut it."
            )
        rows[i, : len(samples)], known[i, : len(samples)] = samples, True
    return Given(rows, known) if transform.channels > 1 else Given(rows[..., 0], known[..., 0])


def _files(path: Path, suffixes: Any, what: str) -> list[Path]:
    files = [path] if path.is_file() else walk(path)
    files = [file for file in files if file.suffix.lower() in suffixes]
    if not files:
        raise InputError(
            f"{path.name}: holds no {what}, which the run was trained on; check the path."
        )
    return files


_FILES = {"image": _pictures, "audio": _recordings}


def _table(source: Any, config: Mapping[str, Any]) -> Given:
    """Columns by name, coded as the run's are; see `conform_table.py`."""
    import pyarrow as pa

    from undiffuse.data.tables import read as tables
    from undiffuse.data.tables.column import Column
    from undiffuse.data.tables.conform import _table as arrow_table
    from undiffuse.data.tables.conform import code

    transform, form, _ = restore(config)
    table, where = arrow_table(source)
    table = tables.checked(table, where, [], least=1)
    names = [column["name"] for column in form.columns]
    strange = [name for name in table.column_names if name not in names]
    if strange:
        raise InputError(
            f'{where}: column "{strange[0]}" is one that the run was not trained with; remove it.'
        )
    rows, known = (
        np.empty((table.num_rows, len(names))),
        np.zeros((table.num_rows, len(names)), bool),
    )
    for i, (column, support, field) in enumerate(
        zip(form.columns, transform.columns, form.arrow_schema())
    ):
        rows[:, i] = _any_code(support)
        if column["name"] not in table.column_names:
            continue
        chunks = table.column(column["name"])
        array = chunks.chunk(0) if chunks.num_chunks == 1 else pa.concat_arrays(chunks.chunks)
        here = f'{where}: column "{column["name"]}"'
        lenient = replace(
            Column(**{**column, "categories": tuple(column["categories"])}), missing="null"
        )
        codes, strange_value = code(lenient, array, field.type, here)
        known[:, i] = ~np.isnan(codes)
        strange_value |= known[:, i] & ~_possible(support, codes)
        if strange_value.any():
            row = int(np.flatnonzero(strange_value)[0])
            raise InputError(
                f"{here} holds {array[row].as_py()!r} in row {row + 1:,}, which is none of the values that the run's "
                "data can have; correct it, or leave the cell empty."
            )
        rows[known[:, i], i] = codes[known[:, i]]
    return Given(rows, known)


def _any_code(support: Mapping[str, Any]) -> float:
    """A code that the column can hold."""
    return {"constant": lambda: support["value"], "levels": lambda: support["values"][0]}.get(
        support["code"], lambda: support["low"]
    )()


def _possible(support: Mapping[str, Any], codes: np.ndarray) -> np.ndarray:
    """Which codes the column can hold: its levels, or any number in its range."""
    if support["code"] == "number":
        low, high = (
            min([support["low"], *support["atoms"]]),
            max([support["high"], *support["atoms"]]),
        )
        return (codes >= low) & (codes <= high)
    return np.isin(codes, np.array(support.get("values", [support.get("value")]), dtype=np.float64))

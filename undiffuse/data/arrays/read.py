"""Arrays of any shape and numeric type: what is refused, and how a row is laid out for the model.

    (N,)                                                 a vector of one column
    (N, D)                                               a vector of D columns
    uint8, uint16 (N, H, W), (N, H, W, C), (N, C, H, W)  an image, C = 1, 2, 3 or 4
    (N, a, b), a at most 16 and b at least 4 a           a sequence of a channels and length b
    (N, a, b) otherwise                                  a grid with one channel
    (N, H, W, C), C = 1, 3 or 4, H and W at least 8      a grid with its channels last
    (N, C, H, W) otherwise                               a grid with its channels first
    five and more dimensions                             a grid: all but the last two are channels

Whatever the layout, rows come back in the shape and type they had.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NoReturn

import numpy as np

from undiffuse.data.arrays.form import ArrayForm
from undiffuse.data.arrays.transform import measure_array
from undiffuse.data.images.form import ImageForm, image_transform
from undiffuse.data.labels import index_labels
from undiffuse.data.rows import ArrayRows, Loaded, MakeTransform, chunks, fingerprint
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress


def from_array(
    array: np.ndarray,
    *,
    name: str,
    path: str | None = None,
    labels: Any = None,  # whatever `index_labels` takes
    classes: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> Loaded:
    """Return an array as data.

    Args:
        array: rows (N, ...) in memory or memory-mapped.
        name: what the data is called in messages.
        path: what `load` takes to read it again, if anything.
        labels: one for each row, or None.
        classes: names of the classes 0, 1, ... if they are known.
        notes: sentences for the user, passed on.
        progress: is told how many values have been checked.

    Raises:
        InputError: a type that is no real number, no rows, rows without values, NaN or infinite
            values, or labels that do not fit; from its `make_transform`, values that are all the
            same.
    """
    _check_type(array, name)
    rows = ArrayRows(array)
    low, high = _check_values(rows, name, progress)
    index, classes = index_labels(labels, len(rows), name, classes)
    kind, as_rows = ("images", _as_images) if _is_image(array) else ("arrays", _as_grids)
    form, make_transform = as_rows(array.shape[1:], rows.dtype, low, high, name)
    if low == high and len(rows) > 1:
        make_transform = partial(_refuse_constant, name, low)
    return Loaded(
        kind=kind,
        rows=rows,
        form=form,
        make_transform=make_transform,
        name=name,
        path=path,
        fingerprint=fingerprint(array, index),
        labels=index,
        classes=classes,
        notes=notes,
        facts={
            "row_shape": list(array.shape[1:]),
            "dtype": rows.dtype.name,
            "least": low.item(),
            "greatest": high.item(),
        },
    )


def _refuse_constant(name: str, value: np.generic, training_chunks: object) -> NoReturn:
    raise InputError(f"{name}: every value is {value}; there is nothing to learn.")


def _as_images(
    row_shape: tuple[int, ...], dtype: np.dtype, low: Any, high: Any, name: str
) -> tuple[ImageForm, MakeTransform]:
    axis = None if len(row_shape) == 2 else -1 if row_shape[-1] <= 4 else 0
    bits = 8 * dtype.itemsize
    # Masks, quantized and 12-bit images use less than half of their type: their range is the grid.
    levels = 2**bits if int(high) >= 2 ** (bits - 1) else int(high) + 1
    form = ImageForm(row_shape=row_shape, channel_axis=axis, levels=levels, dtype=dtype.name)
    return form, lambda _: image_transform(form)


def _as_grids(
    row_shape: tuple[int, ...], dtype: np.dtype, low: Any, high: Any, name: str
) -> tuple[ArrayForm, MakeTransform]:
    layout, channels_last = layout_of(row_shape)
    form = ArrayForm(
        row_shape=row_shape,
        layout=layout,
        channels_last=channels_last,
        dtype=dtype.name,
        low=float(low),
        high=float(high),
    )
    return form, lambda training_chunks: measure_array(
        training_chunks(),
        name=name,
        row_shape=row_shape,
        layout=layout,
        channels_last=channels_last,
        dtype=dtype.name,
    )


def layout_of(row_shape: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
    """Return the shape that a model sees, and whether the row's last axis is the channels.

    >>> layout_of((5, 33, 20)), layout_of((32, 32, 3)), layout_of((2, 1000)), layout_of((30, 40))
    (((5, 33, 20), False), ((3, 32, 32), True), ((2, 1000), False), ((1, 30, 40), False))
    """
    match row_shape:
        case ():
            return (1,), False
        case (d,):
            return (d,), False
        case (a, b):
            return ((a, b) if a <= 16 and b >= 4 * a else (1, a, b)), False
        case (h, w, c) if c in (1, 3, 4) and min(h, w) >= 8:
            return (c, h, w), True
        case _:
            return (math.prod(row_shape[:-2]), *row_shape[-2:]), False


def _is_image(array: np.ndarray) -> bool:
    """Return whether these are 8- or 16-bit values with two axes of pixels, at most one other."""
    if array.dtype.newbyteorder("=") not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        return False
    return array.ndim == 3 or (array.ndim == 4 and (array.shape[-1] <= 4 or array.shape[1] <= 4))


def _check_type(array: np.ndarray, name: str) -> None:
    """Raise InputError unless these are real numbers, with a row and a value in it."""
    kind, dtype = array.dtype.kind, array.dtype
    if kind == "c":
        raise InputError(
            f"{name}: complex numbers are not supported; stack their real and imaginary parts."
        )
    if kind == "V" and dtype.names:
        raise InputError(
            f"{name}: it has named fields ({', '.join(dtype.names)}); "
            "save it as a CSV or Parquet table."
        )
    if kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(
            f"{name}: values of type {dtype} are not supported; convert them to integers or floats."
        )
    if array.ndim == 0:
        raise InputError(
            f"{name}: it holds a single number; rows are expected along the first axis."
        )
    if len(array) == 0 or array.size == 0:
        what = (
            "no rows" if len(array) == 0 else f"rows of shape {array.shape[1:]}, without any values"
        )
        raise InputError(f"{name}: it has {what}; there is nothing to learn.")


def _check_values(
    rows: ArrayRows, name: str, progress: Progress | None
) -> tuple[np.generic, np.generic]:
    """Return the least and greatest value. Raises InputError for NaN and infinite values."""
    low = high = rows.take(np.arange(1)).reshape(-1)[0]
    bad, first, seen = 0, "", 0
    for chunk in chunks(rows, progress, f"checking {name}"):
        if chunk.dtype.kind == "f" and not (finite := np.isfinite(chunk)).all():
            bad += int((~finite).sum())
            first = first or _place(np.argwhere(~finite)[0], seen)
        low, high = min(low, chunk.min()), max(high, chunk.max())
        seen += len(chunk)
    if bad:
        values = "value is" if bad == 1 else "values are"
        raise InputError(
            f"{name}: {bad:,} {values} NaN or infinite, the first in {first}; "
            "remove or replace them."
        )
    if rows.dtype.kind == "u" and int(high) >= 2**63:
        raise InputError(
            f"{name}: the whole number {high} needs 64 bits without a sign; convert to floats."
        )
    return low, high


def _place(position: np.ndarray, offset: int) -> str:
    row, *rest = position.tolist()
    return f"row {row + offset}" + (f" at position {tuple(rest)}" if rest else "")

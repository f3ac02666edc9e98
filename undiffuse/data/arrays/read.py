"""Arrays of any shape and numeric type: what is refused, and how a row is laid out for the model.

    (N,)                                                 a vector of one column
    (N, D)                                               a vector of D columns
    uint8, uint16 (N, H, W), (N, H, W, C), (N, C, H, W)  an image, C = 1, 2, 3 or 4
    (N, a, b), a at most 16 and b at least 4 a           a sequence of a channels and length b
    (N, a, b), b at most 16 and a at least 4 b           a sequence of b channels and length a
    (N, a, b) otherwise                                  a grid with one channel
    (N, H, W, C), C smaller than H and W                 a grid with its channels last
    (N, C, H, W) otherwise                               a grid with its channels first
    five and more dimensions                             grids with channels as of the last three,
                                                         for each index of those before

Where one axis holds values of different units (see `features_axis`), that is the channels' axis.
Whatever the layout, rows come back in the shape and type they had, and the layout is a note.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NoReturn

import numpy as np

from undiffuse.data.arrays.form import ArrayForm
from undiffuse.data.arrays.transform import measure_array
from undiffuse.data.images.form import ImageForm, levels_in_use, transform_of_images
from undiffuse.data.labels import index_labels
from undiffuse.data.rows import ArrayRows, Loaded, MakeTransform, chunks, fingerprint
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress

_LOOKED_AT = 4096  # rows, for the axis of the channels
_MOST_FEATURES = 64
_ORDER, _JUMP = 10.0, 3.0  # of standard deviations: in all, and from one index to the next


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
    form, make_transform = as_rows(rows, array.shape[1:], low, high, name)
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
        notes=(*notes, *_layout_note(form, name)),
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
    rows: ArrayRows, row_shape: tuple[int, ...], low: Any, high: Any, name: str
) -> tuple[ImageForm, MakeTransform]:
    axis = None if len(row_shape) == 2 else -1 if row_shape[-1] <= 4 else 0
    levels = levels_in_use(np.array([high]))
    form = ImageForm(row_shape=row_shape, channel_axis=axis, levels=levels, dtype=rows.dtype.name)
    return form, lambda chunks: transform_of_images(chunks, form, name)


def _as_grids(
    rows: ArrayRows, row_shape: tuple[int, ...], low: Any, high: Any, name: str
) -> tuple[ArrayForm, MakeTransform]:
    some = rows.take(np.unique(np.linspace(0, len(rows) - 1, _LOOKED_AT).astype(np.int64)))
    layout, channels_last = layout_of(row_shape, features_axis(some))
    form = ArrayForm(
        row_shape=row_shape,
        layout=layout,
        channels_last=channels_last,
        dtype=rows.dtype.name,
        low=float(low),
        high=float(high),
    )
    return form, lambda training_chunks: measure_array(
        training_chunks(),
        name=name,
        row_shape=row_shape,
        layout=layout,
        channels_last=channels_last,
        dtype=rows.dtype.name,
    )


def layout_of(
    row_shape: tuple[int, ...], features: int | None = None
) -> tuple[tuple[int, ...], bool]:
    """Return the shape that a model sees, and whether the row's last axis is the channels.

    Args:
        row_shape: the shape of a row.
        features: 0 or -1 if the first or the last axis is known to be the channels.

    >>> layout_of((5, 33, 20)), layout_of((32, 32, 13)), layout_of((2, 1000)), layout_of((30, 40))
    (((5, 33, 20), False), ((13, 32, 32), True), ((2, 1000), False), ((1, 30, 40), False))
    >>> layout_of((24, 20), features=-1), layout_of((8, 32, 32, 3))
    (((20, 24), True), ((24, 32, 32), True))
    """
    match row_shape:
        case ():
            return (1,), False
        case (d,):
            return (d,), False
        case (a, b):
            if features == -1 or (features is None and b <= 16 and a >= 4 * b):
                return (b, a), True
            first = features == 0 or (a <= 16 and b >= 4 * a)
            return ((a, b) if first else (1, a, b)), False
        case (*before, h, w, c):
            last = features == -1 or (features is None and _is_channels(h, w, c))
            return ((math.prod(before) * c, h, w) if last else (math.prod(before) * h, w, c)), last
    raise AssertionError(row_shape)


def _is_channels(h: int, w: int, c: int) -> bool:
    """Return whether the last of three axes is the channels of a grid: h x w, not w x c."""
    if (h == w) != (w == c):
        return h == w
    return c < min(h, w)


def features_axis(rows: np.ndarray) -> int | None:
    """Return 0 or -1 if only the first, or the last axis of rows holds values of different units.

    It does if there are at most 64 indices, whose standard deviations are of different orders of
    magnitude, or whose means lie far apart, from one index to the next: along time or space both
    change gradually.

    >>> rows = np.random.default_rng(0).normal(size=(50, 24, 2))
    >>> features_axis(rows), features_axis(rows * [1, 1000]), features_axis(rows + [100, 0])
    (None, -1, -1)
    """
    if rows.ndim < 3:
        return None
    differ = {axis: _differ(np.moveaxis(rows, axis, 0)) for axis in (1, rows.ndim - 1)}
    if differ[1] == differ[rows.ndim - 1]:
        return None
    return 0 if differ[1] else -1


def _differ(values: np.ndarray) -> bool:
    values = values.reshape(len(values), -1).astype(np.float64)
    if not 2 <= len(values) <= _MOST_FEATURES:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = values.mean(1), values.std(1)
        varies = std > 1e-12 * np.abs(values).max(1)
        mean, std = mean[varies], std[varies]
        if len(std) < 2:
            return False
        spread, jump = std.max() / std.min(), np.abs(np.diff(np.log(std))).max()
        apart = np.abs(np.diff(mean)) / np.maximum(std[1:], std[:-1])
    return bool((spread >= _ORDER and jump >= math.log(_JUMP)) or apart.max() >= _ORDER)


def _layout_note(form: ImageForm | ArrayForm, name: str) -> tuple[str, ...]:
    """Return a note on what the axes of rows are taken for, where there are two or more."""
    shape = form.row_shape
    if len(shape) < 2:
        return ()
    if isinstance(form, ImageForm):
        (height, width, channels), axis = form.size, form.channel_axis
        what, last, length = "images", axis == -1, 0 if axis is None else channels
        sides = (height, width)
    else:
        length, *sides = form.layout
        last, what = form.channels_last, "sequences" if len(sides) == 1 else "grids"
        length = 0 if math.prod(shape) == math.prod(sides) and len(shape) == len(sides) else length
    where, advice = ", one number in each place", "move the axes if that is wrong"
    if not length and len(sides) == 2 and not isinstance(form, ImageForm):
        advice = "for {0:,} sequences of {1:,}, make rows of {0:,} x 1 x {1:,}".format(*sides)
    if length:
        axes = "the last" if last else "the first"
        axes += " axis" if len(shape) == len(sides) + 1 else " axis and those before the grid"
        where = f", {length:,} channels ({axes})"
    size = " x ".join(f"{side:,}" for side in sides)
    rows = " x ".join(f"{side:,}" for side in shape)
    return (f"{name}: rows of {rows} are taken for {what} of {size}{where}; {advice}.",)


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

"""Arrays of any shape and numeric type: what is refused, and as what their rows are modelled.

Arrays of uint8 and uint16 whose rows are (H, W), (H, W, C) or (C, H, W) with at most four channels
are images; anything else is a vector, a sequence or a grid (see `axes`). Whatever the axes, rows
come back in the shape and type they had.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, NoReturn

import numpy as np

from undiffuse.data.arrays.axes import SAMPLED, Axes, by_channel, given_axes, infer_axes, layout_of
from undiffuse.data.arrays.form import ArrayForm
from undiffuse.data.arrays.transform import measure_array
from undiffuse.data.conditions import Given, labels_or_conditions
from undiffuse.data.images.form import ImageForm, levels_in_use, transform_of_images
from undiffuse.data.labels import index_labels
from undiffuse.data.maps import GivenMap, given_map, maps_among
from undiffuse.data.rows import ArrayRows, Loaded, MakeTransform, chunks, fingerprint
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress

_PIXELS = (np.dtype(np.uint8), np.dtype(np.uint16))
_MOST_ROWS = 1024  # that the axes are inferred from


def from_array(
    array: np.ndarray,
    *,
    name: str,
    path: str | None = None,
    labels: Any = None,  # whatever `labels_or_conditions` takes
    classes: tuple[str, ...] = (),
    axes: str | None = None,
    condition: Sequence[str] | None = None,
    maps: Mapping[str, np.ndarray] | None = None,
    notes: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> Loaded:
    """Return an array as data.

    Args:
        array: rows (N, ...) in memory or memory-mapped.
        name: what the data is called in messages.
        path: what `load` takes to read it again, if anything.
        labels: labels or conditions, one for each row, or None; see `labels_or_conditions`.
        classes: names of the classes 0, 1, ... if they are known.
        axes: what its axes are, such as "NTC"; None to infer it.
        condition: names of the conditions, or which of them are used; None: not said.
        maps: arrays beside the rows that are conditions at each position, by name.
        notes: sentences for the user, passed on.
        progress: is told how many values have been checked.

    Raises:
        InputError: a type that is no real number, no rows, rows without values, infinite values,
            axes that its rows do not have, or labels that do not fit; from its `make_transform`,
            values that are all the same.
    """
    _check_type(array, name)
    rows = ArrayRows(array)
    row_shape = array.shape[1:]
    found = given_axes(axes, row_shape, name) if axes else None
    values = _check_values(rows, name, progress)
    found = found or _infer(rows, row_shape)
    space = layout_of(row_shape, found.letters)[1:]
    labels, beside = _beside(labels, condition, maps or {}, space, len(rows), name)
    index, classes = index_labels(labels, len(rows), name, classes)
    if _are_images(rows.dtype, row_shape, found.letters):
        kind, modelled = "images", _as_images(rows, row_shape, found.letters, values.high, name)
    else:
        kind, modelled = "arrays", _as_grids(rows, row_shape, found.letters, values, name)
    if values.low == values.high and not values.missing and len(rows) > 1:
        modelled = modelled[0], partial(_refuse_constant, name, values.low)
    said = found.sentence(row_shape)
    return Loaded(
        kind=kind,
        rows=rows,
        form=modelled[0],
        make_transform=modelled[1],
        name=name,
        path=path,
        fingerprint=fingerprint(array, index, *beside.arrays),
        labels=index,
        classes=classes,
        given=beside.given,
        maps=beside.maps,
        notes=(*notes, *([f"{name}: {said}."] if found.guess else [])),
        facts=_facts(rows, said if len(row_shape) > 1 or axes or found.reason else "", values),
    )


class _Beside(NamedTuple):
    """The conditions of rows: numbers and classes, arrays, and all of these as they were given."""

    given: tuple[Given, ...]
    maps: tuple[GivenMap, ...]
    arrays: list[np.ndarray]


def _beside(
    labels: Any,
    condition: Sequence[str] | None,
    maps: Mapping[str, np.ndarray],
    space: tuple[int, ...],
    rows: int,
    name: str,
) -> tuple[Any, _Beside]:
    """What of `labels` are classes, and the conditions; the other arguments are `from_array`'s."""
    labels, condition, among = maps_among(labels, condition, space)
    arrays = {**among, **maps}
    labels, given = labels_or_conditions(labels, condition, name)
    whole = [*(one.codes for one in given), *arrays.values()]
    _check_counts([len(one) for one in whole], rows, name)
    mapped = tuple(given_map(key, one, space, where=name) for key, one in arrays.items())
    return labels, _Beside(tuple(given), mapped, whole)


def _check_counts(counts: Sequence[int], rows: int, name: str) -> None:
    """Raise InputError unless there are as many conditions as rows."""
    for count in counts:
        if count != rows:
            raise InputError(f"{name}: {count:,} conditions for {rows:,} rows; give one for each.")


def _facts(rows: ArrayRows, axes: str, values: _Values) -> dict[str, Any]:
    """What `info` says of rows; of their axes, and of missing values, where there is something."""
    return {
        "row_shape": list(rows.array.shape[1:]),
        **({"axes": axes} if axes else {}),
        "dtype": rows.dtype.name,
        "least": values.low.item(),
        "greatest": values.high.item(),
        **({"missing": values.missing} if values.missing else {}),
    }


def _refuse_constant(name: str, value: np.generic, training_chunks: object) -> NoReturn:
    raise InputError(f"{name}: every value is {value}; there is nothing to learn.")


def _infer(rows: ArrayRows, row_shape: tuple[int, ...]) -> Axes:
    """Infer the axes from some of the rows; of pixels, images where nothing is against it."""
    most = min(_MOST_ROWS, max(8, SAMPLED // max(math.prod(row_shape), 1)))
    some = rows.take(np.unique(np.linspace(0, len(rows) - 1, most).astype(np.int64)))
    found = infer_axes(some)
    likely = "HW" if len(row_shape) == 2 else "HWC" if row_shape[-1:] <= (4,) else "CHW"
    if found.guess and len(likely) == len(row_shape) and _are_images(rows.dtype, row_shape, likely):
        return Axes(likely, "8- and 16-bit whole numbers are taken for images")
    return found


def _are_images(dtype: np.dtype, row_shape: tuple[int, ...], letters: str) -> bool:
    """Return whether rows are 8- or 16-bit images with at most four channels."""
    channels = dict(zip(letters, row_shape)).get("C", 1)
    return dtype in _PIXELS and letters in ("HW", "HWC", "CHW") and channels <= 4


def _as_images(
    rows: ArrayRows, row_shape: tuple[int, ...], letters: str, high: Any, name: str
) -> tuple[ImageForm, MakeTransform]:
    axis = {"HW": None, "HWC": -1, "CHW": 0}[letters]
    levels = levels_in_use(np.array([high]))
    form = ImageForm(row_shape=row_shape, channel_axis=axis, levels=levels, dtype=rows.dtype.name)
    return form, lambda chunks: transform_of_images(chunks, form, name)


def _as_grids(
    rows: ArrayRows, row_shape: tuple[int, ...], letters: str, values: _Values, name: str
) -> tuple[ArrayForm, MakeTransform]:
    form = ArrayForm(
        row_shape=row_shape,
        axes=letters,
        dtype=rows.dtype.name,
        low=float(values.low),
        high=float(values.high),
    )
    return form, lambda training_chunks: measure_array(
        training_chunks(),
        name=name,
        row_shape=row_shape,
        axes=letters,
        dtype=rows.dtype.name,
        gaps=channels_of(values.empty, letters),
    )


def channels_of(empty: np.ndarray, letters: str) -> list[int]:
    """Return the columns or channels with a gap, given the places of a row that have one."""
    return np.flatnonzero(by_channel(empty[None], letters).any((0, 2))).tolist()


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


@dataclass(frozen=True)
class _Values:
    """The least and greatest value, how many are missing, and in which places of a row."""

    low: np.generic
    high: np.generic
    missing: int
    empty: np.ndarray


def _check_values(rows: ArrayRows, name: str, progress: Progress | None) -> _Values:
    """Look at every value. Raises InputError for infinite values, and if there is none but NaN."""
    low = high = rows.take(np.arange(1)).reshape(-1)[0]
    bad, first, seen, missing = 0, "", 0, 0
    empty = np.zeros(rows.array.shape[1:], bool)
    for chunk in chunks(rows, progress, f"checking {name}"):
        if chunk.dtype.kind == "f" and not (finite := np.isfinite(chunk)).all():
            gaps = np.isnan(chunk)
            infinite = ~finite & ~gaps
            bad, missing, empty = (
                bad + int(infinite.sum()),
                missing + int(gaps.sum()),
                empty | gaps.any(0),
            )
            if infinite.any():
                first = first or _place(np.argwhere(infinite)[0], seen)
            low, high = (
                np.fmin(low, np.fmin.reduce(chunk, None)),
                np.fmax(high, np.fmax.reduce(chunk, None)),
            )
        else:
            low, high = min(chunk.min(), low), max(chunk.max(), high)
        seen += len(chunk)
    if bad:
        values = "value is" if bad == 1 else "values are"
        raise InputError(
            f"{name}: {bad:,} {values} infinite, the first in {first}; replace them, by NaN where "
            "they stand for missing."
        )
    if missing == rows.array.size:
        raise InputError(f"{name}: every value is NaN; there is nothing to learn.")
    if rows.dtype.kind == "u" and int(high) >= 2**63:
        raise InputError(
            f"{name}: the whole number {high} needs 64 bits without a sign; convert to floats."
        )
    return _Values(low, high, missing, empty)


def _place(position: np.ndarray, offset: int) -> str:
    row, *rest = position.tolist()
    return f"row {row + offset}" + (f" at position {tuple(rest)}" if rest else "")

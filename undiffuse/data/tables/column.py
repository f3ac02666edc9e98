"""One column of an Arrow table <-> float64 codes, exactly.

    numbers and times   value = (offset + k unit) / denominator, stored as the step k = 0, 1, ...
    other numbers       stored as they are
    categories          stored as an index into `categories`, in their own order
    missing             NaN

Integers, decimals, dates and times always lie on such a grid: offset is their least value and unit the greatest common
divisor of the differences, so that whole seconds in nanoseconds are steps of one second. Floating-point columns lie on
one if all their values have at most six decimals and the range is short of 2**20 steps: a column of prices, or of whole
numbers that became floats because some are missing. What is on a grid comes back on the grid; over a wider
range the decimals are remembered, and what comes back is rounded to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from undiffuse.errors import InputError

MOST_CATEGORIES = 1000
GRID_STEPS = 2**20  # of a floating-point column; float32 tells so many apart at unit scale
LARGEST = 1e150  # a squared difference of floats beyond this would overflow


@dataclass(frozen=True, kw_only=True)
class Column:
    """How one column's values are stored; everything in it is plain data."""

    name: str
    sort: str  # float, integer, decimal, time, boolean or category
    missing: str  # "no", "null" or "nan": what a missing value comes back as
    offset: int = 0
    unit: int = 0  # 0: not on a grid
    denominator: int = 1
    digits: int | None = None  # decimals that all values of a column that is not on a grid have
    categories: tuple[Any, ...] = ()
    ordered: bool = True

    def values(self, codes: np.ndarray) -> np.ndarray:
        """The numbers that codes stand for, as float64 (for plots and summaries); category codes as they are."""
        return (self.offset + codes * self.unit) / self.denominator if self.unit else codes

    def unpack(self, codes: np.ndarray, kind: pa.DataType) -> pa.Array:
        """Codes (N,) -> an Arrow array of type `kind`."""
        mask = np.isnan(codes)
        return _UNPACK[self.sort](self, np.where(mask, 0, codes), mask, kind)


def pack(name: str, array: pa.Array, where: str) -> tuple[Column, np.ndarray]:
    """An Arrow array -> how it is stored, and its codes (N,) float64.

    Raises InputError, in the name of the table `where`, for a type that cannot be modelled, a column with no values,
    infinities, and strings that are more like identifiers than like categories.
    """
    here = f'{where}: column "{name}"'
    sort = _sort(array.type)
    if sort is None:
        raise InputError(
            f"{here} has the type {array.type}, which cannot be modelled; remove or convert it."
        )
    empty = np.asarray(array.is_null(nan_is_null=True))
    if empty.all():
        raise InputError(f"{here} is empty in all {len(array):,} rows; remove it or fill it.")
    missing = "null" if array.null_count else "nan" if empty.any() else "no"
    facts, codes = _PACK[sort](array, empty, here)
    codes[empty] = np.nan
    return Column(name=name, sort=sort, missing=missing, **facts), codes


def _sort(kind: pa.DataType) -> str | None:
    is_a = pa.types
    tests: dict[str, tuple[Callable[..., bool], ...]] = {
        "boolean": (is_a.is_boolean,),
        "integer": (is_a.is_integer,),
        "float": (is_a.is_floating, is_a.is_null),
        "decimal": (is_a.is_decimal,),
        "time": (is_a.is_date, is_a.is_time, is_a.is_timestamp, is_a.is_duration),
    }
    strings = (is_a.is_string, is_a.is_large_string, is_a.is_string_view)
    if is_a.is_dictionary(kind):
        return (
            "category"
            if _sort(kind.value_type) in ("category", "integer", "float", "boolean")
            else None
        )
    if any(test(kind) for test in strings):
        return "category"
    return next(
        (sort for sort, of_sort in tests.items() if any(test(kind) for test in of_sort)), None
    )


def _on_grid(whole: np.ndarray, empty: np.ndarray, here: str) -> tuple[dict[str, Any], np.ndarray]:
    """Offset, unit and steps of whole numbers (int64 or uint64), in arithmetic modulo 2**64."""
    least = int(whole[~empty].min())
    steps = whole.astype(np.uint64) - np.uint64(least % 2**64)
    unit = int(np.gcd.reduce(steps[~empty])) or 1
    steps = np.where(empty, np.uint64(0), steps // np.uint64(unit))
    if int(steps.max()) >= 2**53:
        raise InputError(
            f"{here} spans more than 2**53 steps, as identifiers do; remove it or make it a float."
        )
    return {"offset": least, "unit": unit}, steps.astype(np.float64)


def _from_grid(column: Column, steps: np.ndarray) -> np.ndarray:
    """Steps -> offset + k unit as int64, modulo 2**64 (right for uint64 too, by a view)."""
    whole = steps.astype(np.uint64) * np.uint64(column.unit) + np.uint64(column.offset % 2**64)
    return whole.view(np.int64)


def _pack_integer(
    array: pa.Array, empty: np.ndarray, here: str
) -> tuple[dict[str, Any], np.ndarray]:
    whole = array.fill_null(0).to_numpy(zero_copy_only=False)
    return _on_grid(whole if whole.dtype == np.uint64 else whole.astype(np.int64), empty, here)


def _unpack_integer(
    column: Column, codes: np.ndarray, mask: np.ndarray, kind: pa.DataType
) -> pa.Array:
    return pa.array(_from_grid(column, codes).astype(kind.to_pandas_dtype()), kind, mask=mask)


def _pack_time(array: pa.Array, empty: np.ndarray, here: str) -> tuple[dict[str, Any], np.ndarray]:
    return _pack_integer(array.view(_integer_of(array.type)), empty, here)


def _unpack_time(
    column: Column, codes: np.ndarray, mask: np.ndarray, kind: pa.DataType
) -> pa.Array:
    return _unpack_integer(column, codes, mask, _integer_of(kind)).view(kind)


def _integer_of(kind: pa.DataType) -> pa.DataType:
    return {32: pa.int32(), 64: pa.int64()}[kind.bit_width]


def _pack_decimal(
    array: pa.Array, empty: np.ndarray, here: str
) -> tuple[dict[str, Any], np.ndarray]:
    unscaled = np.array(
        [0 if v is None else int(v.scaleb(array.type.scale)) for v in array.to_pylist()], object
    )
    if max(abs(int(unscaled.max())), abs(int(unscaled.min()))) >= 2**63:
        raise InputError(f"{here} has decimals of more than 18 digits; convert it to a float.")
    facts, steps = _on_grid(unscaled.astype(np.int64), empty, here)
    return facts | {"denominator": 10 ** max(array.type.scale, 0)}, steps


def _unpack_decimal(
    column: Column, codes: np.ndarray, mask: np.ndarray, kind: pa.DataType
) -> pa.Array:
    whole = _from_grid(column, codes).tolist()
    return pa.array(
        [None if gone else Decimal(v).scaleb(-kind.scale) for v, gone in zip(whole, mask)], kind
    )


def _pack_float(array: pa.Array, empty: np.ndarray, here: str) -> tuple[dict[str, Any], np.ndarray]:
    own = array.to_numpy(zero_copy_only=False)
    values = np.where(empty, 0, own).astype(np.float64)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise InputError(
            f"{here} holds {len(infinite):,} infinite values, the first in row {infinite[0] + 1:,}; "
            "replace them or remove those rows."
        )
    if np.abs(values).max() > LARGEST:
        raise InputError(f"{here} holds numbers beyond {LARGEST:g}; rescale it.")
    present = values[~empty]
    for digits in range(7):
        denominator = 10**digits
        whole = np.rint(values * denominator)
        if np.abs(whole).max() >= 2**53:
            break
        if np.array_equal(
            (whole[~empty] / denominator).astype(own.dtype), present.astype(own.dtype)
        ):
            facts, steps = _on_grid(whole.astype(np.int64), empty, here)
            on_grid = steps.max() < GRID_STEPS
            return (
                (facts | {"denominator": denominator}, steps)
                if on_grid
                else ({"digits": digits}, values)
            )
    return {}, values


def _unpack_float(
    column: Column, codes: np.ndarray, mask: np.ndarray, kind: pa.DataType
) -> pa.Array:
    values = _from_grid(column, codes) / column.denominator if column.unit else codes
    values = values if column.digits is None else np.round(values, column.digits)
    values = values.astype(kind.to_pandas_dtype())
    if column.missing == "nan":
        return pa.array(np.where(mask, values.dtype.type(np.nan), values), kind)
    return pa.array(values, kind, mask=mask)


def _pack_boolean(
    array: pa.Array, empty: np.ndarray, here: str
) -> tuple[dict[str, Any], np.ndarray]:
    return {}, array.fill_null(False).to_numpy(zero_copy_only=False).astype(np.float64)


def _unpack_boolean(
    column: Column, codes: np.ndarray, mask: np.ndarray, kind: pa.DataType
) -> pa.Array:
    return pa.array(codes > 0.5, kind, mask=mask)


def _pack_category(
    array: pa.Array, empty: np.ndarray, here: str
) -> tuple[dict[str, Any], np.ndarray]:
    declared = pa.types.is_dictionary(array.type)
    coded = array if declared else array.cast(pa.large_string()).dictionary_encode()
    categories = coded.dictionary.to_pylist()
    most = MOST_CATEGORIES if declared else min(MOST_CATEGORIES, len(array) / 2)
    if len(categories) > most:
        raise InputError(
            f"{here} has {len(categories):,} different values in {len(array):,} rows, as an identifier or free text "
            "has; remove it."
        )
    codes = coded.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    if declared:
        ordered = bool(array.type.ordered)
    else:
        rank = np.argsort(np.argsort(np.array(categories, dtype=object)))
        codes, categories, ordered = rank[codes], sorted(categories), False
    return {"categories": tuple(categories), "ordered": ordered}, codes.astype(np.float64)


def _unpack_category(
    column: Column, codes: np.ndarray, mask: np.ndarray, kind: pa.DataType
) -> pa.Array:
    if not pa.types.is_dictionary(kind):
        names = np.array(column.categories, dtype=object)[codes.astype(np.int64)]
        return pa.array(names.tolist(), kind, mask=mask)
    indices = pa.array(codes.astype(np.int64), mask=mask).cast(kind.index_type)
    categories = pa.array(column.categories, kind.value_type)
    return pa.DictionaryArray.from_arrays(indices, categories, ordered=kind.ordered)


_PACK = {
    "integer": _pack_integer,
    "time": _pack_time,
    "decimal": _pack_decimal,
    "float": _pack_float,
    "boolean": _pack_boolean,
    "category": _pack_category,
}
_UNPACK = {
    "integer": _unpack_integer,
    "time": _unpack_time,
    "decimal": _unpack_decimal,
    "float": _unpack_float,
    "boolean": _unpack_boolean,
    "category": _unpack_category,
}

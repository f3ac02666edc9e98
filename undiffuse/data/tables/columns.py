"""One column of an Arrow table <-> float64 codes, exactly.

    integers, decimals, times   value = (offset + k unit) / denominator, stored as the step k
    numbers on a grid           the same, for floating-point numbers
    other numbers               stored as they are
    booleans                    stored as 0 and 1
    categories                  stored as an index into `categories`
    missing                     NaN

There is one class per sort of column. It is measured on the training data once; from then on the
same `encode` codes the training data, new rows to score and rows to complete. A value that lies
between two steps, or is none of the categories, has no code.

The grid: offset is the least value and unit the greatest common divisor of the differences, so that
whole seconds in nanoseconds are steps of one second. Floating-point columns lie on one if all their
values have at most six decimals and the range is less than 2**20 steps: a column of prices, or of
whole numbers that became floats because some are missing. Over a wider range the decimals are
remembered, and what comes back is rounded to them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from undiffuse.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_CATEGORIES = 1000
GRID_STEPS = 2**20  # of a floating-point column; float32 tells so many apart at unit scale
LARGEST = 1e150  # the square of a difference of larger floats would overflow
_SHOWN = 5  # categories in a summary

Coded = tuple[np.ndarray, np.ndarray]
"""Codes (N,) float64, and which values (N,) have none."""


@dataclass(frozen=True, kw_only=True)
class Column(ABC):
    """How the values of one column are stored.

    Args:
        name: the column's name.
        missing: what a missing value comes back as: "null" or "nan"; "no" where none is missing.
        ordered: whether the order of the values means anything.
    """

    name: str
    missing: str
    ordered: bool = True

    on_grid: ClassVar[bool]  # whether codes are whole numbers of equal steps

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of categories; 0 for numbers."""

    @staticmethod
    @abstractmethod
    def stores(arrow_type: pa.DataType) -> bool:
        """Return whether columns of this Arrow type are of this sort."""

    @classmethod
    @abstractmethod
    def measure(
        cls, array: pa.Array, empty: np.ndarray, where: str, *, name: str, missing: str
    ) -> Column:
        """Return how values, where not `empty`, are stored; see `measure_column`."""

    @abstractmethod
    def _code(
        self, array: pa.Array, empty: np.ndarray, arrow_type: pa.DataType, where: str
    ) -> Coded:
        """Code an array without a dictionary; what stands where it is empty is not used."""

    @abstractmethod
    def _decode(self, codes: np.ndarray, missing: np.ndarray, arrow_type: pa.DataType) -> pa.Array:
        """Decode codes, which are 0 where a value is missing."""

    def encode(
        self, array: pa.Array, arrow_type: pa.DataType, where: str, *, gaps: bool = False
    ) -> Coded:
        """Code the values of a column.

        Args:
            array: an Arrow array (N,) of any type that holds such values.
            arrow_type: the type that the column had in training.
            where: the table and the column, for messages.
            gaps: allow missing values where none was in training.

        Returns:
            Codes (N,) float64, NaN where missing, and which values (N,) have no code.

        Raises:
            InputError: for another type, infinite values, and missing ones where training had none.
        """
        array = _plain(array)
        empty = _empty(array)
        if empty.any() and self.missing == "no" and not gaps:
            count, first = int(empty.sum()), int(np.flatnonzero(empty)[0]) + 1
            values = "value is" if count == 1 else "values are"
            raise InputError(
                f"{where}: {count:,} {values} missing, the first in row {first:,}, and none was in "
                "training; fill them or remove those rows."
            )
        if empty.all():
            return np.full(len(array), np.nan), np.zeros(len(array), dtype=bool)
        codes, impossible = self._code(array, empty, arrow_type, where)
        codes[empty] = np.nan
        return codes, impossible & ~empty

    def decode(self, codes: np.ndarray, arrow_type: pa.DataType) -> pa.Array:
        """Return the values of codes (N,), NaN where missing, as an Arrow array of a type."""
        missing = np.isnan(codes)
        return self._decode(np.where(missing, 0, codes), missing, arrow_type)

    def texts(self, codes: np.ndarray, arrow_type: pa.DataType) -> list[str]:
        """Return the values of codes (N,), none of them missing, as a person writes them."""
        values = self.decode(codes, arrow_type).to_pylist()
        return [f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]

    def summary(self, codes: np.ndarray, arrow_type: pa.DataType) -> str:
        """Return the most frequent categories, or the least and the greatest value, as text."""
        values, counts = np.unique(codes[~np.isnan(codes)], return_counts=True)
        if not self.size:
            return " to ".join(self.texts(values[[0, -1]], arrow_type))
        top = values[np.argsort(-counts, kind="stable")[:_SHOWN]]
        more = f", ... ({len(values)} in all)" if len(values) > len(top) else ""
        return ", ".join(self.texts(top, arrow_type)) + more


@dataclass(frozen=True, kw_only=True)
class GridColumn(Column):
    """Values that are steps of a grid.

    Args:
        offset: the whole number of step 0.
        unit: the difference between two steps, at least 1.
    """

    offset: int
    unit: int

    on_grid = True

    @property
    def size(self) -> int:
        """See `Column`."""
        return 0

    def steps(self, whole: np.ndarray) -> Coded:
        """Return the steps k of whole numbers offset + k unit, and which lie between two steps."""
        below = whole < self.offset
        apart = whole.astype(np.uint64) - np.uint64(self.offset % 2**64)  # modulo 2**64
        apart = np.where(below, np.uint64(0) - apart, apart)
        steps, rest = np.divmod(apart, np.uint64(self.unit))
        return np.where(below, -1.0, 1.0) * steps.astype(np.float64), rest != 0

    def whole(self, steps: np.ndarray) -> np.ndarray:
        """Return offset + k unit as int64, modulo 2**64: the bits are right for uint64 too."""
        apart = steps.astype(np.int64).view(np.uint64) * np.uint64(self.unit)
        return (apart + np.uint64(self.offset % 2**64)).view(np.int64)


@final
@dataclass(frozen=True, kw_only=True)
class IntegerColumn(GridColumn):
    """Integers of any width."""

    @staticmethod
    def stores(arrow_type: pa.DataType) -> bool:
        """See `Column`."""
        return _type_is(arrow_type, "integer")

    @classmethod
    def measure(
        cls, array: pa.Array, empty: np.ndarray, where: str, *, name: str, missing: str
    ) -> Column:
        """See `Column`."""
        offset, unit = _exact_grid(_integers(array)[~empty], where)
        return cls(name=name, missing=missing, offset=offset, unit=unit)

    def _code(
        self, array: pa.Array, empty: np.ndarray, arrow_type: pa.DataType, where: str
    ) -> Coded:
        values = _numbers(array, empty, arrow_type, where)
        if values.dtype.kind != "f":
            return self.steps(values)
        whole = np.clip(np.rint(values), -(2.0**62), 2.0**62)
        codes, between = self.steps(whole.astype(np.int64))
        return codes, between | (whole != values)

    def _decode(self, codes: np.ndarray, missing: np.ndarray, arrow_type: pa.DataType) -> pa.Array:
        import pyarrow as pa

        whole = self.whole(codes).astype(arrow_type.to_pandas_dtype())
        return pa.array(whole, arrow_type, mask=missing)


@final
@dataclass(frozen=True, kw_only=True)
class TimeColumn(GridColumn):
    """Dates, times, time stamps and durations, by the integers that Arrow stores them as."""

    @staticmethod
    def stores(arrow_type: pa.DataType) -> bool:
        """See `Column`."""
        return _type_is(arrow_type, "date", "time", "timestamp", "duration")

    @classmethod
    def measure(
        cls, array: pa.Array, empty: np.ndarray, where: str, *, name: str, missing: str
    ) -> Column:
        """See `Column`."""
        whole = _integers(array.view(_integer_type(array.type)))
        offset, unit = _exact_grid(whole[~empty], where)
        return cls(name=name, missing=missing, offset=offset, unit=unit)

    def _code(
        self, array: pa.Array, empty: np.ndarray, arrow_type: pa.DataType, where: str
    ) -> Coded:
        times = _cast(array, empty, arrow_type, where)
        return self.steps(_integers(times.view(_integer_type(arrow_type))))

    def _decode(self, codes: np.ndarray, missing: np.ndarray, arrow_type: pa.DataType) -> pa.Array:
        import pyarrow as pa

        stored = _integer_type(arrow_type)
        whole = self.whole(codes).astype(stored.to_pandas_dtype())
        return pa.array(whole, stored, mask=missing).view(arrow_type)


@final
@dataclass(frozen=True, kw_only=True)
class DecimalColumn(GridColumn):
    """Decimal numbers of at most 18 digits."""

    @staticmethod
    def stores(arrow_type: pa.DataType) -> bool:
        """See `Column`."""
        return _type_is(arrow_type, "decimal")

    @classmethod
    def measure(
        cls, array: pa.Array, empty: np.ndarray, where: str, *, name: str, missing: str
    ) -> Column:
        """See `Column`."""
        unscaled = _unscaled(array)
        if max(abs(int(unscaled.max())), abs(int(unscaled.min()))) >= 2**63:
            raise InputError(f"{where} has decimals of more than 18 digits; convert it to a float.")
        offset, unit = _exact_grid(unscaled.astype(np.int64)[~empty], where)
        return cls(name=name, missing=missing, offset=offset, unit=unit)

    def _code(
        self, array: pa.Array, empty: np.ndarray, arrow_type: pa.DataType, where: str
    ) -> Coded:
        unscaled = _unscaled(_cast(array, empty, arrow_type, where))
        whole = np.clip(unscaled, -(2**63), 2**63 - 1)
        codes, between = self.steps(whole.astype(np.int64))
        return codes, between | (whole != unscaled)

    def _decode(self, codes: np.ndarray, missing: np.ndarray, arrow_type: pa.DataType) -> pa.Array:
        import pyarrow as pa

        values = [Decimal(whole).scaleb(-arrow_type.scale) for whole in self.whole(codes).tolist()]
        return pa.array(values, arrow_type, mask=missing)


@final
@dataclass(frozen=True, kw_only=True)
class GridFloatColumn(GridColumn):
    """Floating-point numbers that are all (offset + k unit) / denominator.

    Args:
        denominator: the power of ten that makes every value a whole number.
    """

    denominator: int

    @staticmethod
    def stores(arrow_type: pa.DataType) -> bool:
        """See `Column`: `FloatColumn` finds out whether the numbers lie on a grid."""
        return False

    @classmethod
    def measure(
        cls, array: pa.Array, empty: np.ndarray, where: str, *, name: str, missing: str
    ) -> Column:
        """See `Column`."""
        return FloatColumn.measure(array, empty, where, name=name, missing=missing)

    def _code(
        self, array: pa.Array, empty: np.ndarray, arrow_type: pa.DataType, where: str
    ) -> Coded:
        values = _numbers(array, empty, arrow_type, where).astype(np.float64)
        whole = np.clip(np.rint(values * self.denominator), -(2.0**53), 2.0**53)
        codes, between = self.steps(whole.astype(np.int64))
        own = arrow_type.to_pandas_dtype()
        return codes, between | ((whole / self.denominator).astype(own) != values.astype(own))

    def _decode(self, codes: np.ndarray, missing: np.ndarray, arrow_type: pa.DataType) -> pa.Array:
        return _floats(self.whole(codes) / self.denominator, missing, arrow_type, self.missing)


@final
@dataclass(frozen=True, kw_only=True)
class FloatColumn(Column):
    """Floating-point numbers as they are.

    Args:
        digits: the decimals that all values have, and that decoded ones are rounded to; None for
            more than six.
    """

    digits: int | None

    on_grid = False

    @property
    def size(self) -> int:
        """See `Column`."""
        return 0

    @staticmethod
    def stores(arrow_type: pa.DataType) -> bool:
        """See `Column`."""
        return _type_is(arrow_type, "floating")

    @classmethod
    def measure(
        cls, array: pa.Array, empty: np.ndarray, where: str, *, name: str, missing: str
    ) -> Column:
        """See `Column`: a `GridFloatColumn`, where the values lie on a grid of few enough steps."""
        values = _numbers(array, empty, array.type, where)[~empty]
        if np.abs(values).max() > LARGEST:
            raise InputError(f"{where} holds numbers beyond {LARGEST:g}; rescale it.")
        own = array.type.to_pandas_dtype()
        for digits in range(7):
            denominator = 10**digits
            whole = np.rint(values * denominator)
            if np.abs(whole).max() >= 2**53:
                break
            if np.array_equal((whole / denominator).astype(own), values.astype(own)):
                offset, unit, most = _grid(whole.astype(np.int64))
                if most >= GRID_STEPS:
                    return cls(name=name, missing=missing, digits=digits)
                return GridFloatColumn(
                    name=name, missing=missing, offset=offset, unit=unit, denominator=denominator
                )
        return cls(name=name, missing=missing, digits=None)

    def _code(
        self, array: pa.Array, empty: np.ndarray, arrow_type: pa.DataType, where: str
    ) -> Coded:
        values = _numbers(array, empty, arrow_type, where).astype(np.float64)
        return values, np.zeros(len(values), dtype=bool)

    def _decode(self, codes: np.ndarray, missing: np.ndarray, arrow_type: pa.DataType) -> pa.Array:
        values = codes if self.digits is None else np.round(codes, self.digits)
        return _floats(values, missing, arrow_type, self.missing)


@final
@dataclass(frozen=True, kw_only=True)
class BooleanColumn(Column):
    """False and True."""

    on_grid = False

    @property
    def size(self) -> int:
        """See `Column`."""
        return 2

    @staticmethod
    def stores(arrow_type: pa.DataType) -> bool:
        """See `Column`."""
        return _type_is(arrow_type, "boolean")

    @classmethod
    def measure(
        cls, array: pa.Array, empty: np.ndarray, where: str, *, name: str, missing: str
    ) -> Column:
        """See `Column`."""
        return cls(name=name, missing=missing)

    def _code(
        self, array: pa.Array, empty: np.ndarray, arrow_type: pa.DataType, where: str
    ) -> Coded:
        values = _numbers(array, empty, arrow_type, where).astype(np.float64)
        return values, (values != 0) & (values != 1)

    def _decode(self, codes: np.ndarray, missing: np.ndarray, arrow_type: pa.DataType) -> pa.Array:
        import pyarrow as pa

        return pa.array(codes > 0.5, arrow_type, mask=missing)


@final
@dataclass(frozen=True, kw_only=True)
class CategoryColumn(Column):
    """Strings, and dictionaries of strings, numbers or booleans.

    Args:
        categories: the values in the order of their codes, plain data.
    """

    categories: tuple[Any, ...]

    on_grid = False

    @property
    def size(self) -> int:
        """See `Column`."""
        return len(self.categories)

    @staticmethod
    def stores(arrow_type: pa.DataType) -> bool:
        """See `Column`."""
        if _type_is(arrow_type, "dictionary"):
            simple = (*_STRINGS, "integer", "floating", "boolean")
            return _type_is(arrow_type.value_type, *simple)
        return _type_is(arrow_type, *_STRINGS)

    @classmethod
    def measure(
        cls, array: pa.Array, empty: np.ndarray, where: str, *, name: str, missing: str
    ) -> Column:
        """See `Column`. A dictionary's categories count even where no row has them."""
        declared = _type_is(array.type, "dictionary")
        if declared:
            categories, ordered = array.dictionary.to_pylist(), bool(array.type.ordered)
        else:
            categories, ordered = sorted(_plain(array).unique().drop_null().to_pylist()), False
        most = MOST_CATEGORIES if declared else min(MOST_CATEGORIES, len(array) / 2)
        if len(categories) > most:
            raise InputError(
                f"{where} has {len(categories):,} different values in {len(array):,} rows, as an "
                "identifier or free text has; remove it."
            )
        return cls(name=name, missing=missing, ordered=ordered, categories=tuple(categories))

    def _code(
        self, array: pa.Array, empty: np.ndarray, arrow_type: pa.DataType, where: str
    ) -> Coded:
        import pyarrow as pa
        import pyarrow.compute as pc

        own = _plain_type(arrow_type)
        values = _cast(array, empty, own, where)
        index = pc.index_in(values, value_set=pa.array(self.categories, own))  # type: ignore[attr-defined]
        codes = index.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.float64)
        return codes, codes < 0

    def _decode(self, codes: np.ndarray, missing: np.ndarray, arrow_type: pa.DataType) -> pa.Array:
        import pyarrow as pa

        index = codes.astype(np.int64)
        if not _type_is(arrow_type, "dictionary"):
            values = [self.categories[i] for i in index.tolist()]
            return pa.array(values, arrow_type, mask=missing)
        return pa.DictionaryArray.from_arrays(
            pa.array(index, mask=missing).cast(arrow_type.index_type),
            pa.array(self.categories, arrow_type.value_type),
            ordered=arrow_type.ordered,
        )


COLUMNS: Mapping[str, type[Column]] = {
    "integer": IntegerColumn,
    "time": TimeColumn,
    "decimal": DecimalColumn,
    "grid": GridFloatColumn,
    "float": FloatColumn,
    "boolean": BooleanColumn,
    "category": CategoryColumn,
}
"""Every sort of column, by the name it is recorded under."""


def measure_column(name: str, array: pa.Array, where: str) -> Column:
    """Return how a column of the training data is stored.

    Args:
        name: the column's name.
        array: its values.
        where: the table and the column, for messages.

    Raises:
        InputError: for a type that cannot be modelled, no values, infinite ones, and strings that
            look like identifiers rather than categories.
    """
    empty = _empty(_plain(array))
    if empty.all():
        raise InputError(f"{where} is empty in all {len(array):,} rows; remove it or fill it.")
    sort = next((sort for sort in COLUMNS.values() if sort.stores(array.type)), None)
    if sort is None:
        raise InputError(
            f"{where} has the type {array.type}, which cannot be modelled; remove or convert it."
        )
    missing = "null" if array.null_count else "nan" if empty.any() else "no"
    return sort.measure(array, empty, where, name=name, missing=missing)


# --- Arrow's values as numbers

_STRINGS = ("string", "large_string", "string_view")


def _type_is(arrow_type: pa.DataType, *names: str) -> bool:
    """Return whether any of `pyarrow.types.is_NAME` holds."""
    import pyarrow.types

    return any(
        getattr(pyarrow.types, f"is_{name}")(arrow_type) for name in names
    )  # pyarrow's names


def _plain(array: pa.Array) -> pa.Array:
    """Return the array without a dictionary, and strings of any type as large strings."""
    if _type_is(array.type, "dictionary"):
        return _plain(array.dictionary).take(array.indices)
    return array.cast(_plain_type(array.type))


def _plain_type(arrow_type: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if _type_is(arrow_type, "dictionary"):
        return _plain_type(arrow_type.value_type)
    return pa.large_string() if _type_is(arrow_type, *_STRINGS) else arrow_type


def _empty(array: pa.Array) -> np.ndarray:
    return np.asarray(array.is_null(nan_is_null=True))


def _cast(
    array: pa.Array,
    empty: np.ndarray,
    arrow_type: pa.DataType,
    where: str,
    in_training: pa.DataType | None = None,
) -> pa.Array:
    """Return the array in a type. Raises InputError, naming a value that cannot be cast."""
    cast = _try_cast(array, arrow_type)
    if cast is not None:
        return cast
    own = in_training or arrow_type
    for row in np.flatnonzero(~empty).tolist():
        if _try_cast(array[row : row + 1], arrow_type) is None:
            raise InputError(
                f"{where} holds {array[row].as_py()!r} in row {row + 1:,}, and in training it held "
                f"{own}; correct it."
            )
    raise InputError(f"{where} is of type {array.type}, and in training was {own}; convert it.")


def _try_cast(array: pa.Array, arrow_type: pa.DataType) -> pa.Array | None:
    import pyarrow as pa

    try:
        return array.cast(arrow_type)
    except (pa.ArrowException, NotImplementedError):
        return None


def _integers(array: pa.Array) -> np.ndarray:
    """Return an array of integers as uint64 if it is that, else as int64; 0 where missing."""
    whole = array.fill_null(0).to_numpy(zero_copy_only=False)
    return whole if whole.dtype == np.uint64 else whole.astype(np.int64)


def _numbers(array: pa.Array, empty: np.ndarray, arrow_type: pa.DataType, where: str) -> np.ndarray:
    """Return whole numbers as they are and all others as float64, 0 where missing."""
    import pyarrow as pa

    if _type_is(array.type, "large_string"):  # exactly, not by way of float64, if it spells them
        spelled = _try_cast(array, arrow_type)
        array = array if spelled is None else spelled
    if _type_is(array.type, "boolean"):
        array = array.cast(pa.int8())
    if _type_is(array.type, "integer"):
        return _integers(array)
    if _type_is(array.type, "temporal"):
        raise InputError(
            f"{where} holds dates or times, and in training was {arrow_type}; convert it."
        )
    floats = _cast(array, empty, pa.float64(), where, arrow_type).to_numpy(zero_copy_only=False)
    values = np.where(empty, 0, floats)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise InputError(
            f"{where} holds {len(infinite):,} infinite values, the first in row "
            f"{infinite[0] + 1:,}; replace them or remove those rows."
        )
    return values


def _unscaled(array: pa.Array) -> np.ndarray:
    """Return decimals times 10**scale as Python integers, 0 where missing."""
    scale = array.type.scale
    values = array.to_pylist()
    return np.array([0 if v is None else int(v.scaleb(scale)) for v in values], dtype=object)


def _integer_type(arrow_type: pa.DataType) -> pa.DataType:
    """Return the integer type that times of a type are stored as."""
    import pyarrow as pa

    return {32: pa.int32(), 64: pa.int64()}[arrow_type.bit_width]


def _grid(whole: np.ndarray) -> tuple[int, int, int]:
    """Return offset and unit of whole numbers, int64 or uint64, and the greatest step."""
    least = int(whole.min())
    apart = whole.astype(np.uint64) - np.uint64(least % 2**64)  # modulo 2**64
    unit = int(np.gcd.reduce(apart)) or 1
    return least, unit, int(apart.max()) // unit


def _exact_grid(whole: np.ndarray, where: str) -> tuple[int, int]:
    """Return offset and unit. Raises InputError for more steps than float64 tells apart."""
    offset, unit, most = _grid(whole)
    if most >= 2**53:
        raise InputError(
            f"{where} spans more than 2**53 steps, as identifiers do; remove it or make it a float."
        )
    return offset, unit


def _floats(
    values: np.ndarray, missing: np.ndarray, arrow_type: pa.DataType, missing_as: str
) -> pa.Array:
    import pyarrow as pa

    own = values.astype(arrow_type.to_pandas_dtype())
    if missing_as == "nan":
        return pa.array(np.where(missing, own.dtype.type(np.nan), own), arrow_type)
    return pa.array(own, arrow_type, mask=missing)

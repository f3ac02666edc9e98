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
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypedDict, final

import numpy as np

from undiffuse.data.tables.days import LAST_DAY, days_of, days_written, whole_of
from undiffuse.data.tables.durations import read_duration
from undiffuse.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_CATEGORIES = 1000
GRID_STEPS = 2**20  # of a floating-point column; float32 tells so many apart at unit scale
LARGEST = 1e150  # the square of a difference of larger floats would overflow
_SHOWN = 5  # categories in a summary

Coded = tuple[np.ndarray, np.ndarray]
"""Codes (N,) float64, and which values (N,) have none."""


class LeftOut(InputError):
    """A column that a table can do without, and why: it says nothing, or cannot be modelled.

    Args:
        reason: what is wrong with the column, which it names.
        advice: what its owner can do about it.
    """

    def __init__(self, reason: str, advice: str = "remove it") -> None:
        super().__init__(f"{reason}; {advice}.")
        self.reason = reason


_STRINGS = ("string", "large_string", "string_view")


@dataclass(frozen=True, kw_only=True)
class Column(ABC):
    """How the values of one column are stored.

    Args:
        name: the column's name.
        missing: what a missing value comes back as: "null" or "nan"; "no" where none is missing.
        ordered: whether the order of the values means anything.
        categories: the values in the order of their codes, plain data; empty for numbers.
    """

    name: str
    missing: str
    ordered: bool = True
    categories: tuple[Any, ...] = ()

    on_grid: ClassVar[bool] = False  # whether codes are whole numbers of equal steps
    arrow_types: ClassVar[tuple[str, ...]]  # the X of pyarrow.types.is_X of such columns

    @classmethod
    @abstractmethod
    def measure(cls, values: Values, **common: Any) -> Column:
        """Return how the training data's values are stored; `common` is name and missing."""

    @abstractmethod
    def _code(self, values: Values) -> Coded:
        """Code values; what stands where they are empty is not used."""

    @abstractmethod
    def _decode(self, codes: np.ndarray, empty: np.ndarray, own: pa.DataType) -> pa.Array:
        """Decode codes, which are 0 where empty, to an Arrow type."""

    @property
    def size(self) -> int:
        """The number of categories; 0 for numbers."""
        return len(self.categories)

    def encode(
        self,
        array: pa.Array,
        arrow_type: pa.DataType,
        where: str,
        *,
        gaps: bool = False,
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
        values = Values.of(array, arrow_type, where)
        empty = values.empty
        if empty.any() and self.missing == "no" and not gaps:
            count, first = int(empty.sum()), int(np.flatnonzero(empty)[0]) + 1
            are = "value is" if count == 1 else "values are"
            raise InputError(
                f"{where}: {count:,} {are} missing, the first in row {first:,}, and none was in "
                "training; fill them or remove those rows."
            )
        if empty.all():
            return np.full(len(array), np.nan), np.zeros(len(array), dtype=bool)
        codes, impossible = self._code(values)
        codes[empty] = np.nan
        return codes, impossible & ~empty

    def grid_of(self, codes: np.ndarray, arrow_type: pa.DataType) -> tuple[int, ...]:
        """Return (offset, unit, denominator) if all codes are (offset + k unit)/denominator.

        Args:
            codes: (N,), none of them missing.
            arrow_type: the type that the column had in training.

        Returns:
            () if they are not, or if their order means nothing.
        """
        return ()

    def decode(self, codes: np.ndarray, arrow_type: pa.DataType) -> pa.Array:
        """Return the values of codes (N,), NaN where missing, as an Arrow array of a type."""
        empty = np.isnan(codes)
        return self._decode(np.where(empty, 0, codes), empty, arrow_type)

    def texts(self, codes: np.ndarray, arrow_type: pa.DataType) -> list[str]:
        """Return the values of codes (N,), none of them missing, as a person writes them."""
        values = self.decode(codes, arrow_type).to_pylist()
        return [f"{value:.15g}" if isinstance(value, float) else str(value) for value in values]

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

    def grid_of(self, codes: np.ndarray, arrow_type: pa.DataType) -> tuple[int, ...]:
        """See `Column`."""
        grid, _ = _grid(codes.astype(np.int64))
        return grid["offset"], grid["unit"], 1

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

    arrow_types = ("integer",)

    @classmethod
    def measure(cls, values: Values, **common: Any) -> Column:
        """See `Column`: a `DayColumn`, where all are days written as whole numbers."""
        whole = _integers(values.array)
        return DayColumn.found(whole, values, **common) or cls(
            **common, **_exact_grid(whole, values)
        )

    def _code(self, values: Values) -> Coded:
        numbers = values.numbers()
        if numbers.dtype.kind != "f":
            return self.steps(numbers)
        whole = np.clip(np.rint(numbers), -(2.0**62), 2.0**62)
        codes, between = self.steps(whole.astype(np.int64))
        return codes, between | (whole != numbers)

    def _decode(self, codes: np.ndarray, empty: np.ndarray, own: pa.DataType) -> pa.Array:
        import pyarrow as pa

        return pa.array(self.whole(codes).astype(own.to_pandas_dtype()), own, mask=empty)


@final
@dataclass(frozen=True, kw_only=True)
class DayColumn(GridColumn):
    """Days that are written as whole numbers, 20241231, by the days since 1970.

    Times of day, such as 1745, are the minutes since midnight.

    Args:
        written: the order of year, month and day, as "ymd"; "hm" for times of day.
    """

    written: str = "ymd"

    arrow_types = ()  # `IntegerColumn` and `FloatColumn` ask whether whole numbers are days

    @classmethod
    def found(cls, whole: np.ndarray, values: Values, **common: Any) -> DayColumn | None:
        """Return the column if all of its whole numbers (N,) are days in one order."""
        written = days_written(whole[~values.empty])
        if written is None:
            return None
        return cls(**common, written=written, **_exact_grid(days_of(whole, written)[0], values))

    @classmethod
    def measure(cls, values: Values, **common: Any) -> Column:
        """See `Column`."""
        return IntegerColumn.measure(values, **common)

    def _code(self, values: Values) -> Coded:
        numbers = values.numbers()
        whole = np.clip(numbers, 0, 10**8).astype(np.int64)
        days, none = days_of(whole, self.written)
        codes, between = self.steps(days)
        return codes, none | between | (whole != numbers)

    def _decode(self, codes: np.ndarray, empty: np.ndarray, own: pa.DataType) -> pa.Array:
        import pyarrow as pa

        whole = whole_of(self.whole(codes), self.written)
        if pa.types.is_floating(own):
            return _floats(whole.astype(np.float64), empty, own, self.missing)
        return pa.array(whole.astype(own.to_pandas_dtype()), own, mask=empty)


@final
@dataclass(frozen=True, kw_only=True)
class TimeColumn(GridColumn):
    """Dates, times, time stamps and durations, by the integers that Arrow stores them as.

    Args:
        rounded: whether values between two steps are rounded down to one: nanoseconds over more
            than 104 days are more steps than float64 tells apart.
    """

    rounded: bool = False

    arrow_types = ("date", "time", "timestamp", "duration")

    @classmethod
    def measure(cls, values: Values, **common: Any) -> Column:
        """See `Column`."""
        whole = _stored_integers(values.array)
        grid, most = _grid(whole[~values.empty])
        unit = grid["unit"]
        while most >= 2**53:
            most, unit = most // 1000, unit * 1000
        return cls(**common, offset=grid["offset"], unit=unit, rounded=unit != grid["unit"])

    def _code(self, values: Values) -> Coded:
        codes, between = self.steps(_stored_integers(values.cast(values.arrow_type)))
        return codes, between & (not self.rounded)

    def _decode(self, codes: np.ndarray, empty: np.ndarray, own: pa.DataType) -> pa.Array:
        import pyarrow as pa

        whole = self.whole(codes).astype(f"int{own.bit_width}")
        return pa.array(whole, mask=empty).view(own)


@final
@dataclass(frozen=True, kw_only=True)
class DecimalColumn(GridColumn):
    """Decimal numbers of at most 18 digits."""

    arrow_types = ("decimal",)

    @classmethod
    def measure(cls, values: Values, **common: Any) -> Column:
        """See `Column`."""
        unscaled = _unscaled(values.array)
        if max(abs(int(unscaled.max())), abs(int(unscaled.min()))) >= 2**63:
            raise InputError(
                f"{values.where} has decimals of more than 18 digits; convert it to a float."
            )
        return cls(**common, **_exact_grid(unscaled.astype(np.int64), values))

    def _code(self, values: Values) -> Coded:
        unscaled = _unscaled(values.cast(values.arrow_type))
        whole = np.clip(unscaled, -(2**63), 2**63 - 1)
        codes, between = self.steps(whole.astype(np.int64))
        return codes, between | (whole != unscaled)

    def _decode(self, codes: np.ndarray, empty: np.ndarray, own: pa.DataType) -> pa.Array:
        import pyarrow as pa

        decimals = [Decimal(whole).scaleb(-own.scale) for whole in self.whole(codes).tolist()]
        return pa.array(decimals, own, mask=empty)


@final
@dataclass(frozen=True, kw_only=True)
class GridFloatColumn(GridColumn):
    """Floating-point numbers that are all (offset + k unit) / denominator.

    Args:
        denominator: the power of ten that makes every value a whole number.
    """

    denominator: int

    arrow_types = ()  # `FloatColumn` finds out whether numbers lie on a grid

    @classmethod
    def measure(cls, values: Values, **common: Any) -> Column:
        """See `Column`."""
        return FloatColumn.measure(values, **common)

    def _code(self, values: Values) -> Coded:
        numbers = values.numbers().astype(np.float64)
        whole = np.clip(np.rint(numbers * self.denominator), -(2.0**53), 2.0**53)
        codes, between = self.steps(whole.astype(np.int64))
        own = values.arrow_type.to_pandas_dtype()
        return codes, between | ((whole / self.denominator).astype(own) != numbers.astype(own))

    def _decode(self, codes: np.ndarray, empty: np.ndarray, own: pa.DataType) -> pa.Array:
        return _floats(self.whole(codes) / self.denominator, empty, own, self.missing)


@final
@dataclass(frozen=True, kw_only=True)
class FloatColumn(Column):
    """Floating-point numbers as they are.

    Args:
        digits: the decimals that all values have, and that decoded ones are rounded to; None for
            more than six.
    """

    digits: int | None

    arrow_types = ("floating",)

    @classmethod
    def measure(cls, values: Values, **common: Any) -> Column:
        """See `Column`: a `GridFloatColumn`, where the values lie on a grid of few enough steps."""
        numbers = values.numbers()[~values.empty]
        if np.abs(numbers).max() > LARGEST:
            raise InputError(f"{values.where} holds numbers beyond {LARGEST:g}; rescale it.")
        digits, grid = _decimal_grid(numbers, values.arrow_type)
        if digits == 0 and np.abs(numbers).max() <= LAST_DAY:
            whole = np.where(values.empty, 0, values.numbers()).astype(np.int64)
            if days := DayColumn.found(whole, values, **common):
                return days
        if grid:
            return GridFloatColumn(**common, **grid, denominator=10**digits)
        return cls(**common, digits=digits)

    def grid_of(self, codes: np.ndarray, arrow_type: pa.DataType) -> tuple[int, ...]:
        """See `Column`."""
        digits, grid = _decimal_grid(codes, arrow_type)
        return (grid["offset"], grid["unit"], 10**digits) if grid else ()

    def _code(self, values: Values) -> Coded:
        numbers = values.numbers().astype(np.float64)
        return numbers, np.zeros(len(numbers), dtype=bool)

    def _decode(self, codes: np.ndarray, empty: np.ndarray, own: pa.DataType) -> pa.Array:
        numbers = codes if self.digits is None else np.round(codes, self.digits)
        return _floats(numbers, empty, own, self.missing)


@final
@dataclass(frozen=True, kw_only=True)
class BooleanColumn(Column):
    """False and True."""

    arrow_types = ("boolean",)

    @classmethod
    def measure(cls, values: Values, **common: Any) -> Column:
        """See `Column`."""
        return cls(**common, categories=(False, True))

    def _code(self, values: Values) -> Coded:
        numbers = values.numbers().astype(np.float64)
        return numbers, (numbers != 0) & (numbers != 1)

    def _decode(self, codes: np.ndarray, empty: np.ndarray, own: pa.DataType) -> pa.Array:
        import pyarrow as pa

        return pa.array(codes > 0.5, own, mask=empty)


@final
@dataclass(frozen=True, kw_only=True)
class CategoryColumn(Column):
    """Strings, and dictionaries of strings, numbers or booleans."""

    arrow_types = (*_STRINGS, "dictionary")

    @classmethod
    def measure(cls, values: Values, **common: Any) -> Column:
        """See `Column`. A dictionary's categories count even where no row has them."""
        declared, rows = values.dictionary, len(values.array)
        found = values.array.unique().drop_null() if declared is None else declared
        categories = found.to_pylist()
        most = min(MOST_CATEGORIES, rows / 2) if declared is None else MOST_CATEGORIES
        if len(categories) > most:
            raise LeftOut(
                f"{values.where} has {len(categories):,} different values in {rows:,} rows, as an "
                "identifier or free text has"
            )
        if declared is None:
            return cls(**common, ordered=False, categories=tuple(sorted(categories)))
        ordered = bool(values.arrow_type.ordered)
        return cls(**common, ordered=ordered, categories=tuple(categories))

    def _code(self, values: Values) -> Coded:
        import pyarrow as pa
        import pyarrow.compute as pc

        own = _plain_type(values.arrow_type)
        categories = pa.array(self.categories, own)
        index = pc.index_in(values.cast(own), value_set=categories)  # type: ignore[attr-defined]
        codes = index.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.float64)
        return codes, codes < 0

    def _decode(self, codes: np.ndarray, empty: np.ndarray, own: pa.DataType) -> pa.Array:
        import pyarrow as pa

        index = codes.astype(np.int64)
        if not _type_is(own, "dictionary"):
            return pa.array([self.categories[i] for i in index.tolist()], own, mask=empty)
        return pa.DictionaryArray.from_arrays(
            pa.array(index, mask=empty).cast(own.index_type),
            pa.array(self.categories, own.value_type),
            ordered=own.ordered,
        )


COLUMNS: Mapping[str, type[Column]] = {
    "integer": IntegerColumn,
    "day": DayColumn,
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
    values = Values.of(array, array.type, where)
    if values.empty.all():
        raise LeftOut(f"{where} is empty in all {len(array):,} rows", "remove it or fill it")
    sorts = (sort for sort in COLUMNS.values() if _type_is(array.type, *sort.arrow_types))
    sort = next(sorts, None)
    simple = (*_STRINGS, "integer", "floating", "boolean")
    if sort is None or (values.dictionary is not None and not _type_is(values.array.type, *simple)):
        reason = f"{where} has the type {array.type}, which cannot be modelled"
        raise LeftOut(reason, "remove or convert it")
    missing = "null" if array.null_count else "nan" if values.empty.any() else "no"
    return sort.measure(values, name=name, missing=missing)


# --- Arrow's values as numbers


class Values(NamedTuple):
    """Values to be coded: without a dictionary, strings of any type as large strings."""

    array: pa.Array
    empty: np.ndarray  # (N,) where they are missing
    arrow_type: pa.DataType  # what the column is in the training data
    where: str  # the table and the column, for messages
    dictionary: pa.Array | None  # the categories that were declared

    @classmethod
    def of(cls, array: pa.Array, arrow_type: pa.DataType, where: str) -> Values:
        """Return the values of any Arrow array."""
        dictionary = array.dictionary if _type_is(array.type, "dictionary") else None
        plain = array if dictionary is None else dictionary
        plain = plain.cast(_plain_type(plain.type))
        plain = plain if dictionary is None else plain.take(array.indices)
        empty = np.asarray(plain.is_null(nan_is_null=True))
        return cls(plain, empty, arrow_type, where, dictionary)

    def cast(self, own: pa.DataType, said: pa.DataType | None = None) -> pa.Array:
        """Return them in a type. Raises InputError, naming a value that cannot be cast."""
        array = text_to(self.array, own)
        if array is not None:
            return array
        for row in np.flatnonzero(~self.empty).tolist():
            if text_to(self.array[row : row + 1], own) is None:
                raise InputError(
                    f"{self.where} holds {self.array[row].as_py()!r} in row {row + 1:,}, and in "
                    f"training it held {said or own}; correct it."
                )
        raise InputError(
            f"{self.where} is of type {self.array.type}, and in training was {said or own}; "
            "convert it."
        )

    def numbers(self) -> np.ndarray:
        """Return whole numbers as they are and all others as float64, 0 where missing."""
        import pyarrow as pa

        array = self.array
        if _type_is(array.type, "large_string"):  # exactly, if it spells numbers of the own type
            array = text_to(array, self.arrow_type) or array
        if _type_is(array.type, "boolean"):
            array = array.cast(pa.int8())
        if _type_is(array.type, "integer"):
            return _integers(array)
        if _type_is(array.type, "temporal"):
            raise InputError(
                f"{self.where} holds dates or times, and in training was {self.arrow_type}; "
                "convert it."
            )
        floats = self._replace(array=array).cast(pa.float64(), self.arrow_type)
        numbers = np.where(self.empty, 0, floats.to_numpy(zero_copy_only=False))
        infinite = np.flatnonzero(np.isinf(numbers))
        if len(infinite):
            raise InputError(
                f"{self.where} holds {len(infinite):,} infinite values, the first in row "
                f"{infinite[0] + 1:,}; replace them or remove those rows."
            )
        return numbers


def _type_is(arrow_type: pa.DataType, *names: str) -> bool:
    """Return whether any of `pyarrow.types.is_NAME` holds."""
    import pyarrow.types

    return any(getattr(pyarrow.types, f"is_{name}")(arrow_type) for name in names)  # by its name


def _plain_type(arrow_type: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if _type_is(arrow_type, "dictionary"):
        return _plain_type(arrow_type.value_type)
    return pa.large_string() if _type_is(arrow_type, *_STRINGS) else arrow_type


def text_to(array: pa.Array, arrow_type: pa.DataType) -> pa.Array | None:
    """Return an array in a type, text as what it spells; None if some value is none of it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        if _type_is(array.type, *_STRINGS) and _type_is(arrow_type, "time"):
            day = pc.binary_join_element_wise("1970-01-01 ", array, "")  # type: ignore[attr-defined]
            return day.cast(pa.timestamp("ns")).cast(arrow_type)
        if _type_is(array.type, *_STRINGS) and _type_is(arrow_type, "duration"):
            counts = [read_duration(text, arrow_type.unit) for text in array.to_pylist()]
            return pa.array(counts, pa.int64()).cast(arrow_type)
        return array.cast(arrow_type)
    except (pa.ArrowException, NotImplementedError, ValueError):
        return None


def _integers(array: pa.Array) -> np.ndarray:
    """Return an array of integers as uint64 if it is that, else as int64; 0 where missing."""
    whole = array.fill_null(0).to_numpy(zero_copy_only=False)
    return whole if whole.dtype == np.uint64 else whole.astype(np.int64)


def _stored_integers(array: pa.Array) -> np.ndarray:
    """Return the integers that dates and times are stored as."""
    import pyarrow as pa

    return _integers(array.view({32: pa.int32(), 64: pa.int64()}[array.type.bit_width]))


def _unscaled(array: pa.Array) -> np.ndarray:
    """Return decimals times 10**scale as Python integers, 0 where missing."""
    scale, values = array.type.scale, array.to_pylist()
    return np.array([0 if v is None else int(v.scaleb(scale)) for v in values], dtype=object)


def _floats(numbers: np.ndarray, empty: np.ndarray, own: pa.DataType, missing: str) -> pa.Array:
    import pyarrow as pa

    values = numbers.astype(own.to_pandas_dtype())
    if missing == "nan":
        return pa.array(np.where(empty, values.dtype.type(np.nan), values), own)
    return pa.array(values, own, mask=empty)


class _EqualSteps(TypedDict):
    """Whole numbers `offset + k * unit`."""

    offset: int
    unit: int


def _grid(whole: np.ndarray) -> tuple[_EqualSteps, int]:
    """Return offset and unit of whole numbers, int64 or uint64, and the greatest step."""
    least = int(whole.min())
    apart = whole.astype(np.uint64) - np.uint64(least % 2**64)  # modulo 2**64
    unit = int(np.gcd.reduce(apart)) or 1
    return {"offset": least, "unit": unit}, int(apart.max()) // unit


def _decimal_grid(numbers: np.ndarray, own: pa.DataType) -> tuple[Any, _EqualSteps | None]:
    """Return the decimals of numbers, None for more than six; offset and unit if on a grid."""
    exact = own.to_pandas_dtype()
    for digits in range(7):
        whole = np.rint(numbers * 10**digits)
        if np.abs(whole).max() >= 2**53:
            break
        if np.array_equal((whole / 10**digits).astype(exact), numbers.astype(exact)):
            grid, most = _grid(whole.astype(np.int64))
            return digits, grid if most < GRID_STEPS else None
    return None, None


def _exact_grid(whole: np.ndarray, values: Values) -> _EqualSteps:
    """Return offset and unit. Raises InputError for more steps than float64 tells apart."""
    grid, most = _grid(whole[~values.empty])
    if most >= 2**53:
        raise LeftOut(
            f"{values.where} spans more than 2**53 steps, as identifiers do",
            "remove it or make it a float",
        )
    return grid

"""Codes of a column -> the numbers they stand for, and their parts: hour of a time, month of a day.

A rule between columns is one between their numbers: `total = a + b` holds of amounts, not of the
steps of three grids.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from undiffuse.data.tables.columns import (
    Column,
    DayColumn,
    DecimalColumn,
    FloatColumn,
    GridColumn,
    GridFloatColumn,
    IntegerColumn,
    TimeColumn,
)
from undiffuse.data.tables.days import CLOCK

if TYPE_CHECKING:
    import pyarrow as pa

EXACT = 2**53  # float64 holds every whole number up to this one
DAY_MINUTES = 1440
INVERSE = "1/"  # the part of a number that is its reciprocal
_SECONDS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class Numbering(NamedTuple):
    """What a code k of a column stands for: the number (offset + k unit)/denominator.

    A unit of 0: codes are the numbers themselves, of 1/denominator if that is not 0.
    """

    offset: int
    unit: int
    denominator: int
    day: int = 0  # steps of 1/denominator in a day, for days and times
    is_clock: int = 0  # 1 for minutes since midnight that are written as hhmm

    @classmethod
    def of(cls, column: Column, arrow_type: pa.DataType) -> Numbering | None:
        """Return that of a column; None for categories, and for numbers beyond those of int64."""
        if isinstance(column, FloatColumn):
            return cls(0, 0, 0 if column.digits is None else 10**column.digits)
        if not isinstance(column, GridColumn) or column.offset >= 2**63:
            return None
        steps = (column.offset, column.unit)
        if isinstance(column, GridFloatColumn):
            return cls(*steps, column.denominator)
        if isinstance(column, DecimalColumn):
            return cls(*steps, 10 ** max(arrow_type.scale, 0))
        if isinstance(column, DayColumn):
            clock = column.written == CLOCK
            return cls(*steps, 1, DAY_MINUTES if clock else 1, int(clock))
        if isinstance(column, TimeColumn):
            return cls(*steps, 1, _day_of(arrow_type))
        assert isinstance(column, IntegerColumn)
        return cls(*steps, 1)

    @property
    def _origin(self) -> int:
        """The offset, left out where float64 could not add it: nanoseconds since 1970."""
        return self.offset if abs(self.offset) < EXACT else 0

    def numbers(self, codes: np.ndarray) -> np.ndarray:
        """Return the numbers of codes."""
        return (self._origin + self.unit * codes) / self.denominator if self.unit else codes

    def codes(self, numbers: np.ndarray) -> np.ndarray:
        """Return the codes next to numbers."""
        if not self.unit:
            at = self.denominator
            return np.round(numbers * at) / at if at else numbers
        return np.rint((np.rint(numbers * self.denominator) - self._origin) / self.unit)

    @property
    def step(self) -> float:
        """The step that codes are written in, in their own units; 0: they are any numbers."""
        return 1.0 if self.unit else 1 / self.denominator if self.denominator else 0.0

    def steps(self, numbers: np.ndarray) -> np.ndarray:
        """Return at which step of `step` numbers are, not rounded."""
        at = numbers * self.denominator
        return (at - self._origin) / self.unit if self.unit else at

    def ticks(self, codes: np.ndarray) -> np.ndarray:
        """Return whole numbers offset + k unit as int64, the first where a code is missing."""
        return self.offset + self.unit * np.floor(np.nan_to_num(codes)).astype(np.int64)

    def same(self, codes: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return where codes are equal, both missing included; numbers in between up to 1e-7."""
        if self.unit:
            close = codes == others
        else:
            close = np.abs(codes - others) <= 1e-7 * np.maximum(np.abs(codes), np.abs(others))
        return close | (np.isnan(codes) & np.isnan(others))

    def part(self, codes: np.ndarray, part: str) -> np.ndarray:
        """Return a part of each: one of `PARTS`, "//60", "%60"; "": the number itself.

        `INVERSE` is its reciprocal, NaN for that of 0.
        """
        if part in ("", INVERSE):
            numbers = self.numbers(codes)
            return 1 / np.where(numbers == 0, np.nan, numbers) if part else numbers
        if part in PARTS:
            found = PARTS[part](self.ticks(codes), self.day)
        elif part.startswith("//"):
            found = self.ticks(codes) // int(part[2:])
        else:
            found = self.ticks(codes) % int(part[1:])
        return np.where(np.isnan(codes), np.nan, found.astype(np.float64))


def nice(number: float) -> float:
    """Return the simple fraction that a number is up to rounding, or the number.

    >>> nice(0.33333333), nice(1 / 60e9) == 1 / 60e9
    (0.3333333333333333, True)
    """
    number = float(number)
    simple = float(Fraction(number).limit_denominator(1000))
    if abs(simple - number) <= 1e-5 * abs(number):
        return simple
    inverse = float(Fraction(1 / number).limit_denominator(1000))
    return 1 / inverse if abs(inverse * number - 1) <= 1e-5 else number


def to_common(one: Numbering, other: Numbering) -> tuple[int, int]:
    """Return by what the ticks of two columns are multiplied to be of one unit.

    >>> to_common(Numbering(0, 5, 10), Numbering(0, 1, 100))
    (10, 1)
    """
    units = [scale.denominator * max(scale.day, 1) for scale in (one, other)]
    common = math.lcm(*units)
    return common // units[0], common // units[1]


def _day_of(arrow_type: pa.DataType) -> int:
    """Return how many of the integers that Arrow stores are a day; 0 for durations."""
    import pyarrow as pa

    if pa.types.is_duration(arrow_type):
        return 0
    if pa.types.is_date32(arrow_type):
        return 1
    return 86_400 * _SECONDS["ms" if pa.types.is_date64(arrow_type) else arrow_type.unit]


def _days(ticks: np.ndarray, day: int) -> np.ndarray:
    return (ticks // day).astype("datetime64[D]")


def _within(outer: str, inner: str) -> Callable[[np.ndarray, int], np.ndarray]:
    """Return the number of inner periods, such as days, since the outer one, a month, began."""

    def count(ticks: np.ndarray, day: int) -> np.ndarray:
        days = _days(ticks, day)
        first = days.astype(f"datetime64[{outer}]").astype(f"datetime64[{inner}]")
        return (days.astype(f"datetime64[{inner}]") - first).astype(np.int64) + 1

    return count


PARTS: Mapping[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "year": lambda ticks, day: _days(ticks, day).astype("datetime64[Y]").astype(np.int64) + 1970,
    "month": _within("Y", "M"),
    "day": _within("M", "D"),
    "day of the year": _within("Y", "D"),
    "weekday": lambda ticks, day: (ticks // day + 3) % 7,
    "hour": lambda ticks, day: ticks % day // max(day // 24, 1),
    "minute": lambda ticks, day: ticks % max(day // 24, 1) // max(day // 1440, 1),
    "second": lambda ticks, day: ticks % max(day // 1440, 1) // max(day // 86_400, 1),
}
"""Parts of days and times: `part(ticks, ticks of a day)`."""


def parts_of(scale: Numbering) -> list[str]:
    """Return the parts of a column: of times, and quotients and remainders of whole numbers."""
    if scale.is_clock:
        return ["//60", "%60"]
    if scale.day:
        return [part for part in PARTS if scale.day > 1 or part not in ("hour", "minute", "second")]
    if scale.unit and scale.denominator == 1:
        return [f"{sign}{m}" for m in (10, 12, 24, 60, 100, 1000, 10_000) for sign in ("//", "%")]
    return []


def said_part(name: str, part: str, scale: Numbering) -> str:
    """Return what a part is called: "time // 100", "the month of day"."""
    if not part:
        return name
    if part == INVERSE:
        return f"1 / {name}"
    if part in PARTS:
        return f"the {part} of {name}"
    of = "100" if scale.is_clock else part.lstrip("/%")
    return f"{name} {'//' if part.startswith('//') else '%'} {of}"

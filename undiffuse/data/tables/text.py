"""Cells of a CSV file as text <-> values of a type.

A cell is read in two steps: its spelling becomes a plain one ("$1,234.50" -> "1234.50",
"31.12.2020" -> "2020-12-31"), and the plain one a value. The spelling of a column is found once, in
training, is kept in the metadata of its field, and serves new rows and the rows that are written.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as _compute

from undiffuse.data.tables.columns import text_to
from undiffuse.data.tables.durations import duration_text
from undiffuse.errors import InputError, unknown

pc: Any = _compute  # its functions are made at run time

NULLS = ["", "NA", "N/A", "n/a", "#N/A", "NULL", "null", "NaN", "nan", "None", "?"]
_KEY = b"undiffuse.spelling"  # of a field's metadata
_CURRENCY = r"US\$|R\$|[$€£¥₹₽₩₺]|USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|kr|zł"
_AFFIXES = re.compile(rf"[-+]?((?:{_CURRENCY})?\s*)[-+]?\d.*?(\s*(?:{_CURRENCY}|%)?)")
_CODE = r"^[+-]?0\d+$|^[+-]?0[xX]|^[+-]?\d{20,}$"  # digits that a number would not give back
_MARKS = (
    (",", "."),
    (".", ","),
    ("'", "."),
    ("’", "."),
    (" ", ","),
    ("\xa0", ","),
    ("\u202f", ","),
)
_SEPARATORS = ("/", ".", "-")
_LOOKED_AT = 50  # cells, for what stands before and after a number


@final
@dataclass(frozen=True)
class Plain:
    """Numbers, times, words as they are; between a day and a time a space or "T"."""

    between: str = " "

    def fits(self, cells: pa.Array) -> pa.Array:
        """Return which cells spell a number."""
        return pc.match_substring_regex(cells, r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")

    def plain(self, cells: pa.Array) -> pa.Array:
        """Return the cells in the plain spelling."""
        return cells

    def spell(self, text: str) -> str:
        """Return a plain spelling in this one."""
        return text.replace(" ", self.between)

    @property
    def meaning(self) -> str:
        """What such cells are, for people."""
        return "numbers"


@final
@dataclass(frozen=True)
class NumberSpelling:
    """Numbers with a decimal sign, thousands set apart, and text before and after.

    >>> NumberSpelling(before="$", group=",").spell("-1234567.5")
    '-$1,234,567.5'
    """

    before: str = ""
    after: str = ""
    group: str = ""
    decimal: str = "."

    def fits(self, cells: pa.Array) -> pa.Array:
        """See `Plain`."""
        before, after, group, decimal = map(re.escape, asdict(self).values())
        whole = rf"(?:\d{{1,3}}(?:{group}\d{{3}})+|\d+)" if group else r"\d+"
        start = rf"(?:[-+]?{before}|{before}[-+])"
        return pc.match_substring_regex(cells, rf"^{start}{whole}(?:{decimal}\d+)?{after}$")

    def plain(self, cells: pa.Array) -> pa.Array:
        """See `Plain`."""
        for text in filter(None, (self.before, self.after, self.group)):
            cells = pc.replace_substring(cells, text, "")
        cells = pc.replace_substring(cells, self.decimal, ".")
        return pc.replace_substring_regex(cells, r"^\+", "")

    def spell(self, text: str) -> str:
        """See `Plain`."""
        sign = "-" * text.startswith("-")
        whole, point, rest = text.removeprefix("-").partition(".")
        if self.group:
            whole = f"{int(whole):,}".replace(",", self.group)
        return sign + self.before + whole + (self.decimal if point else "") + rest + self.after

    @property
    def meaning(self) -> str:
        """See `Plain`."""
        return "numbers"


@final
@dataclass(frozen=True)
class DateSpelling:
    """Dates, or dates with a time of day, in another order than year, month, day.

    >>> DateSpelling(order="dmy", separator=".").spell("2020-12-31 08:00:00")
    '31.12.2020 08:00:00'
    """

    order: str
    separator: str

    def fits(self, cells: pa.Array) -> pa.Array:
        """See `Plain`."""
        return pc.match_substring_regex(cells, self._pattern)

    def plain(self, cells: pa.Array) -> pa.Array:
        """See `Plain`."""
        at = {part: self.order.index(part) + 1 for part in "ymd"}
        turned = rf"\{at['y']}-\{at['m']}-\{at['d']} \4"
        cells = pc.replace_substring_regex(cells, self._pattern, turned)
        for pattern, padded in (
            (r"^(\d{4})-(\d)-", r"\1-0\2-"),
            (r"^(\d{4}-\d{2})-(\d) ", r"\1-0\2 "),
            (r" (\d):", r" 0\1:"),
            (r" $", ""),
        ):
            cells = pc.replace_substring_regex(cells, pattern, padded)
        return cells

    def spell(self, text: str) -> str:
        """See `Plain`."""
        date, space, time = text.partition(" ")
        parts = dict(zip("ymd", date.split("-")))
        return self.separator.join(parts[part] for part in self.order) + space + time

    @property
    def meaning(self) -> str:
        """See `Plain`."""
        first = {"d": "day", "m": "month", "y": "year"}[self.order[0]]
        return f"dates, {first} first"

    @property
    def _pattern(self) -> str:
        sides = {"y": r"(\d{4})", "m": r"(\d{1,2})", "d": r"(\d{1,2})"}
        date = re.escape(self.separator).join(sides[part] for part in self.order)
        return rf"^{date}(?:[ T](\d{{1,2}}:\d{{2}}(?::\d{{2}})?))?$"


@final
@dataclass(frozen=True)
class FormatSpelling:
    """Dates and times as a format of `strftime` writes them.

    >>> FormatSpelling("%d %b %Y").spell("2020-12-31")
    '31 Dec 2020'
    """

    format: str

    def fits(self, cells: pa.Array) -> pa.Array:
        """See `Plain`."""
        return pc.is_valid(self._read(cells, "seconds"))

    def plain(self, cells: pa.Array) -> pa.Array:
        """See `Plain`: without the time of day, where it is midnight in all."""
        times = self._read(cells, "auto")
        midnight = pc.all(pc.ends_with(times, " 00:00:00")).as_py()
        return pc.utf8_slice_codeunits(times, 0, 10) if midnight else times

    def spell(self, text: str) -> str:
        """See `Plain`."""
        return datetime.fromisoformat(text).strftime(self.format)

    @property
    def meaning(self) -> str:
        """See `Plain`."""
        return f"dates, {self.format}"

    def _read(self, cells: pa.Array, digits: str) -> pa.Array:
        """Return the cells as ISO 8601 has them, null where they are none. Arrow takes 31 Feb."""
        codes = cells.dictionary_encode()
        texts: list[str | None] = []
        for cell in codes.dictionary.to_pylist():
            try:
                texts.append(datetime.strptime(cell, self.format).isoformat(" ", digits))
            except ValueError:
                texts.append(None)
        return pa.array(texts, pa.string()).take(codes.indices)


Spelling = Plain | NumberSpelling | DateSpelling | FormatSpelling
SPELLINGS: Mapping[str, type[Any]] = {
    "plain": Plain,
    "number": NumberSpelling,
    "date": DateSpelling,
    "format": FormatSpelling,
}
"""Every sort of spelling, by the name it is recorded under."""

TYPES = (
    pa.int64(),
    pa.uint64(),
    pa.float64(),
    pa.bool_(),
    pa.date32(),
    pa.timestamp("s"),
    pa.timestamp("ns"),
    pa.timestamp("s", "UTC"),
    pa.timestamp("ns", "UTC"),
    pa.time32("s"),
)
"""What the cells of a column may be, the first that fits all of them; else they are words."""

WANTED: Mapping[str, Sequence[pa.DataType]] = {
    "number": TYPES[:3],
    "integer": TYPES[:2],
    "money": TYPES[:3],
    "boolean": TYPES[3:4],
    "date": TYPES[4:9],
    "time": TYPES[9:],
    "duration": tuple(map(pa.duration, ("s", "ms", "us", "ns"))),
    "category": (),
}
"""What the owner of a table may call a column -> the types that its values may have."""
TEXT, IDENTIFIER = "text", "identifier"
LEFT_OUT = (TEXT, IDENTIFIER)
"""What its owner may call a column that is not to be modelled: the latter is drawn anew."""


# --- training: how the cells of each column are spelled


@dataclass(frozen=True)
class Typed:
    """A column as values: how it was spelled, and the rows whose cells are no such values."""

    values: pa.Array
    spelling: Spelling = Plain()
    odd: tuple[int, ...] = ()


def typed_columns(
    table: pa.Table, delimiter: str, wanted: Mapping[str, Typed] | None = None
) -> dict[str, Typed]:
    """Return each column of cells (strings) as values, those that are `wanted` as they are there.

    A comma in "1,234" is a decimal sign if it is one for certain in another column, or if fields
    end with semicolons; else it sets thousands apart.
    """
    cells = {name: _whole(table.column(name)) for name in table.column_names}
    present = {name: _without_nulls(column) for name, column in cells.items()}
    comma = delimiter == ";" or any(_certainly_comma(column) for column in present.values())
    return {
        name: (wanted or {}).get(name) or _typed(column, present[name], comma)
        for name, column in cells.items()
    }


def typed_as(array: pa.Array, wanted: str, where: str) -> Typed:
    """Return a column as values of the type that its owner names.

    Args:
        array: cells of text, or values of another type.
        wanted: a key of `WANTED`, or the format of a date, such as "%d/%m/%Y".
        where: the table and the column, for messages.

    Raises:
        InputError: for another name, for a value that is none of the type, which it names, and for
            money that can be two amounts.
    """
    if wanted not in WANTED and "%" not in wanted:
        raise unknown(f"{where}:", "type", wanted, [*WANTED, *LEFT_OUT, "%d/%m/%Y"])
    text = is_text(array.type)
    if wanted == "category":
        return _as_category(array.cast(pa.string()) if text else array)
    allowed = TYPES[4:7] if "%" in wanted else WANTED[wanted]
    if not text:
        values = array if array.type in allowed else _first_of(array, allowed)
        if values is None:
            raise InputError(f"{where} holds {array.type}, and not {wanted}; leave its type out.")
        return Typed(values)
    present = _without_nulls(array.cast(pa.string()))
    spellings = [FormatSpelling(wanted)] if "%" in wanted else _spellings(present, comma=False)
    read = [(spelling, _as_values(spelling, present, allowed)) for spelling in spellings]
    fitting = [Typed(values, spelling) for spelling, values in read if values is not None]
    if not fitting:
        best = max(spellings, key=lambda spelling: pc.sum(spelling.fits(present)).as_py() or 0)
        row = next(_failing(present, lambda part: _as_values(best, part, allowed) is not None))
        raise InputError(
            f"{where} holds {present[row].as_py()!r} in row {row + 1:,}, which is not of type "
            f"{wanted}; correct it, or leave its type out."
        )
    if wanted == "money":
        _refuse_two_amounts(present, fitting, where)
    return fitting[0]


def is_text(arrow_type: pa.DataType) -> bool:
    """Return whether a type is one of strings."""
    return pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type)


def _as_category(array: pa.Array) -> Typed:
    """Return values as a dictionary of those that occur."""
    if pa.types.is_dictionary(array.type):
        return Typed(array)
    if pa.types.is_string(array.type):
        missing = pc.is_null(_without_nulls(array))
        array = pc.if_else(missing, pa.scalar(None, pa.string()), array)
    return Typed(array.dictionary_encode())


def _refuse_two_amounts(present: pa.Array, fitting: Sequence[Typed], where: str) -> None:
    """Raise InputError if a cell is one amount in one spelling, and another one in another."""
    first = fitting[0].values.cast(pa.float64())
    for other in fitting[1:]:
        second = other.values.cast(pa.float64())
        row = pc.index(pc.fill_null(pc.not_equal(first, second), False), True).as_py()
        if row >= 0:
            raise InputError(
                f"{where} holds {present[row].as_py()!r} in row {row + 1:,}, which can be "
                f"{first[row]} or {second[row]}; write it without thousands set apart, or leave "
                "its type out."
            )


def _first_of(array: pa.Array, allowed: Sequence[pa.DataType]) -> pa.Array | None:
    """Return the values in the first of some types that holds all of them."""
    return next((v for t in allowed if (v := text_to(array, t)) is not None), None)


def null_words(cells: pa.Array) -> dict[str, int]:
    """Return the words, and how often they occur, that stand for a missing value."""
    words = cells.filter(pc.is_in(cells, value_set=pa.array(NULLS[1:])))
    return {item["values"]: item["counts"] for item in words.value_counts().to_pylist()}


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.string())


def _without_nulls(cells: pa.Array) -> pa.Array:
    """Return cells without the space around them, null where they are missing."""
    trimmed = pc.utf8_trim_whitespace(cells)
    missing = pc.is_in(trimmed, value_set=pa.array(NULLS))
    return pc.if_else(missing, pa.scalar(None, pa.string()), trimmed)


def _certainly_comma(present: pa.Array) -> bool:
    """Return whether a comma can only be a decimal sign, in every cell."""
    signs = {s.decimal for s in _number_spellings(present) if _all(s.fits(present))}
    return signs == {","} and _any(present, ",")


def _typed(cells: pa.Array, present: pa.Array, comma: bool) -> Typed:
    words = pc.if_else(pc.is_null(present), pa.scalar(None, pa.string()), cells)
    if present.null_count == len(present):
        return Typed(pa.nulls(len(present)))
    if pc.any(pc.match_substring_regex(present, _CODE)).as_py():
        return Typed(words)
    spellings = _spellings(present, comma)
    for spelling in spellings:
        values = _as_values(spelling, present)
        if values is not None:
            return Typed(values, spelling)
    return _but_for_some(present, spellings) or Typed(words)


def _spellings(present: pa.Array, comma: bool) -> list[Spelling]:
    """Return how the cells may be spelled, the likeliest first."""
    numbers = sorted(_number_spellings(present), key=lambda s: (s.decimal == ",") != comma)
    dates = [DateSpelling(o, s) for s in _SEPARATORS for o in ("dmy", "mdy", "ymd")]
    grouped = [s for s in numbers if comma and s.decimal == "," and _any(present, s.group)]
    days = pc.all(pc.match_substring_regex(present, r"^\d{4}-\d\d-\d\dT")).as_py()
    return [*grouped, Plain("T") if days else Plain(), *numbers, *dates]


def _number_spellings(present: pa.Array) -> list[NumberSpelling]:
    some = present.drop_null()[:_LOOKED_AT].to_pylist()
    affixes = Counter(m.groups() for text in some if (m := _AFFIXES.fullmatch(text)))
    if not affixes:
        return []
    before, after = affixes.most_common(1)[0][0]
    marks = ([("", ".")] if before or after else []) + list(_MARKS)
    return [NumberSpelling(before, after, group, decimal) for group, decimal in marks]


def _as_values(
    spelling: Spelling, present: pa.Array, allowed: Sequence[pa.DataType] = TYPES
) -> pa.Array | None:
    """Return the cells as values of the first type of `allowed` that holds all of them."""
    if isinstance(spelling, Plain):
        return _first_of(present, allowed)
    if not _all(spelling.fits(present)):
        return None
    types = TYPES[:3] if isinstance(spelling, NumberSpelling) else TYPES[4:7]
    return _first_of(spelling.plain(present), [t for t in types if t in allowed])


def _but_for_some(present: pa.Array, spellings: Sequence[Spelling]) -> Typed | None:
    """Return cells that are values but for a few, as a line of units or of sums has.

    They are if there are too many different ones for categories, or if the odd ones stand in the
    first or the last line.
    """
    count = len(present) - present.null_count
    fits = [pc.fill_null(s.fits(present), False).to_numpy(zero_copy_only=False) for s in spellings]
    best = max(range(len(fits)), key=lambda i: fits[i].sum())
    odd = np.flatnonzero(~fits[best] & ~present.is_null().to_numpy(zero_copy_only=False))
    if len(odd) > max(3, 0.05 * count) or len(odd) > 0.1 * count:
        return None
    most = min(1000, len(present) / 2)
    if pc.count_distinct(present).as_py() <= most and not set(odd) <= {0, len(present) - 1}:
        return None
    values = _as_values(spellings[best], pc.if_else(pa.array(fits[best]), present, None))
    return None if values is None else Typed(values, spellings[best], tuple(odd.tolist()))


def _all(fits: pa.BooleanArray) -> bool:
    return bool(pc.all(fits).as_py())


def _any(cells: pa.Array, text: str) -> bool:
    return bool(text) and bool(pc.any(pc.match_substring(cells, text)).as_py())


# --- a run: its spellings and types


def with_spelling(field: pa.Field, spelling: Spelling) -> pa.Field:
    """Return a field that records how its cells are spelled."""
    if spelling == Plain():
        return field
    kind = next(name for name, sort in SPELLINGS.items() if isinstance(spelling, sort))
    return field.with_metadata({_KEY: json.dumps({"kind": kind, **asdict(spelling)})})


def spelling_of(field: pa.Field) -> Spelling:
    """Return how the cells of a field are spelled."""
    if not field.metadata or _KEY not in field.metadata:
        return Plain()
    recorded = json.loads(field.metadata[_KEY])
    return SPELLINGS[recorded.pop("kind")](**recorded)


def cells_to(cells: pa.Array, field: pa.Field, categories: Sequence[Any]) -> Typed:
    """Return cells of new rows as the values that a run holds.

    Args:
        cells: strings.
        field: the field of the run, which has the type and the spelling.
        categories: the values of a column of categories; one of them is never a missing value.

    Returns:
        The values, null where they are missing or none of the type; the latter are `odd`.
    """
    own = field.type
    if categories and not pa.types.is_boolean(own):
        missing = pa.array([null for null in NULLS if null not in set(map(str, categories))])
        is_missing = pc.is_in(cells, value_set=missing)
        return Typed(pc.if_else(is_missing, pa.scalar(None, pa.string()), cells))
    present, spelling = _without_nulls(cells), spelling_of(field)
    if not isinstance(spelling, Plain):
        present = pc.if_else(spelling.fits(present), spelling.plain(present), present)
    wider = [own] if pa.types.is_temporal(own) else [pa.int64(), pa.float64()]
    wider = [pa.timestamp("us")] if pa.types.is_date(own) or pa.types.is_timestamp(own) else wider
    for arrow_type in (own, *wider):
        values = text_to(present, arrow_type)
        if values is not None:
            return Typed(values)
    odd = tuple(_failing(present, lambda part: text_to(part, wider[-1]) is not None))
    fits = np.ones(len(present), dtype=bool)
    fits[list(odd)] = False
    kept = pc.if_else(pa.array(fits), present, pa.scalar(None, pa.string()))
    converted = (text_to(kept, arrow_type) for arrow_type in (own, *wider))
    return Typed(next(v for v in converted if v is not None), spelling, odd)


def _failing(array: pa.Array, works: Callable[[pa.Array], bool], start: int = 0) -> Iterator[int]:
    """Yield the positions at which something does not work, found by halving."""
    if works(array):
        return
    if len(array) == 1:
        yield start
        return
    half = len(array) // 2
    yield from _failing(array[:half], works, start)
    yield from _failing(array[half:], works, start + half)


def spelled(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    """Return the values of a column as the cells of a CSV file, as training had them."""
    spelling = spelling_of(field)
    if pa.types.is_duration(column.type):
        counts, unit = column.cast(pa.int64()).to_pylist(), column.type.unit
        return pa.array(
            [None if k is None else duration_text(k, unit) for k in counts], pa.string()
        )
    if spelling == Plain():
        return column
    if pa.types.is_floating(column.type):
        texts = [
            None if value is None else np.format_float_positional(value, trim="-")
            for value in column.to_pylist()
        ]
    else:
        texts = column.cast(pa.string()).to_pylist()
    return pa.array([None if text is None else spelling.spell(text) for text in texts], pa.string())

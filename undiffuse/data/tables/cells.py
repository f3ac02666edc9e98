"""Cells of text, of a CSV file or a sheet -> values; what was guessed is said in a note."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as _compute

from undiffuse.data.tables.opened import Like, TableSource
from undiffuse.data.tables.text import (
    Plain,
    Spelling,
    Typed,
    cells_to,
    null_words,
    spelling_of,
    typed_as,
    typed_columns,
    with_spelling,
)
from undiffuse.errors import InputError

pc: Any = _compute  # its functions are made at run time

_FEW = 3  # named in a sentence
_SUMS = ("total", "totals", "grand total", "sum", "subtotal", "average", "mean")


def as_values(source: TableSource, types: Mapping[str, str]) -> TableSource:
    """Return a table of values: what its cells show, or what its owner says, as in `typed_as`.

    Raises:
        InputError: for a value that is none of the wanted type.
    """
    if source.lines is None:
        return _with_types(source, types)
    cells, name = source.table, source.name
    wanted = {c: typed_as(source.column(c), t, source.where(c)) for c, t in types.items()}
    columns = typed_columns(cells, source.delimiter, wanted)
    notes = [*_headless(cells, columns, name), *source.notes, *_readings(cells, columns, name)]
    values = [column.values for column in columns.values()]
    table = pa.Table.from_arrays(values, schema=pa.schema(_fields(columns)))
    odd = {row: name for name, column in columns.items() for row in column.odd}
    if odd:
        table = table.filter(pa.array([i not in odd for i in range(table.num_rows)]))
        notes.append(_set_aside(source, odd))
    elif cells.num_rows:
        notes += _sums(cells, name)
    return replace(source, table=table, notes=tuple(notes), lines=None)


def _fields(columns: Mapping[str, Typed]) -> list[pa.Field]:
    return [
        with_spelling(pa.field(name, column.values.type), column.spelling)
        for name, column in columns.items()
    ]


def _with_types(source: TableSource, types: Mapping[str, str]) -> TableSource:
    """Return a table of values, some in the type that is wanted."""
    table = source.table
    read = {c: typed_as(source.column(c), t, source.where(c)) for c, t in types.items()}
    for field in _fields(read):
        place = table.column_names.index(field.name)
        table = table.set_column(place, field, read[field.name].values)
    return replace(source, table=table)


def as_in_run(source: TableSource, like: Like) -> TableSource:
    """Return cells of text as the values of a run; what is none of them is said of its row.

    In a table of values, such cells are those of text columns that the run's spelling reads.
    """
    odd: dict[int, str] = {}
    cells = source.table
    for i, column in enumerate(cells.column_names):
        if column not in like:
            continue
        texts = source.column(column)
        if source.lines is None:
            spelled = not isinstance(spelling_of(like[column][0]), Plain)
            if not spelled or not (
                pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)
            ):
                continue
            texts = texts.cast(pa.string())
        read = cells_to(texts, *like[column])
        for row in read.odd:
            what = f"{texts[row].as_py()!r}, and in training it held {like[column][0].type}"
            odd.setdefault(row, f'column "{column}" holds {what}')
        if len(read.odd) == len(texts) > 0 and not source.part:
            raise InputError(f"{source.name}: {odd[0]} in every row; correct it.")
        cells = cells.set_column(i, column, read.values)
    return replace(source, table=cells, odd=odd, lines=None)


def _headless(cells: pa.Table, columns: Mapping[str, Typed], name: str) -> list[str]:
    """Return a note on names that would be values of their columns.

    Raises InputError if all are: the first line holds values, and so no names.
    """

    def is_value(header: str, column: Typed) -> bool:
        if pa.types.is_string(column.values.type):
            return pc.any(pc.equal(cells.column(header), header)).as_py() is True
        if column.values.type == pa.null() or not header.strip():
            return False
        field = with_spelling(pa.field("", column.values.type), column.spelling)
        return not cells_to(pa.array([header]), field, ()).odd

    values = [header for header, column in columns.items() if is_value(header, column)]
    if len(values) == len(columns):
        first = ", ".join(cells.column_names[:_FEW])
        raise InputError(
            f'{name}: the first line ("{first}") holds values, not column names; '
            "add a line of names."
        )
    odd = [header for header in values if not header.strip().isdigit()]  # a year may be a name
    return [
        f'{name}: the first line is taken for names, though "{header}" could be a value of its '
        "column; if it holds values, add a line of names."
        for header in odd[:1]
    ]


def _readings(cells: pa.Table, columns: Mapping[str, Typed], name: str) -> list[str]:
    """Return a note on each spelling that was understood, and on words taken for missing values."""
    alike: dict[Spelling, list[str]] = {}
    notes = []
    for column, read in columns.items():
        if not isinstance(read.spelling, Plain):
            alike.setdefault(read.spelling, []).append(column)
        words = null_words(cells.column(column).combine_chunks())
        if words:
            counts = ", ".join(f'{count:,} "{word}"' for word, count in sorted(words.items()))
            notes.append(f'{name}: column "{column}": {counts} are taken for missing values.')
    for spelling, names in alike.items():
        texts = cells.column(names[0])
        row = next(i for i, value in enumerate(columns[names[0]].values) if value.is_valid)
        meaning = f'"{texts[row]}" is {columns[names[0]].values[row]}'
        shown = ", ".join(f'"{item}"' for item in names[:_FEW]) + ", ..." * (len(names) > _FEW)
        plural = "columns" if len(names) > 1 else "column"
        are = "are" if len(names) > 1 else "is"
        notes.append(f"{name}: {plural} {shown} {are} read as {spelling.meaning}: {meaning}.")
    return notes


def _sums(cells: pa.Table, name: str) -> list[str]:
    """Return a note on a last row that is called a total."""
    last = {column: str(cells.column(column)[-1]).strip(" :") for column in cells.column_names}
    return [
        f'{name}: the last row holds "{text}" in column "{column}", as a line of sums does; '
        "remove it unless it is a row like the others."
        for column, text in last.items()
        if text.lower() in _SUMS and pc.sum(pc.equal(cells.column(column), text)).as_py() == 1
    ][:1]


def _set_aside(source: TableSource, odd: Mapping[int, str]) -> str:
    """Return a note on rows with a cell that is no value of its column, with their lines."""
    assert source.lines is not None
    lines, cells = source.lines(), source.table
    shown = [
        f'{lines[row]} holds "{cells.column(odd[row])[row]}" in column "{odd[row]}"'
        for row in sorted(odd)[:_FEW]
    ] + ["..."] * (len(odd) > _FEW)
    count = f"{len(odd):,} of {cells.num_rows:,} rows {'is' if len(odd) == 1 else 'are'} left out"
    return f"{source.name}: {count}: {', '.join(shown)}, and the others hold other values there."

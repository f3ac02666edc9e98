"""CSV and Parquet files, and frames of pandas, polars or whatever speaks Arrow -> Arrow tables.

What is wrong with a file is said in terms of its lines.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import pyarrow as pa
import pyarrow.compute as _compute
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from undiffuse.data.folder import are_few
from undiffuse.data.tables.text import (
    Plain,
    Spelling,
    Typed,
    cells_to,
    null_words,
    typed_columns,
    with_spelling,
)
from undiffuse.errors import InputError

pc: Any = _compute  # its functions are made at run time

DELIMITERS = (",", ";", "\t", "|")
SNIFFED = 65536  # characters of the file that are looked at for the delimiter
_FEW = 3  # named in a sentence
_SUMS = ("total", "totals", "grand total", "sum", "subtotal", "average", "mean")


Like = Mapping[str, tuple[pa.Field, Sequence[Any]]]
"""The columns of a run: the field of each, and its categories."""


@final
@dataclass(frozen=True)
class TableSource:
    """An Arrow table, each column in one piece, and what is known about where it came from.

    Args:
        table: the table.
        name: what it is called in messages.
        library: the library of the frame it came in, "arrow" for a file; a key of `form.LIBRARIES`.
        delimiter: what separates its fields as CSV.
        notes: what was left out and how cells were read, one sentence each.
        odd: what is wrong with some rows, by number: a cell that no value of its column is.
    """

    table: pa.Table
    name: str
    library: str = "arrow"
    delimiter: str = ","
    notes: tuple[str, ...] = ()
    odd: Mapping[int, str] = field(default_factory=dict)

    def column(self, name: str) -> pa.Array:
        """Return a column as one array."""
        chunks = self.table.column(name)
        return chunks.chunk(0) if chunks.num_chunks == 1 else pa.concat_arrays(chunks.chunks)

    def where(self, name: str) -> str:
        """Return what a column is called in messages."""
        return f'{self.name}: column "{name}"'


def open_table(source: Path | Any, *, like: Like | None = None) -> TableSource:
    """Return the table in a file or a frame.

    Args:
        source: the Path of a .csv, .tsv or .parquet file, or a frame.
        like: the columns of a run that it has the rows of: cells of text are read as those were,
            and one row is enough; else the cells show what they are, and two rows are needed.

    Raises:
        InputError: for a damaged file, what is no table, two columns of one name, and too few rows.
    """
    least = 2 if like is None else 1
    if not isinstance(source, Path):
        return _checked(_from_frame(source), least)
    if not source.is_file():
        raise InputError(f"{source}: no such file; check the path.")
    if source.suffix.lower() not in READERS:
        raise InputError(
            f"{source.name}: not a table that can be read ({', '.join(READERS)}); convert it."
        )
    return _checked(READERS[source.suffix.lower()](source, like), least)


def _from_frame(source: Any) -> TableSource:
    origin = type(source).__module__.partition(".")[0]
    name, notes = f"{origin} table", ()
    try:
        if origin == "pandas" and hasattr(source, "columns"):  # a frame, not a series
            frame = source.reset_index(drop=True)
            if len({type(column) for column in frame.columns}) > 1:  # text beside numbers
                frame = frame.rename(columns=str)
            _refuse_twins([str(column) for column in frame.columns], name)
            frame, mixed = _with_mixed_as_text(frame, name)
            source, strange = _without_strange(frame, name)
            notes = (*mixed, *strange)
            table = pa.Table.from_pandas(source)
        else:
            table = pa.table(source)
    except (pa.ArrowException, TypeError, ValueError) as problem:
        if isinstance(problem, InputError):
            raise
        reason = "; ".join(map(str, problem.args) if problem.args else [str(problem)])
        reason = " ".join(reason.split()).rstrip(".")  # pandas names the column in the second part
        raise InputError(
            f"{name}: not a table of plain columns ({reason}); convert it."
        ) from problem
    library = origin if origin in ("pandas", "polars") else "arrow"
    return TableSource(table, name, library, notes=notes)


def _with_mixed_as_text(frame: Any, name: str) -> tuple[Any, tuple[str, ...]]:
    """Return a pandas frame whose columns of text among other values are text, and notes."""
    frame, notes = frame.copy(deep=False), []
    for column in [name for name, kind in frame.dtypes.items() if str(kind) == "object"]:
        values = frame[column]
        kinds = {type(value).__name__ for value in values[values.notna()]}
        if len(kinds) > 1 and "str" in kinds:
            frame[column] = values.where(values.isna(), values.astype(str))
            notes.append(
                f'{name}: column "{column}" holds {", ".join(sorted(kinds))}; all are read as text.'
            )
    return frame, tuple(notes)


def _without_strange(frame: Any, name: str) -> tuple[Any, list[str]]:
    """Return a pandas frame without the columns that Arrow cannot hold, if not all, and notes."""
    strange: list[Any] = []
    for column in frame.columns:
        try:
            pa.array(frame[column], from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError):
            strange.append(column)
    if len(strange) == len(frame.columns):
        return frame, []  # which is then refused
    what = "holds values that are no numbers, times or text; it is left out."
    notes = [f'{name}: column "{column}" {what}' for column in strange]
    return frame.drop(columns=strange), notes


def _checked(source: TableSource, least: int) -> TableSource:
    """Return the table without a frame's index, each column in one piece."""
    table, name, notes = source.table, source.name, source.notes
    index = [column for column in table.column_names if column.startswith("__index_level_")]
    if index:
        table = table.drop_columns(index)
        notes = (*notes, f"{name}: the frame's index was left out.")
    if table.num_columns == 0:
        raise InputError(f"{name}: has no columns; there is nothing to learn from.")
    _refuse_twins(table.column_names, name)
    if table.num_rows < least:
        rows = "one row" if table.num_rows else "no rows"
        needed = "two are" if least == 2 else "one is"
        raise InputError(f"{name}: has {rows}; at least {needed} needed.")
    return replace(source, table=table.unify_dictionaries().combine_chunks(), notes=notes)


def _refuse_twins(names: Sequence[Any], where: str) -> None:
    twin = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twin is not None:
        raise InputError(f'{where}: two columns are called "{twin}"; rename one.')


def _read_csv(path: Path, like: Like | None) -> TableSource:
    """Return the table; the first line names the columns."""
    head = _head(path)
    delimiter = sniff_delimiter(head)
    names = next(csv.reader(head.splitlines(), delimiter=delimiter), [])
    if names and all(_is_number(name) for name in names):
        raise InputError(
            f"{path.name}: the first line holds numbers, not column names; add a line of names."
        )
    cells, skipped = _cells(path, delimiter, '"' in head, skip=like is None)
    _refuse_twins(cells.column_names, path.name)
    if like is not None:
        return _as_in_run(cells, path.name, delimiter, like)
    columns = typed_columns(cells, delimiter)
    headless = _headless(cells, columns, path.name)
    fields = [
        with_spelling(pa.field(name, column.values.type), column.spelling)
        for name, column in columns.items()
    ]
    values = [column.values for column in columns.values()]
    table = pa.Table.from_arrays(values, schema=pa.schema(fields))
    odd = {row: name for name, column in columns.items() for row in column.odd}
    notes = [*headless, *skipped, *_readings(cells, columns, path.name)]
    if odd:
        table = table.filter(pa.array([i not in odd for i in range(table.num_rows)]))
        notes.append(_set_aside(path, delimiter, cells, odd))
    elif cells.num_rows:
        notes += _sums(cells, path.name)
    return TableSource(table, path.name, delimiter=delimiter, notes=tuple(notes))


def _as_in_run(cells: pa.Table, name: str, delimiter: str, like: Like) -> TableSource:
    """Return cells of text as the values of a run; what is none of them is said of its row."""
    odd: dict[int, str] = {}
    for i, column in enumerate(cells.column_names):
        if column not in like:
            continue
        texts = cells.column(column).combine_chunks()
        read = cells_to(texts, *like[column])
        for row in read.odd:
            what = f"{texts[row].as_py()!r}, and in training it held {like[column][0].type}"
            odd.setdefault(row, f'column "{column}" holds {what}')
        if len(read.odd) + read.values.null_count > 0 and len(read.odd) == len(texts):
            raise InputError(f"{name}: {odd[0]} in every row; correct it.")
        cells = cells.set_column(i, column, read.values)
    return TableSource(cells, name, delimiter=delimiter, odd=odd)


def _cells(path: Path, delimiter: str, quoted: bool, *, skip: bool) -> tuple[pa.Table, list[str]]:
    """Return all cells of a CSV file as strings, and notes.

    Lines with another number of fields than the header are left out if they are few and `skip`.
    """
    skipped: list[pacsv.InvalidRow] = []

    def parsing(note: Callable[[pacsv.InvalidRow], None]) -> pacsv.ParseOptions:
        def handle(row: pacsv.InvalidRow) -> str:
            note(row)
            return "skip" if skip else "error"

        options = {"delimiter": delimiter, "newlines_in_values": quoted}
        return pacsv.ParseOptions(**options, invalid_row_handler=handle)

    names: list[str] = []
    try:
        with path.open("rb") as stream:  # Arrow takes no path that is not UTF-8
            names = pacsv.open_csv(stream, parse_options=parsing(lambda row: None)).schema.names
        as_text = pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        options = parsing(skipped.append)
        with path.open("rb") as stream:
            table = pacsv.read_csv(stream, parse_options=options, convert_options=as_text)
    except pa.ArrowInvalid as problem:
        column = re.search(r"column #(\d+).*invalid UTF8", str(problem), re.DOTALL)
        if column:
            name = names[int(column[1])]
            raise InputError(
                f'{path.name}: column "{name}" is not UTF-8 text; save the file as UTF-8.'
            ) from problem
        reason = _uneven(path, delimiter)
        other = f"could not be read as CSV ({str(problem).splitlines()[0]}); check the file."
        raise InputError(
            f"{path.name}: {reason}; make them equal." if reason else f"{path.name}: {other}"
        ) from problem
    except OSError as problem:
        raise InputError(
            f"{path.name}: could not be read ({problem}); check the file."
        ) from problem
    if not skipped:
        return table, []
    total, reason = table.num_rows + len(skipped), _uneven(path, delimiter)
    if not are_few(len(skipped), total):
        raise InputError(f"{path.name}: {reason}; make them equal.")
    return table, [f"{path.name}: {len(skipped):,} of {total:,} rows are left out: {reason}."]


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


def _set_aside(path: Path, delimiter: str, cells: pa.Table, odd: Mapping[int, str]) -> str:
    """Return a note on rows with a cell that is no value of its column, with their lines."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        lines = [reader.line_num for record in reader if record][1:]
    shown = [
        f'line {lines[row]:,} holds "{cells.column(odd[row])[row]}" in column "{odd[row]}"'
        for row in sorted(odd)[:_FEW]
    ] + ["..."] * (len(odd) > _FEW)
    count = f"{len(odd):,} of {cells.num_rows:,} rows {'is' if len(odd) == 1 else 'are'} left out"
    return f"{path.name}: {count}: {', '.join(shown)}, and the others hold other values there."


def _head(path: Path) -> str:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            head = file.read(SNIFFED)
    except UnicodeDecodeError as problem:
        raise InputError(f"{path.name}: is not UTF-8 text; save the file as UTF-8.") from problem
    except OSError as problem:
        raise InputError(
            f"{path.name}: could not be read ({problem.strerror}); check the file."
        ) from problem
    if not head.strip():
        raise InputError(f"{path.name}: the file is empty; check the path.")
    return head


def sniff_delimiter(head: str) -> str:
    r"""Return the delimiter that splits the first lines most evenly into the most fields.

    >>> sniff_delimiter("a;b\n1,5;2\n")
    ';'
    """
    lines = head.splitlines()
    lines = (lines[:-1] if len(lines) > 1 and len(head) >= SNIFFED else lines)[:50]

    def evenness(delimiter: str) -> tuple[bool, int]:
        fields = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        most_common = max(set(fields), key=fields.count)
        return fields[0] > 1 and fields.count(most_common) > 0.9 * len(fields), fields[0]

    return max(DELIMITERS, key=evenness)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _uneven(path: Path, delimiter: str) -> str:
    """Return what is wrong with the first line that has not as many fields as the header."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        try:
            expected = len(next(reader))
            for row in reader:
                if row and len(row) != expected:
                    return (
                        f"line {reader.line_num:,} has {len(row)} fields where the header has "
                        f"{expected}"
                    )
        except (csv.Error, StopIteration):
            pass
    return ""


def _read_parquet(path: Path, like: Like | None) -> TableSource:
    """Return the table, whose columns have types of their own."""
    try:
        with path.open("rb") as stream:
            return TableSource(pq.read_table(stream), path.name)
    except (pa.ArrowException, OSError, ValueError) as problem:
        reason = str(problem).splitlines()[0].rstrip(".")
        raise InputError(
            f"{path.name}: could not be read as Parquet ({reason}); check the file."
        ) from problem


READERS: Mapping[str, Callable[[Path, Like | None], TableSource]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
}
"""Suffix -> what reads such a file, on its own or as rows of a run."""

"""CSV and Parquet files, and frames of pandas, polars or whatever speaks Arrow -> Arrow tables.

What is wrong with a file is said in terms of its lines.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from undiffuse.errors import InputError

DELIMITERS = (",", ";", "\t", "|")
SNIFFED = 65536  # characters of the file that are looked at for the delimiter
NULLS = ["", "NA", "N/A", "n/a", "#N/A", "NULL", "null", "NaN", "nan", "None", "?"]
_DECIMAL_COMMA = re.compile(r"(^|;)\s*-?\d+,\d+\s*(;|$)", re.MULTILINE)


@final
@dataclass(frozen=True)
class TableSource:
    """An Arrow table, each column in one piece, and what is known about where it came from.

    Args:
        table: the table.
        name: what it is called in messages.
        library: the library of the frame it came in, "arrow" for a file; a key of `form.LIBRARIES`.
        delimiter: what separates its fields as CSV.
        notes: what was left out, one sentence each.
    """

    table: pa.Table
    name: str
    library: str = "arrow"
    delimiter: str = ","
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> pa.Array:
        """Return a column as one array."""
        chunks = self.table.column(name)
        return chunks.chunk(0) if chunks.num_chunks == 1 else pa.concat_arrays(chunks.chunks)

    def where(self, name: str) -> str:
        """Return what a column is called in messages."""
        return f'{self.name}: column "{name}"'


def open_table(source: Path | Any, *, least: int = 2) -> TableSource:
    """Return the table in a file or a frame.

    Args:
        source: the Path of a .csv, .tsv or .parquet file, or a frame.
        least: the fewest rows it must have, 1 or 2.

    Raises:
        InputError: for a damaged file, what is no table, two columns of one name, and too few rows.
    """
    if not isinstance(source, Path):
        return _checked(*_from_frame(source), least=least)
    if not source.is_file():
        raise InputError(f"{source}: no such file; check the path.")
    if source.suffix.lower() not in READERS:
        raise InputError(
            f"{source.name}: not a table that can be read ({', '.join(READERS)}); convert it."
        )
    table, delimiter = READERS[source.suffix.lower()](source)
    return _checked(table, source.name, "arrow", delimiter, least=least)


def _from_frame(source: Any) -> tuple[pa.Table, str, str]:
    origin = type(source).__module__.partition(".")[0]
    name = f"{origin} table"
    try:
        if origin == "pandas" and hasattr(source, "columns"):  # a frame, not a series
            _refuse_twins(list(source.columns), name)
            table = pa.Table.from_pandas(source.reset_index(drop=True))
        else:
            table = pa.table(source)
    except (pa.ArrowException, TypeError, ValueError) as problem:
        if isinstance(problem, InputError):
            raise
        reason = str(problem.args[0] if problem.args else problem).splitlines()[0].rstrip(".")
        raise InputError(
            f"{name}: not a table of plain columns ({reason}); convert it."
        ) from problem
    return table, name, origin if origin in ("pandas", "polars") else "arrow"


def _checked(
    table: pa.Table, name: str, library: str, delimiter: str = ",", *, least: int
) -> TableSource:
    """Return the table without a frame's index."""
    notes = ()
    index = [column for column in table.column_names if column.startswith("__index_level_")]
    if index:
        table = table.drop_columns(index)
        notes = (f"{name}: the frame's index was left out.",)
    if table.num_columns == 0:
        raise InputError(f"{name}: has no columns; there is nothing to learn from.")
    _refuse_twins(table.column_names, name)
    if table.num_rows < least:
        rows = "one row" if table.num_rows else "no rows"
        needed = "two are" if least == 2 else "one is"
        raise InputError(f"{name}: has {rows}; at least {needed} needed.")
    whole = table.unify_dictionaries().combine_chunks()
    return TableSource(whole, name, library, delimiter, notes)


def _refuse_twins(names: Sequence[Any], where: str) -> None:
    twin = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twin is not None:
        raise InputError(f'{where}: two columns are called "{twin}"; rename one.')


def _read_csv(path: Path) -> tuple[pa.Table, str]:
    """Return the table and its delimiter; the first line names the columns."""
    head = _head(path)
    delimiter = sniff_delimiter(head)
    names = next(csv.reader(head.splitlines(), delimiter=delimiter), [])
    if names and all(_is_number(name) for name in names):
        raise InputError(
            f"{path.name}: the first line holds numbers, not column names; add a line of names."
        )
    comma = delimiter == ";" and _DECIMAL_COMMA.search(head) is not None
    try:
        table = pacsv.read_csv(
            path,
            parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values='"' in head),
            convert_options=pacsv.ConvertOptions(
                null_values=NULLS, strings_can_be_null=True, decimal_point="," if comma else "."
            ),
        )
    except pa.ArrowInvalid as problem:
        raise _located(path, delimiter, problem) from problem
    except OSError as problem:
        raise InputError(
            f"{path.name}: could not be read ({problem}); check the file."
        ) from problem
    binary = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    if binary:
        raise InputError(
            f'{path.name}: column "{binary[0]}" is not UTF-8 text; save the file as UTF-8.'
        )
    return table, delimiter


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


def _located(path: Path, delimiter: str, problem: Exception) -> InputError:
    """Return the error for the first line with another number of fields than the header, if any."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        try:
            expected = len(next(reader))
            for row in reader:
                if row and len(row) != expected:
                    return InputError(
                        f"{path.name}: line {reader.line_num:,} has {len(row)} fields where the "
                        f"header has {expected}; make them equal."
                    )
        except (csv.Error, StopIteration):
            pass
    reason = str(problem).splitlines()[0]
    return InputError(f"{path.name}: could not be read as CSV ({reason}); check the file.")


def _read_parquet(path: Path) -> tuple[pa.Table, str]:
    """Return the table, and the comma, should it be written as CSV."""
    try:
        return pq.read_table(path), ","
    except (pa.ArrowException, OSError, ValueError) as problem:
        reason = str(problem).splitlines()[0].rstrip(".")
        raise InputError(
            f"{path.name}: could not be read as Parquet ({reason}); check the file."
        ) from problem


READERS: Mapping[str, Callable[[Path], tuple[pa.Table, str]]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
}
"""Suffix -> what reads such a file to (table, delimiter)."""

"""CSV and Parquet files -> pyarrow tables, with what is wrong with a file said in terms of its lines."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from undiffuse.errors import InputError

DELIMITERS = (",", ";", "\t", "|")
SNIFFED = 65536  # characters of the file that are looked at for the delimiter
NULLS = ["", "NA", "N/A", "n/a", "#N/A", "NULL", "null", "NaN", "nan", "None", "?"]
_DECIMAL_COMMA = re.compile(r"(^|;)\s*-?\d+,\d+\s*(;|$)", re.MULTILINE)


def read_csv(path: Path) -> tuple[pa.Table, str]:
    """The table and its delimiter, one of comma, semicolon, tab and bar; the first line names the columns.

    Raises InputError for an empty file, a file without a header, ragged lines, or text that is not UTF-8.
    """
    head = _head(path)
    delimiter = sniff(head)
    names = next(csv.reader(head.splitlines(), delimiter=delimiter), [])
    if names and all(_is_number(name) for name in names):
        raise InputError(
            f"{path.name}: the first line holds numbers, not column names; add a line of names."
        )
    comma = delimiter == ";" and _DECIMAL_COMMA.search(head) is not None
    options = {
        "parse_options": pacsv.ParseOptions(delimiter=delimiter, newlines_in_values='"' in head),
        "convert_options": pacsv.ConvertOptions(
            null_values=NULLS, strings_can_be_null=True, decimal_point="," if comma else "."
        ),
    }
    try:
        table = pacsv.read_csv(path, **options)
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


def sniff(head: str) -> str:
    """The delimiter that splits the first lines most evenly into the most fields.

    >>> sniff("a;b\\n1,5;2\\n")
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
    """The error for the first line whose number of fields differs from the header's, or the reader's own words."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        try:
            expected = len(next(reader))
            for row in reader:
                if row and len(row) != expected:
                    return InputError(
                        f"{path.name}: line {reader.line_num:,} has {len(row)} fields where the header has {expected}; "
                        "make them equal."
                    )
        except (csv.Error, StopIteration):
            pass
    return InputError(
        f"{path.name}: could not be read as CSV ({str(problem).splitlines()[0]}); check the file."
    )


def read_parquet(path: Path) -> tuple[pa.Table, str]:
    """The table (and the comma, should it be written as CSV). Raises InputError for a damaged file."""
    try:
        return pq.read_table(path), ","
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise InputError(
            f"{path.name}: could not be read as Parquet ({str(problem).splitlines()[0].rstrip('.')}); check the file."
        ) from problem


READERS: dict[str, Any] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".pq": read_parquet,
}

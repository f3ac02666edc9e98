"""CSV and TSV files -> cells of text. What is wrong is said in terms of their lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable

import pyarrow as pa
import pyarrow.csv as pacsv

from undiffuse.data.folder import Folder, are_few
from undiffuse.data.tables.opened import TableSource, as_one, refuse_twins
from undiffuse.data.tables.text_file import TextFile
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress
from undiffuse.reading import number_in

DELIMITERS = (",", ";", "\t", "|")
SNIFFED = 65536  # characters of the file that are looked at for the delimiter


def read_csv(folder: Folder, strict: bool, progress: Progress | None) -> TableSource:
    """Return the cells; the first line of each part names the columns.

    Args:
        folder: the parts.
        strict: whether lines with another number of fields than the header are refused, even if
            they are few.
        progress: unused; Arrow takes a second for a gigabyte.
    """
    texts = [TextFile.of(path) for path in folder.files]
    head = texts[0].head(SNIFFED)
    delimiter = sniff_delimiter(head)
    names = next(csv.reader(head.splitlines(), delimiter=delimiter), [])
    if names and all(number_in(name) is not None for name in names):
        raise InputError(
            f"{texts[0].name}: the first line holds numbers, not column names; add a line of names."
        )
    parts, notes = [], []
    for text in texts:
        part, skipped = _cells(text, delimiter, '"' in text.head(SNIFFED), skip=not strict)
        refuse_twins(part.column_names, text.name)
        parts.append(part)
        notes += skipped

    def lines() -> list[str]:
        found = []
        for text in texts:
            within = f" of {text.name}" if len(texts) > 1 else ""
            with text.lines() as file:
                reader = csv.reader(file, delimiter=delimiter)
                found += [f"line {reader.line_num:,}{within}" for record in reader if record][1:]
        return found

    return TableSource(
        as_one(parts, folder), folder.content, delimiter=delimiter, notes=tuple(notes), lines=lines
    )


def _cells(
    text: TextFile, delimiter: str, quoted: bool, *, skip: bool
) -> tuple[pa.Table, list[str]]:
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
        options = parsing(lambda row: None)
        with text.open() as stream, pacsv.open_csv(stream, parse_options=options) as reader:
            names = reader.schema.names
        as_text = pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        options = parsing(skipped.append)
        with text.open() as stream:
            table = pacsv.read_csv(stream, parse_options=options, convert_options=as_text)
    except pa.ArrowInvalid as problem:
        column = re.search(r"column #(\d+).*invalid UTF8", str(problem), re.DOTALL)
        if column:
            name = names[int(column[1])]
            raise InputError(
                f'{text.name}: column "{name}" is not UTF-8 text; save the file as UTF-8.'
            ) from problem
        reason = _uneven(text, delimiter)
        other = f"could not be read as CSV ({str(problem).splitlines()[0]}); check the file."
        raise InputError(
            f"{text.name}: {reason}; make them equal." if reason else f"{text.name}: {other}"
        ) from problem
    except OSError as problem:
        raise InputError(
            f"{text.name}: could not be read ({problem}); check the file."
        ) from problem
    if not skipped:
        return table, []
    total, reason = table.num_rows + len(skipped), _uneven(text, delimiter)
    if not are_few(len(skipped), total):
        raise InputError(f"{text.name}: {reason}; make them equal.")
    return table, [f"{text.name}: {len(skipped):,} of {total:,} rows are left out: {reason}."]


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


def _uneven(text: TextFile, delimiter: str) -> str:
    """Return what is wrong with the first line that has not as many fields as the header."""
    with text.lines(errors="replace") as file:
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

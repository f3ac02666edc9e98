"""Sheets of workbooks (.xlsx) -> cells of text, as a CSV file of them has."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import pyarrow as pa

from undiffuse.data.arrays.unpacked import check_unpacked
from undiffuse.data.folder import Folder
from undiffuse.data.paths import name_of, split_part
from undiffuse.data.tables.durations import duration_text
from undiffuse.data.tables.opened import TableSource, as_one, refuse_twins
from undiffuse.errors import InputError, unknown
from undiffuse.interfaces import Progress
from undiffuse.reading import printable, said

_OFTEN = 2000  # rows, after which progress is told


def read_workbook(folder: Folder, strict: bool, progress: Progress | None) -> TableSource:
    """Return the cells of a sheet: the one that is named, or else the first that holds any.

    The first row that is not empty names the columns. Formulas have the values that were saved.

    Args:
        folder: the workbooks.
        strict: unused: rows have no other number of fields.
        progress: is told how many rows were read.
    """
    tables, places, notes = [], [], []
    for path in folder.files:
        table, rows, others = _sheet(path, progress)
        within = f" of {name_of(path)}" if len(folder.files) > 1 else ""
        tables.append(table)
        places += [f"row {row:,}{within}" for row in rows]
        notes += others
    return TableSource(
        as_one(tables, folder), folder.content, notes=tuple(notes), lines=lambda: places
    )


def _sheet(path: Path, progress: Progress | None) -> tuple[pa.Table, list[int], list[str]]:
    """Return the cells, the row of each in the sheet, and a note on other sheets."""
    try:
        import openpyxl
    except ImportError as problem:
        raise InputError(
            "reading workbooks needs openpyxl; pip install 'undiffuse[science]'."
        ) from problem
    file, wanted = split_part(path)
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        check_unpacked(file, size, "save the sheet as .csv")
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        try:
            return _cells_of(path, book, wanted, progress)
        finally:
            book.close()
    except zipfile.BadZipFile as problem:
        raise InputError(
            f"{file.name}: is not a workbook, or is damaged or protected by a password; save "
            "it again."
        ) from problem
    except (OSError, KeyError, ValueError, TypeError, ParseError, AttributeError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(
            f"{file.name}: could not be read as a workbook ({said(problem)}); save it again."
        ) from problem


def _cells_of(
    path: Path, book: Any, wanted: str, progress: Progress | None
) -> tuple[pa.Table, list[int], list[str]]:
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    if wanted and wanted not in sheets:
        raise unknown(f"{split_part(path)[0].name}:", "sheet", wanted, sheets)
    for title in [wanted] if wanted else sheets:
        rows = _filled(sheets[title], f"reading {name_of(path)}", progress)
        _, names = next(rows, (0, ()))
        names, rows, notes = _below_title(names, rows, name_of(path))
        if names:
            table, places = _table(names, rows, name_of(path))
            others = [f'"{other}"' for other in sheets if other != title]
            note = (
                f'{name_of(path)}: the sheet "{title}" is read; {path.name}:NAME reads another '
                f"({', '.join(others)})."
            )
            return table, places, [*notes, *[note][: bool(others and not wanted)]]
    raise InputError(f"{name_of(path)}: has no cells with values; there is nothing to learn from.")


def _below_title(
    names: tuple[Any, ...], rows: Iterator[tuple[int, tuple[Any, ...]]], name: str
) -> tuple[tuple[Any, ...], Iterator[tuple[int, tuple[Any, ...]]], list[str]]:
    """Return the names of the columns, the rows below, and a note where the first row is a title.

    A title is one text, above several others that begin in the same column or further right.
    """
    below = next(rows, None)
    if below is None:
        return names, rows, []
    (place, cells), filled = below, [i for i, cell in enumerate(names) if cell is not None]
    texts = [i for i, cell in enumerate(cells) if isinstance(cell, str)]
    several = len(texts) > 1 and len(texts) == sum(cell is not None for cell in cells)
    if len(filled) > 1 or not several or not isinstance(names[filled[0]], str):
        return names, chain([below], rows), []
    if filled[0] > texts[0]:
        return names, chain([below], rows), []
    title = printable(names[filled[0]])
    return cells, rows, [f'{name}: "{title}" is taken for a title; row {place} names the columns.']


def _filled(
    sheet: Any, what: str, progress: Progress | None
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the number and the values of each row that is not empty."""
    total = sheet.max_row or 0
    for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
        if any(value is not None for value in row):
            yield number, row
        if progress and number % _OFTEN == 0:
            progress(number, max(total, number), what)


def _table(
    names: tuple[Any, ...], rows: Iterator[tuple[int, tuple[Any, ...]]], name: str
) -> tuple[pa.Table, list[int]]:
    """Return the cells below a row of names as texts, and the row of each in the sheet."""
    places, cells = [], []
    for place, row in rows:
        places.append(place)
        cells.append(row)
    width = max(map(len, [names, *cells]))
    columns = list(zip(*(row + (None,) * (width - len(row)) for row in cells))) or [()] * width
    titles = ["" if title is None else _text(title) for title in names]
    titles += [""] * (width - len(titles))
    kept = [
        i for i, column in enumerate(columns) if titles[i] or any(v is not None for v in column)
    ]
    refuse_twins([titles[i] for i in kept], name)
    arrays = [pa.array([_text(value) for value in columns[i]], pa.string()) for i in kept]
    return pa.Table.from_arrays(arrays, names=[titles[i] for i in kept]), places


def _text(value: Any) -> str | None:
    """Return the value of a cell as a CSV file has it.

    >>> _text(3.0), _text(True), _text(datetime(2024, 5, 1)), _text(timedelta(hours=30))
    ('3', 'true', '2024-05-01', '30:00:00')
    """
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case float() if value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        case datetime() if value.time() == time():
            return value.date().isoformat()
        case datetime():
            return value.isoformat(" ", "seconds" if not value.microsecond else "microseconds")
        case date() | time():
            return value.isoformat()
        case timedelta():
            return duration_text(round(value.total_seconds() * 10**6), "us")
    return str(value)

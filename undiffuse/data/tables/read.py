"""Files of tables, and frames of pandas, polars or whatever speaks Arrow -> Arrow tables.

Files are CSV and JSON lines, also compressed, Parquet and workbooks; or folders of such parts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pajson
import pyarrow.parquet as pq

from undiffuse.data.folder import Folder, files_for_run
from undiffuse.data.paths import WORKBOOK_SUFFIXES, split_part, suffix_of
from undiffuse.data.tables.cells import as_in_run, as_values
from undiffuse.data.tables.delimited import SNIFFED, read_csv
from undiffuse.data.tables.opened import (
    Like,
    TableSource,
    as_one,
    check_columns,
    refuse_twins,
    with_typed_keys,
)
from undiffuse.data.tables.text import LEFT_OUT, TEXT
from undiffuse.data.tables.text_file import TextFile
from undiffuse.data.tables.workbook import read_workbook
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress
from undiffuse.options import AS_IT_IS, ReadingOptions
from undiffuse.reading import said

_FEW = 3  # named in a sentence
_BLOCK = 2**24  # bytes of JSON lines that Arrow parses at a time: the longest line


def open_table(
    source: Path | Folder | Any,
    *,
    like: Like | None = None,
    reading: ReadingOptions = AS_IT_IS,
    progress: Progress | None = None,
) -> TableSource:
    """Return the table in a file, in a folder of parts or a frame.

    Args:
        source: the Path of a file or of a folder of parts, a `Folder` of these, a frame, or a
            table whose columns have types of their own.
        like: the columns of a run that it has the rows of: cells of text are read as those were,
            and one row is enough; else the cells show what they are, and two rows are needed.
        reading: which columns are left out, and what others hold.
        progress: called now and then.

    Raises:
        InputError: for a damaged file, what is no table, two columns of one name, and too few rows.
    """
    least = 2 if like is None else 1
    if isinstance(source, Path | Folder):
        folder = _parts(source)
        read = READERS[suffix_of(folder.files[0])](folder, like is not None, progress)
        notes = (*(folder.unread if isinstance(source, Folder) else ()), *_joined(folder))
        opened = replace(read, notes=(*notes, *read.notes))
    else:
        opened = source if isinstance(source, TableSource) else _from_frame(source)
    opened = _chosen(opened, reading)
    values = as_values(opened, _typed(reading)) if like is None else as_in_run(opened, like)
    return _checked(values, least)


def _typed(reading: ReadingOptions) -> dict[str, str]:
    return {column: kind for column, kind in reading.wanted.items() if kind not in LEFT_OUT}


def _chosen(source: TableSource, reading: ReadingOptions) -> TableSource:
    """Return the table without the columns that its owner leaves out. They are not even read."""
    names = source.table.column_names
    for option in ("drop", "keep"):
        check_columns(getattr(reading, option) or (), names, option)
    check_columns(reading.wanted, names, "types")
    texts = [column for column, kind in reading.wanted.items() if kind == TEXT]
    kept = names if reading.keep is None else reading.keep
    out = {*names}.difference(kept).union(reading.drop or (), texts)
    if out and len(out) == len(names):
        raise InputError(f"{source.name}: no column is left to learn from; keep some.")
    return source.without(name for name in names if name in out)


def _parts(source: Path | Folder) -> Folder:
    """Return the files of a table, all of one format."""
    if isinstance(source, Path) and source.is_dir():
        source = files_for_run(source, READERS, "tables")
    if isinstance(source, Path):
        if not split_part(source)[0].is_file():
            raise InputError(f"{source}: no such file; check the path.")
        source = Folder(source.parent, (source,), "tables")
    hidden = [
        path
        for path in source.files
        if any(step.startswith("_") for step in path.relative_to(source.path).parts)
    ]  # as Spark calls what is no part
    if len(source.files) > len(hidden):
        files = tuple(path for path in source.files if path not in hidden)
        source = replace(source, files=files, others=(*source.others, *hidden))
    readers = {READERS.get(suffix_of(path)): path for path in source.files}
    if None in readers:
        known = ", ".join(READERS)
        raise InputError(
            f"{readers[None].name}: not a table that can be read ({known}); convert it."
        )
    if len(readers) > 1:
        one, other = (path.name for path in list(readers.values())[:2])
        raise InputError(
            f"{source.name}: {one} and {other} have different formats; save all parts of a "
            "table in one."
        )
    return source


def _joined(folder: Folder) -> list[str]:
    """Return a note on parts that are read as one table."""
    count, shown = len(folder.files), ", ".join(folder.called[:_FEW])
    more = ", ..." * (count > _FEW)
    return [f"{folder.name}: {count:,} files are parts of one table: {shown}{more}."][: count > 1]


def _from_frame(source: Any) -> TableSource:
    origin = type(source).__module__.partition(".")[0]
    name, notes = f"{origin} table", ()
    try:
        if origin == "pandas" and hasattr(source, "columns"):  # a frame, not a series
            frame = source.reset_index(drop=True)
            if len({type(column) for column in frame.columns}) > 1:  # text beside numbers
                frame = frame.rename(columns=str)
            refuse_twins([str(column) for column in frame.columns], name)
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
    name = source.name
    index = [column for column in source.table.column_names if column.startswith("__index_level_")]
    if index:
        source = source.without(index, f"{name}: the frame's index was left out.")
    table = source.table
    if table.num_columns == 0:
        raise InputError(f"{name}: has no columns; there is nothing to learn from.")
    refuse_twins(table.column_names, name)
    if table.num_rows < least:
        rows = "one row" if table.num_rows else "no rows"
        needed = "two are" if least == 2 else "one is"
        raise InputError(f"{name}: has {rows}; at least {needed} needed.")
    return replace(source, table=table.unify_dictionaries().combine_chunks())


def _read_parquet(folder: Folder, strict: bool, progress: Progress | None) -> TableSource:
    """Return the table, whose columns have types of their own."""

    def table_of(path: Path) -> pa.Table:
        try:
            with path.open("rb") as stream:  # Arrow takes no path that is not UTF-8
                return pq.read_table(stream)
        except (pa.ArrowException, OSError, ValueError) as problem:
            reason = str(problem).splitlines()[0].rstrip(".")
            raise InputError(
                f"{path.name}: could not be read as Parquet ({reason}); check the file."
            ) from problem

    return _of_values([table_of(path) for path in folder.files], folder)


def _read_json_lines(folder: Folder, strict: bool, progress: Progress | None) -> TableSource:
    """Return the table of files that hold one JSON object in each line."""

    def table_of(path: Path) -> pa.Table:
        text = TextFile.of(path)
        if not text.head(SNIFFED).lstrip().startswith("{"):
            raise InputError(
                f"{path.name}: not JSON lines: each line is to be one object, as "
                '{"age": 40, "city": "Bern"}; save it so.'
            )
        try:
            with text.open() as stream:
                return _with_days(pajson.read_json(stream, pajson.ReadOptions(block_size=_BLOCK)))
        except (pa.ArrowException, OSError) as problem:
            raise InputError(f"{path.name}: {_json_problem(text, said(problem))}") from problem

    return _of_values([table_of(path) for path in folder.files], folder)


def _with_days(table: pa.Table) -> pa.Table:
    """Return a table of JSON whose times that are all midnights are days, as they were written."""
    for place, name in enumerate(table.column_names):
        column = table.column(name)
        if column.type == pa.timestamp("s") and column.null_count < len(column):
            days = column.cast(pa.date32(), safe=False)
            if days.cast(column.type).equals(column):
                table = table.set_column(place, name, days)
    return table


def _of_values(tables: Sequence[pa.Table], folder: Folder) -> TableSource:
    for table in tables:
        refuse_twins(table.column_names, folder.content)
    own = tables[0].column_names
    return TableSource(with_typed_keys(as_one(tables, folder), own), folder.content)


def _json_problem(text: TextFile, reason: str) -> str:
    """Return what is wrong with the first line that is not an object, or has another type."""
    sorts: dict[str, tuple[str, int]] = {}
    with text.lines(errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as problem:
                return f"line {number:,} is not valid JSON ({said(problem)}); correct it."
            if not isinstance(row, dict):
                return f"line {number:,} is not an object; correct it."
            for key, value in row.items():
                sort = _SORTS.get(type(value), "")
                known, first = sorts.setdefault(key, (sort, number)) if sort else ("", 0)
                if known != sort:
                    return (
                        f'column "{key}" holds a {known} in line {first:,} and a {sort} in line '
                        f"{number:,}; make them equal."
                    )
    reason = reason.removeprefix("JSON parse error: ")
    return f"could not be read as JSON lines ({reason}); check the file."


_SORTS = {
    str: "text", bool: "truth value", int: "number", float: "number", list: "list", dict: "object"
}  # fmt: skip


Reader = Callable[[Folder, bool, Progress | None], TableSource]
"""`reader(parts, strict, progress)`; strict: lines of another length are refused."""

READERS: Mapping[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
    **dict.fromkeys(WORKBOOK_SUFFIXES, read_workbook),
}
"""Suffix -> what reads the parts of a table, on their own or as rows of a run."""

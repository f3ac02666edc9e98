"""A table as it was read, before its columns are measured, and parts of one joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final
from urllib.parse import unquote

import pyarrow as pa

from undiffuse.data.folder import Folder
from undiffuse.data.tables.columns import text_to
from undiffuse.errors import InputError, unknown

_NULL_KEY = "__HIVE_DEFAULT_PARTITION__"

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
        lines: returns where each row stands in the file, such as "line 3"; None if its columns are
            values, and not cells of text that are still to be read.
        left_out: the names of columns that it had.
        part: whether it is a part of a larger table: what a column lacks here, others may have.
    """

    table: pa.Table
    name: str
    library: str = "arrow"
    delimiter: str = ","
    notes: tuple[str, ...] = ()
    odd: Mapping[int, str] = field(default_factory=dict)
    lines: Callable[[], Sequence[str]] | None = None
    left_out: tuple[str, ...] = ()
    part: bool = False

    def column(self, name: str) -> pa.Array:
        """Return a column as one array."""
        chunks = self.table.column(name)
        if not chunks.num_chunks:
            return pa.array([], chunks.type)
        return chunks.chunk(0) if chunks.num_chunks == 1 else pa.concat_arrays(chunks.chunks)

    def without(self, names: Iterable[str], *notes: str) -> TableSource:
        """Return the table without some columns."""
        names = tuple(names)
        return replace(
            self,
            table=self.table.drop_columns(list(names)),
            left_out=(*self.left_out, *names),
            notes=(*self.notes, *notes),
        )

    def where(self, name: str) -> str:
        """Return what a column is called in messages."""
        return f'{self.name}: column "{name}"'


def check_columns(wanted: Iterable[str], names: Sequence[str], option: str) -> None:
    """Raise InputError for a column that an option names and the table does not have."""
    for name in wanted:
        if name not in names:
            raise unknown(f"--data.{option}", "column", name, names)


def refuse_twins(names: Sequence[Any], where: str) -> None:
    """Raise InputError for two columns of one name."""
    twin = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twin is not None:
        raise InputError(f'{where}: two columns are called "{twin}"; rename one.')


def as_one(tables: Sequence[pa.Table], folder: Folder) -> pa.Table:
    """Return the rows of all parts as one table, with the columns in the order of the first.

    Folders called column=value, as Hive and Spark write them, are columns of texts.

    Raises:
        InputError: their columns differ, in name or in type.
    """
    tables = [
        with_keys(table, path.relative_to(folder.path).parts[:-1])
        for table, path in zip(tables, folder.files)
    ]
    first, names = folder.called[0], set(tables[0].column_names)
    for table, called in zip(tables, folder.called):
        for column in [*tables[0].column_names, *table.column_names]:
            if column not in table.column_names or column not in names:
                has, lacks = (called, first) if column not in names else (first, called)
                raise InputError(
                    f'{folder.name}: {has} has the column "{column}", and {lacks} has not; give '
                    "all parts the same columns."
                )
    ordered = [table.select(tables[0].column_names) for table in tables]
    try:
        return pa.concat_tables(ordered, promote_options="permissive")
    except pa.ArrowException as problem:
        for table, called in zip(ordered, folder.called):
            for one, other in zip(tables[0].schema, table.schema):
                if one.type != other.type:
                    raise InputError(
                        f'{folder.name}: column "{one.name}" is {one.type} in {first} and '
                        f"{other.type} in {called}; make them equal."
                    ) from problem
        raise


def with_keys(table: pa.Table, folders: Iterable[str]) -> pa.Table:
    """Return a part with a column for each of the folders it lies in that is column=value."""
    for step in folders:
        key, sign, value = step.partition("=")
        if sign and key and key not in table.column_names:
            text = None if value == _NULL_KEY else unquote(value)
            table = table.append_column(key, pa.array([text] * table.num_rows, pa.string()))
    return table


def with_typed_keys(table: pa.Table, own: Iterable[str]) -> pa.Table:
    """Return a table whose columns that are not its `own` are whole numbers, if all texts are."""
    for name in set(table.column_names) - set(own):
        values = text_to(table.column(name).combine_chunks(), pa.int64())
        if values is not None:
            table = table.set_column(table.column_names.index(name), name, values)
    return table

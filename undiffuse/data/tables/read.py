"""Tables -> `Loaded`: CSV and Parquet files, and frames of pandas, polars, pyarrow or anything that speaks Arrow.

Every column is packed into one float64 matrix (see `table_column`), NaN where a value is missing. What a column can
hold decides how it is modelled, before anything is measured on the training rows:

    one value in every row                                    left out, and put back
    a category, a boolean, at most 256 values on a grid       levels
    anything else                                             a number; values in over 5 % of rows stand apart
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from undiffuse.data.rows import Loaded
from undiffuse.data.tables.fit import fit_table
from undiffuse.data.tables.form import TableForm, need_pyarrow
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress

if TYPE_CHECKING:
    import pyarrow as pa

    from undiffuse.data.tables.column import Column

MOST_LEVELS = 256  # of a column on a grid; with more it is modelled as a number
REPEATS = 4  # rows per value, on average, below which a column on a grid is a number too: new values must be possible
ATOM = 0.05  # a value of a number column in more than this share of the rows stands apart


class TableRows:
    """The packed matrix (N, columns)."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The rows at these positions, (B, columns) float64."""
        return self.values[indices]


def read_table(source: Any, *, progress: Progress | None = None) -> Loaded:
    """Read a table: the path of a .csv, .tsv or .parquet file, or a frame.

    Raises InputError, naming the table and the column, for whatever cannot be modelled.
    """
    need_pyarrow("reading tables")
    path = Path(os.path.expanduser(source)).resolve() if isinstance(source, str | Path) else None
    table, library, delimiter, where = from_file(path) if path else from_object(source)
    notes: list[str] = []
    table = checked(table, where, notes)
    columns, matrix = _packed(table, where, progress)
    supports = [_support(column, codes) for column, codes in zip(columns, matrix.T)]
    if all(support["code"] == "constant" for support in supports):
        raise InputError(
            f"{where}: every column holds one value in all rows; there is nothing to learn from."
        )
    notes += [
        note
        for column, codes in zip(columns, matrix.T)
        if (note := _row_number(column, codes, where))
    ]
    schema = schema_text(table)
    form = TableForm(
        library=library,
        schema=schema,
        columns=[asdict(column) for column in columns],
        delimiter=delimiter,
    )
    return Loaded(
        kind="tables",
        rows=TableRows(matrix),
        names=range(1, len(matrix) + 1),
        form=form,
        make_transform=partial(fit_table, supports),
        name=where,
        path=None if path is None else str(path),
        fingerprint=fingerprint(schema, columns, matrix),
        notes=tuple(notes),
        facts={"rows": len(matrix), "columns": _facts(table, columns, supports, matrix)},
    )


def schema_text(table: pa.Table) -> str:
    """The Arrow schema as text."""
    return base64.b64encode(table.schema.serialize().to_pybytes()).decode("ascii")


def fingerprint(schema: str, columns: list[Column], matrix: np.ndarray) -> str:
    """A name for the content of a table, whatever file it came from."""
    digest = hashlib.sha256(schema.encode())
    digest.update(repr(columns).encode())
    digest.update(matrix.data)
    return digest.hexdigest()[:16]


def from_file(path: Path) -> tuple[pa.Table, str, str, str]:
    """(table, library, delimiter, what to call it) of a file."""
    from undiffuse.data.tables.files import READERS

    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path.")
    if path.suffix.lower() not in READERS:
        raise InputError(
            f"{path.name}: not a table that can be read ({', '.join(READERS)}); convert it."
        )
    table, delimiter = READERS[path.suffix.lower()](path)
    return table, "arrow", delimiter, path.name


def _is_pandas(source: Any) -> bool:
    return type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "columns")


def from_object(source: Any) -> tuple[pa.Table, str, str, str]:
    """The same of a frame."""
    import pyarrow as pa

    origin = type(source).__module__.partition(".")[0]
    library = origin if origin in ("pandas", "polars") else "arrow"
    where = f"{origin} table"
    try:
        if _is_pandas(source):
            _unique(list(source.columns), where)
            table = pa.Table.from_pandas(source.reset_index(drop=True))
        else:
            table = pa.table(source)
    except (pa.ArrowException, TypeError, ValueError) as problem:
        if isinstance(problem, InputError):
            raise
        reason = str(problem.args[0] if problem.args else problem).splitlines()[0].rstrip(".")
        raise InputError(
            f"{where}: not a table of plain columns ({reason}); convert it."
        ) from problem
    return table, library, ",", where


def _unique(names: list[Any], where: str) -> None:
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise InputError(f'{where}: two columns are called "{twice}"; rename one.')


def checked(table: pa.Table, where: str, notes: list[str], least: int = 2) -> pa.Table:
    """The table without a frame's index, its columns in one piece; refused with fewer than `least` rows."""
    index = [name for name in table.column_names if name.startswith("__index_level_")]
    if index:
        table = table.drop_columns(index)
        notes.append(f"{where}: the frame's index was left out.")
    if table.num_columns == 0:
        raise InputError(f"{where}: has no columns; there is nothing to learn from.")
    _unique(table.column_names, where)
    if table.num_rows < least:
        rows = "one row" if table.num_rows else "no rows"
        raise InputError(
            f"{where}: has {rows}; at least {'two are' if least == 2 else 'one is'} needed."
        )
    return table.unify_dictionaries().combine_chunks()


def _packed(
    table: pa.Table, where: str, progress: Progress | None
) -> tuple[list[Column], np.ndarray]:
    import pyarrow as pa

    from undiffuse.data.tables.column import pack

    matrix = np.empty((table.num_rows, table.num_columns))
    columns = []
    for i, name in enumerate(table.column_names):
        chunks = table.column(i)
        array = chunks.chunk(0) if chunks.num_chunks == 1 else pa.concat_arrays(chunks.chunks)
        column, matrix[:, i] = pack(name, array, where)
        columns.append(column)
        if progress is not None:
            progress(i + 1, table.num_columns, "columns")
    return columns, matrix


def _support(column: Column, codes: np.ndarray) -> dict[str, Any]:
    """What a column can hold, and so how it is modelled; the input of `table_fit`."""
    values, counts = np.unique(codes[~np.isnan(codes)], return_counts=True)
    support = {"name": column.name, "missing": column.missing != "no", "ordered": column.ordered}
    if len(values) == 1 and not support["missing"]:
        return support | {"code": "constant", "value": values.item()}
    atoms = counts > ATOM * len(codes)
    ordinary = values[~atoms]
    repeated = len(values) <= min(MOST_LEVELS, counts.sum() / REPEATS)
    few = column.sort in ("category", "boolean") or (column.unit > 0 and repeated)
    if few or len(ordinary) < 2:
        return support | {"code": "levels", "values": values.tolist()}
    ends = {"low": ordinary[0].item(), "high": ordinary[-1].item()}
    return (
        support
        | ends
        | {"code": "number", "whole": column.unit > 0, "atoms": values[atoms].tolist()}
    )


def _row_number(column: Column, codes: np.ndarray, where: str) -> str | None:
    if (
        column.sort != "integer"
        or len(codes) < 20
        or not np.array_equal(codes, np.arange(len(codes)))
    ):
        return None
    return f'{where}: column "{column.name}" counts the rows; remove it unless that is meant.'


def _facts(
    table: pa.Table, columns: list[Column], supports: list[dict], matrix: np.ndarray
) -> list[dict]:
    """One plain mapping per column, for people to read."""
    return [
        {
            "name": column.name,
            "type": str(field.type),
            "missing": int(np.isnan(codes).sum()),
            "values": _shown(field, column, codes),
            "modelled as": _modelled(column, support),
        }
        for field, column, support, codes in zip(table.schema, columns, supports, matrix.T)
    ]


def _shown(field: pa.Field, column: Column, codes: np.ndarray) -> str:
    """The most frequent categories, or the least and the greatest value."""
    if column.sort in ("category", "boolean"):
        values, counts = np.unique(codes[~np.isnan(codes)], return_counts=True)
        top = values[np.argsort(-counts, kind="stable")[:5]]
        more = f", ... ({len(values)} in all)" if len(values) > len(top) else ""
        return ", ".join(str(value) for value in column.unpack(top, field.type).to_pylist()) + more
    ends = np.array([np.nanmin(codes), np.nanmax(codes)])
    low, high = column.unpack(ends, field.type).to_pylist()
    return f"{low} to {high}"


def _modelled(column: Column, support: dict[str, Any]) -> str:
    texts = {
        "constant": lambda: "a constant: left out of the model and put back",
        "levels": lambda: f"one of {len(support['values'])} values",
        "number": lambda: "whole steps" if support["whole"] else "a continuous number",
    }
    text = texts[support["code"]]()
    apart = [f"{value:g}" for value in column.values(np.array(support.get("atoms", [])))]
    text += f", with {', '.join(apart)} apart" if apart else ""
    return text + (", or missing" if support["missing"] else "")

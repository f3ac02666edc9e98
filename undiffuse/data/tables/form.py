"""Rows of a table as their owner knows them: the same library, columns, order and types; files; a picture.

The Arrow schema of what was read is kept as text (base64 of its own serialization, which holds types, time zones and
the notes that pandas and polars leave for themselves), each column's storage as a plain mapping.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image

from undiffuse.atomic import atomic_file
from undiffuse.data.pictures import figure_to_image, small_axes
from undiffuse.errors import InputError

MOST_PANELS = 12
MOST_BARS = 16
MOST_BINS = 40


def need_pyarrow(what: str) -> None:
    """Raise InputError naming the extra, if pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as problem:
        raise InputError(f"{what} needs pyarrow; pip install 'undiffuse[tables]'.") from problem


def _as_arrow(table: Any) -> Any:
    return table


def _as_pandas(table: Any) -> Any:
    return table.to_pandas()


def _as_polars(table: Any) -> Any:
    import polars

    return polars.from_arrow(table)


LIBRARIES: dict[str, Callable[[Any], Any]] = {
    "arrow": _as_arrow,
    "pandas": _as_pandas,
    "polars": _as_polars,
}


def _write_csv(table: Any, path: Path, delimiter: str) -> None:
    import pyarrow as pa
    import pyarrow.csv

    plain = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    plain_table = pa.table(plain, names=table.column_names)
    pyarrow.csv.write_csv(plain_table, path, pyarrow.csv.WriteOptions(delimiter=delimiter))


def _write_parquet(table: Any, path: Path, delimiter: str) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(table, path)


WRITERS: dict[str, Callable[[Any, Path, str], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}


@final
class TableForm:
    """How a table's rows (N, columns) are presented and written.

    `library` is a key of `LIBRARIES`, `schema` the serialized Arrow schema, `columns` one mapping of
    `table_column.Column`'s fields per column, `delimiter` what a CSV file is written with.
    """

    def __init__(
        self,
        *,
        library: str,
        schema: str,
        columns: Sequence[Mapping[str, Any]],
        delimiter: str = ",",
    ) -> None:
        self.library = library
        self.schema = schema
        self.columns = tuple(dict(column) for column in columns)
        self.delimiter = delimiter

    @property
    def column_sizes(self) -> dict[str, int]:
        """Column name -> how many categories it has, 0 for numbers; rows (N, columns) hold their codes 0, 1, ..."""
        return {column["name"]: _categories(column) for column in self.columns}

    def arrow_schema(self) -> Any:
        """The Arrow schema of the data."""
        import pyarrow as pa

        return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(self.schema)))

    def table(self, rows: np.ndarray) -> Any:
        """The rows as a pyarrow.Table with the schema of the data. Raises InputError without pyarrow."""
        need_pyarrow("presenting rows of a table")
        import pyarrow as pa

        from undiffuse.data.tables.column import Column

        schema = self.arrow_schema()
        arrays = [
            Column(**column).unpack(rows[:, i], field.type)
            for i, (column, field) in enumerate(zip(self.columns, schema))
        ]
        return pa.Table.from_arrays(arrays, schema=schema)

    def present(self, rows: np.ndarray) -> Any:
        """A frame of the library that the data came in; a pyarrow.Table for data that came from a file."""
        table = self.table(rows)
        try:
            return LIBRARIES[self.library](table)
        except ImportError as problem:
            raise InputError(
                f"these rows came as a {self.library} frame, and {self.library} is not installed; install it, or "
                "write them to a .csv or .parquet file."
            ) from problem

    def save(self, rows: np.ndarray, out: Path, *, labels: np.ndarray | None = None) -> None:
        """Write a .csv or .parquet file. Raises InputError for another suffix, or a place that cannot be written."""
        out = Path(out)
        if out.suffix.lower() not in WRITERS:
            raise InputError(
                f"{out}: rows of a table can be written as .csv or .parquet; choose such a name."
            )
        table = self.table(rows)
        with atomic_file(out) as temporary:
            WRITERS[out.suffix.lower()](table, temporary, self.delimiter)

    def preview(self, rows: np.ndarray) -> Image.Image:
        """A histogram of each column, of the first twelve if there are more."""
        shown = self.columns[:MOST_PANELS]
        table = self.table(rows)
        figure, axes = small_axes(len(shown))
        for i, (column, axis) in enumerate(zip(shown, axes)):
            codes = rows[:, i][~np.isnan(rows[:, i])]
            axis.set_title(column["name"][:24], fontsize=8)
            if len(codes) == 0:
                axis.text(
                    0.5,
                    0.5,
                    "all missing",
                    ha="center",
                    va="center",
                    transform=axis.transAxes,
                    fontsize=8,
                )
            elif column["sort"] in ("category", "boolean"):
                _bars(axis, table.column(i).drop_null().to_pylist())
            else:
                _histogram(axis, codes, table.column(i), rows[:, i])
            gone = len(rows) - len(codes)
            if gone:
                axis.set_xlabel(f"{gone} missing", fontsize=7)
        return figure_to_image(figure)


def _categories(column: Mapping[str, Any]) -> int:
    return 2 if column["sort"] == "boolean" else len(column.get("categories", ()))


def _bars(axis: Any, values: list[Any]) -> None:
    """The counts of the most frequent values."""
    names, counts = np.unique(np.array([str(value) for value in values]), return_counts=True)
    top = np.argsort(-counts, kind="stable")[:MOST_BARS]
    axis.bar(np.arange(len(top)), counts[top])
    axis.set_xticks(np.arange(len(top)), [str(names[i])[:8] for i in top], rotation=60, fontsize=6)


def _histogram(axis: Any, codes: np.ndarray, column: Any, all_codes: np.ndarray) -> None:
    """Counts over the codes, with the least and the greatest value named in their own type."""
    low, high = codes.min(), codes.max()
    whole = np.array_equal(codes, np.rint(codes))  # then bins that hold equally many steps
    width = max(1.0, np.ceil((high - low + 1) / MOST_BINS))
    axis.hist(codes, bins=np.arange(low - 0.5, high + width, width) if whole else MOST_BINS)
    ends = [int(np.nanargmin(all_codes)), int(np.nanargmax(all_codes))]
    named = [column[i].as_py() for i in ends]
    texts = [f"{value:.4g}" if isinstance(value, float) else str(value)[:19] for value in named]
    axis.set_xticks(all_codes[ends], texts, fontsize=6)

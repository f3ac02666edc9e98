"""Rows of a table as their owner knows them: the library, the columns, their order and types.

The Arrow schema of what was read is kept as text (base64 of its own serialization, which holds
types, time zones and the notes that pandas and polars leave for themselves), and beside it how each
column is stored.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from PIL import Image

from undiffuse.atomic import atomic_file
from undiffuse.data.cells import need_pyarrow, parquet_file
from undiffuse.data.pictures import LITERAL, figure_to_image, small_axes
from undiffuse.data.tables.columns import Column
from undiffuse.data.tables.identifier import Identifier
from undiffuse.data.tables.unique import Key
from undiffuse.data.writing import refuse_part
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows, WriteRows

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes

MOST_PANELS = 12
MOST_BARS = 16
MOST_BINS = 40


def _to_polars(table: pa.Table) -> Any:
    import polars

    return polars.from_arrow(table)


LIBRARIES: Mapping[str, Callable[[pa.Table], Any]] = {
    "arrow": lambda table: table,
    "pandas": lambda table: table.to_pandas(),
    "polars": _to_polars,
}
"""What rows are presented as, by the library that the data came from."""


@contextmanager
def _csv_file(path: Path, delimiter: str) -> Iterator[Callable[[pa.Table], None]]:
    import pyarrow as pa
    import pyarrow.csv

    from undiffuse.data.tables.text import spelled

    options = pyarrow.csv.WriteOptions(delimiter=delimiter)
    with ExitStack() as leaving:
        stream = leaving.enter_context(path.open("wb"))  # Arrow takes no path that is not UTF-8
        writer = None

        def write(table: pa.Table) -> None:
            nonlocal writer
            plain = [
                column.cast(column.type.value_type)
                if pa.types.is_dictionary(column.type)
                else spelled(column, field)
                for column, field in zip(table.columns, table.schema)
            ]
            cells = pa.table(plain, names=table.column_names)
            if writer is None:
                made = pyarrow.csv.CSVWriter(stream, cells.schema, write_options=options)
                writer = leaving.enter_context(made)
            writer.write_table(cells)

        yield write


def _storable(table: pa.Table) -> pa.Table:
    """Return a table without views of text, which polars makes and files do not hold."""
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        column = table.column(i)
        if field.type == pa.string_view():
            table = table.set_column(i, field.name, column.cast("string"))
        elif pa.types.is_dictionary(field.type) and field.type.value_type == pa.string_view():
            kept = column.combine_chunks()
            values = pa.DictionaryArray.from_arrays(kept.indices, kept.dictionary.cast("string"))
            table = table.set_column(i, field.name, values)
    return table


WRITERS: Mapping[str, Callable[[Path, str], AbstractContextManager[Callable[[pa.Table], None]]]] = {
    ".csv": _csv_file,
    ".parquet": parquet_file,
}
"""`writer(path, delimiter)` by suffix: gives what takes tables, one after another."""


def schema_to_text(schema: pa.Schema) -> str:
    """Return an Arrow schema as text."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")


@final
class TableForm:
    """How a table's rows (N, columns) are presented and written.

    Args:
        library: the library of the data's own frame, a key of `LIBRARIES`.
        schema: the Arrow schema of the data as text.
        columns: how each column is stored.
        delimiter: what a CSV file is written with.
        left_out: the columns of the data that are not modelled, and that new rows may have.
        identifiers: those of them that samples get new values in, from the first place on.
        keys: columns in which, together, no two rows of the data agree; see `unique`.
    """

    dtype = "float64"
    suggested_out = "samples.csv"

    def __init__(
        self,
        *,
        library: str,
        schema: str,
        columns: Sequence[Column],
        delimiter: str = ",",
        left_out: Sequence[str] = (),
        identifiers: Sequence[Identifier] = (),
        keys: Sequence[Key] = (),
    ) -> None:
        self.library = library
        self.schema = schema
        self.columns = tuple(columns)
        self.delimiter = delimiter
        self.left_out = tuple(left_out)
        self.identifiers = tuple(identifiers)
        self.keys = keys

    @property
    def column_sizes(self) -> Mapping[str, int]:
        """Column name -> number of categories, coded 0, 1, ... in the rows; 0 for numbers."""
        return {column.name: column.size for column in self.columns}

    def arrow_schema(self) -> pa.Schema:
        """Return the Arrow schema of the data."""
        import pyarrow as pa

        return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(self.schema)))

    def table(self, rows: np.ndarray) -> pa.Table:
        """Return rows as a table with the schema of the data. Raises InputError without pyarrow."""
        need_pyarrow("presenting rows of a table")
        import pyarrow as pa

        schema = self.arrow_schema()
        arrays = [
            column.decode(codes, field.type)
            for column, codes, field in zip(self.columns, rows.T, schema)
        ]
        return pa.Table.from_arrays(arrays, schema=schema)

    def drawn(self, rows: np.ndarray, first: int = 0) -> pa.Table:
        """Return samples, from number `first` on, as a table with new identifiers."""
        table = self.table(rows)
        for one in self.identifiers:
            table = table.add_column(one.place, one.name, one.values(len(rows), first))
        return table

    def present(self, rows: np.ndarray, *, drawn: bool = True) -> Any:
        """Return a frame of the data's own library; a pyarrow.Table for data from a file.

        Rows that are not `drawn` have no identifiers: their own are not kept.
        """
        table = self.drawn(rows) if drawn else self.table(rows)
        try:
            return LIBRARIES[self.library](table)
        except ImportError as problem:
            raise InputError(
                f"these rows came as a {self.library} frame, and {self.library} is not installed; "
                "install it, or write them to a .csv or .parquet file."
            ) from problem

    def check_out(self, out: Path) -> None:
        """Raise InputError for another suffix than .csv and .parquet."""
        if out.suffix.lower() not in WRITERS:
            raise InputError(
                f"{out}: rows of a table can be written as .csv or .parquet; choose such a name."
            )

    def save(self, rows: np.ndarray, out: Path, *, labels: np.ndarray | None = None) -> None:
        """Write a .csv or .parquet file.

        Raises:
            InputError: for another suffix, or a place that cannot be written.
        """
        with self.writing(out, len(rows)) as write:
            write(rows, labels)

    @contextmanager
    def writing(self, out: Path, count: int, first: int = 0) -> Iterator[WriteRows]:
        """Give what takes `count` rows, from number `first` on, and writes them; see `Form`."""
        out = Path(out)
        self.check_out(out)
        next_one = first
        with (
            atomic_file(out) as temporary,
            WRITERS[out.suffix.lower()](temporary, self.delimiter) as write_table,
        ):

            def write(rows: np.ndarray, labels: Any = None) -> None:
                nonlocal next_one
                write_table(_storable(self.drawn(rows, next_one)))
                next_one += len(rows)

            yield write

    @property
    def parts(self) -> tuple[str, ...]:
        """The suffixes of files that a folder of samples can hold; see `Form`."""
        return (".parquet", ".csv")

    def check_part(self, suffix: str) -> None:
        """Raise InputError for other files than `parts`, and without pyarrow."""
        refuse_part(suffix, self.parts, "rows of a table")
        need_pyarrow("writing rows of a table")

    def part(
        self, folder: Path, suffix: str, *, number: int, first: int, count: int, total: int
    ) -> AbstractContextManager[WriteRows]:
        """Return what takes the rows of a part of a folder; see `Form`."""
        return self.writing(folder / f"part-{number:05d}{suffix}", count, first)

    @property
    def keyed(self) -> bool:
        """Whether there are columns that no two rows of the data agree in."""
        return bool(self.keys)

    def remarks(self, rows: np.ndarray) -> list[str]:
        """Return how many samples agree in what no two rows of the data agree in."""
        return [
            f"{count:,} of {len(rows):,} samples have the {names} of another, or of a row of the "
            "data, which no two of these share: hardly any other was found; draw fewer, or remove "
            "those."
            for key in self.keys
            if (count := int(key.repeated(rows).sum()))
            for names in [" and ".join(f'"{self.columns[i].name}"' for i in key.places)]
        ]

    def repeated(self, rows: np.ndarray) -> np.ndarray:
        """Return which samples (n,) agree in a key with one above them, or with the data."""
        return np.any([np.zeros(len(rows), bool), *(key.repeated(rows) for key in self.keys)], 0)

    def sound(self, rows: np.ndarray) -> bytes | None:
        """Return None: tables are silent."""
        return None

    def bands(self, given: PartialRows, drawn: np.ndarray) -> Image.Image | None:
        """Return None: only sequences have bands; see `Form`."""
        return None

    def preview(self, rows: np.ndarray) -> Image.Image:
        """Return a histogram of each column, of the first twelve if there are more."""
        shown = self.columns[:MOST_PANELS]
        figure, axes = small_axes(len(shown))
        for column, field, codes, axis in zip(shown, self.arrow_schema(), rows.T, axes):
            present = codes[~np.isnan(codes)]
            axis.set_title(column.name[:24], fontsize=8, **LITERAL)
            if len(present) == 0:
                middle = {"ha": "center", "va": "center", "transform": axis.transAxes}
                axis.text(0.5, 0.5, "all missing", fontsize=8, **middle)
            elif column.size:
                _bars(axis, present, column, field.type)
            else:
                _histogram(axis, present, column, field.type)
            if len(present) < len(codes):
                axis.set_xlabel(f"{len(codes) - len(present)} missing", fontsize=7)
        return figure_to_image(figure)


def _bars(axis: Axes, codes: np.ndarray, column: Column, arrow_type: pa.DataType) -> None:
    """Draw how often the most frequent categories occur."""
    values, counts = np.unique(codes, return_counts=True)
    top = np.argsort(-counts, kind="stable")[:MOST_BARS]
    axis.bar(np.arange(len(top)), counts[top])
    axis.set_yticks([0, counts.max()])
    names = [name[:8] for name in column.texts(values[top], arrow_type)]
    axis.set_xticks(np.arange(len(top)), names, rotation=60, fontsize=6, **LITERAL)


def _histogram(axis: Axes, codes: np.ndarray, column: Column, arrow_type: pa.DataType) -> None:
    """Draw a histogram of the codes, with the least and the greatest value in their own type."""
    ends = np.array([codes.min(), codes.max()])
    whole = np.array_equal(codes, np.rint(codes))  # then bins that hold equally many steps
    width = max(1.0, np.ceil((ends[1] - ends[0] + 1) / MOST_BINS))
    edges = np.arange(ends[0] - 0.5, ends[1] + width, width).tolist()
    counts, edges = np.histogram(codes, bins=edges if whole else MOST_BINS)
    axis.stairs(counts, edges, fill=True)  # one outline: forty bars take twice as long to draw
    axis.set_yticks([0, counts.max()])
    names = [name[:19] for name in column.texts(ends, arrow_type)]
    axis.set_xticks(ends, names, fontsize=6, **LITERAL)

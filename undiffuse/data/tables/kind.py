"""Tables: CSV and Parquet files, and data frames."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, final

from undiffuse.data.conformed import Conformed
from undiffuse.data.kind import Kind
from undiffuse.data.rows import Loaded
from undiffuse.interfaces import PartialRows, Progress


@final
class Tables(Kind):
    """Tables: see `Kind`. pyarrow is imported only when a table is read or presented."""

    name = "tables"
    file_suffixes = (".csv", ".tsv", ".parquet", ".pq")

    @property
    def folder_suffixes(self) -> Collection[str]:
        """None: tables are single files."""
        return ()

    @property
    def transform_class(self) -> type:
        """See `Kind`."""
        from undiffuse.data.tables.transform import TableTransform

        return TableTransform

    @property
    def form_class(self) -> type:
        """See `Kind`."""
        from undiffuse.data.tables.form import TableForm

        return TableForm

    def reads(self, source: Any) -> bool:
        """Files by their suffix; whatever speaks Arrow's C stream, and pandas' objects."""
        if isinstance(source, Path):
            return source.suffix.lower() in self.file_suffixes
        return is_frame(source)

    def read(
        self,
        source: Any,
        *,
        size: int | tuple[int, ...] | None = None,
        progress: Progress | None = None,
    ) -> Loaded:
        """See `Kind.read`."""
        from undiffuse.data.tables.read import read_table

        return read_table(source, progress=progress)

    def conform(
        self, source: Any, config: Mapping[str, Any], *, progress: Progress | None = None
    ) -> Conformed:
        """See `Kind.conform`."""
        from undiffuse.data.tables.conform import conform_table

        return conform_table(source, *self.restore(config)[:2], progress)

    def complete(self, source: Any, config: Mapping[str, Any]) -> PartialRows:
        """See `Kind.complete`."""
        from undiffuse.data.tables.conform import complete_table

        return complete_table(source, *self.restore(config)[:2])


def is_frame(source: Any) -> bool:
    """Whether this is a data frame or an Arrow table; asked without importing what it may have come from."""
    return (
        hasattr(source, "__arrow_c_stream__")  # Arrow's PyCapsule interface: any library's tables
        or type(source).__module__.partition(".")[0] == "pandas"
    )

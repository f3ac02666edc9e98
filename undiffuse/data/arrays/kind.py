"""Arrays of any shape and real type, from files or from Python."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, final

from undiffuse.data.arrays.conform import complete_rows, conform_rows
from undiffuse.data.arrays.files import is_idx, read_idx, read_npy, read_npz
from undiffuse.data.arrays.form import ArrayForm
from undiffuse.data.arrays.objects import read_object
from undiffuse.data.arrays.transform import ArrayTransform
from undiffuse.data.conformed import Conformed
from undiffuse.data.kind import Kind
from undiffuse.data.rows import Loaded
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows, Progress


@final
class Arrays(Kind):
    """Arrays: see `Kind`. Arrays of 8- and 16-bit images are read here too, as images."""

    name = "arrays"
    parts: Mapping[str, type] = {"transform": ArrayTransform, "form": ArrayForm}
    file_suffixes = (".npy", ".npz")

    @property
    def folder_suffixes(self) -> Collection[str]:
        """None: arrays are single files."""
        return ()

    def reads(self, source: Any) -> bool:
        """Any object; of files, .npy, .npz and whatever begins as an IDX file does."""
        if isinstance(source, Path):
            return source.suffix.lower() in self.file_suffixes or is_idx(source)
        return True

    def read(
        self,
        source: Any,
        *,
        size: int | tuple[int, ...] | None = None,
        progress: Progress | None = None,
    ) -> Loaded:
        """See `Kind.read`."""
        if not isinstance(source, Path):
            return read_object(source, progress)
        readers = {".npy": read_npy, ".npz": read_npz}
        return readers.get(source.suffix.lower(), read_idx)(source, progress)

    def conform(
        self, source: Any, config: Mapping[str, Any], *, progress: Progress | None = None
    ) -> Conformed:
        """See `Kind.conform`."""
        if isinstance(source, Path) and source.is_dir():
            raise InputError(
                f"{source.name}/: the run was trained on arrays, not on a folder of files; give those."
            )
        return conform_rows(source, config, *self.restore(config), progress)

    def complete(self, source: Any, config: Mapping[str, Any]) -> PartialRows:
        """See `Kind.complete`."""
        transform, form, _ = self.restore(config)
        if (
            isinstance(source, os.PathLike)
            and Path(source).suffix.lower() not in self.file_suffixes
        ):
            raise InputError(
                f"{Path(source).name}: the run was trained on arrays; give .npy or .npz, with NaN for unknown."
            )
        return complete_rows(source, transform, form)

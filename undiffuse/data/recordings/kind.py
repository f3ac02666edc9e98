"""Recordings: folders of sound files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, final

from undiffuse.data.arrays.conform import complete_rows, conform_rows
from undiffuse.data.arrays.transform import ArrayTransform
from undiffuse.data.conformed import Conformed
from undiffuse.data.folder import files_for_run
from undiffuse.data.kind import Kind
from undiffuse.data.recordings.decode import SUFFIXES
from undiffuse.data.recordings.form import RecordingForm
from undiffuse.data.recordings.read import (
    complete_recordings,
    conform_recordings,
    read_recordings,
)
from undiffuse.data.rows import Loaded
from undiffuse.interfaces import PartialRows, Progress


@final
class Recordings(Kind):
    """Recordings: see `Kind`."""

    name = "recordings"
    parts: Mapping[str, type] = {"transform": ArrayTransform, "form": RecordingForm}
    file_suffixes = ()

    @property
    def folder_suffixes(self) -> Collection[str]:
        """The suffixes of sound files."""
        return SUFFIXES

    def reads(self, source: Any) -> bool:
        """No single file, and no object: recordings are read from folders."""
        return False

    def read(
        self,
        source: Any,
        *,
        size: int | tuple[int, ...] | None = None,
        progress: Progress | None = None,
    ) -> Loaded:
        """See `Kind.read`."""
        return read_recordings(source, size=size, progress=progress)

    def conform(
        self, source: Any, config: Mapping[str, Any], *, progress: Progress | None = None
    ) -> Conformed:
        """See `Kind.conform`."""
        transform, form, classes = self.restore(config)
        if not (isinstance(source, Path) and source.is_dir()):
            return conform_rows(source, config, transform, form, classes, progress)
        folder = files_for_run(source, SUFFIXES, self.name)
        return conform_recordings(folder, transform, form, classes, progress)

    def complete(self, source: Any, config: Mapping[str, Any]) -> PartialRows:
        """See `Kind.complete`."""
        transform, form, _ = self.restore(config)
        if isinstance(source, Path) and source.suffix.lower() not in (".npy", ".npz"):
            folder = files_for_run(source, SUFFIXES, self.name)
            return complete_recordings(folder, transform, form)
        return complete_rows(source, transform, form)

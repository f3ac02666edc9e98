"""Recordings: folders of sound files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from undiffuse.data.arrays.conform import complete_rows, conform_rows
from undiffuse.data.conformed import Conformed, Problem, Taken
from undiffuse.data.folder import Folder, files_for_run
from undiffuse.data.kind import Kind
from undiffuse.data.labels import index_labels, match_classes
from undiffuse.data.recordings.files import SUFFIXES, Header, Unreadable, decoded, read_samples
from undiffuse.data.recordings.read import AudioTransform, RecordingsForm, read_recordings
from undiffuse.data.recordings.windows import Windows
from undiffuse.data.rows import Loaded
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows, Progress


@final
class Recordings(Kind):
    """Recordings: see `Kind`."""

    name = "recordings"
    file_suffixes = ()

    @property
    def folder_suffixes(self) -> Collection[str]:
        """The suffixes of sound files."""
        return SUFFIXES

    @property
    def transform_class(self) -> type:
        """See `Kind`."""
        return AudioTransform

    @property
    def form_class(self) -> type:
        """See `Kind`."""
        return RecordingsForm

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
        folder: Folder = source
        return read_recordings(folder.path, size=size, progress=progress)

    def conform(
        self, source: Any, config: Mapping[str, Any], *, progress: Progress | None = None
    ) -> Conformed:
        """See `Kind.conform`."""
        transform, form, classes = self.restore(config)
        if not (isinstance(source, Path) and source.is_dir()):
            return conform_rows(source, config, transform, form, classes, progress)
        folder = files_for_run(source, SUFFIXES, self.name)
        found = decoded(
            folder.path, folder.files, progress, Header(form.rate, form.channels, form.dtype)
        )
        kept = dict(zip(found.kept, found.lengths))
        windows = Windows(
            found.samples, tuple(kept.get(i, 0) for i in range(len(folder.files))), transform.length
        )
        begin = (
            windows.starts
            - np.cumsum([0, *(kept.get(i, 0) for i in range(len(folder.files)))])[windows.groups]
        )
        called, (own, _) = folder.called, folder.classes()
        labels = match_classes(*index_labels(own, len(folder.files), folder.name), classes)
        return Conformed(
            _Cut(windows, np.array([group not in kept for group in windows.groups])),
            [f"{called[group]}@{at / form.rate:.3f}" for group, at in zip(windows.groups, begin)],
            name=folder.name,
            fingerprint=folder.fingerprint(),
            labels=None if labels is None else labels[windows.groups],
            notes=found.notes,
        )

    def complete(self, source: Any, config: Mapping[str, Any]) -> PartialRows:
        """See `Kind.complete`."""
        transform, form, _ = self.restore(config)
        if isinstance(source, Path) and source.suffix.lower() not in (".npy", ".npz"):
            return _recordings(files_for_run(source, SUFFIXES, self.name).files, transform, form)
        return complete_rows(source, transform, form)


@final
class _Cut:
    """Windows of recordings; those of a recording that could not be read have a problem."""

    def __init__(self, windows: Windows, unreadable: np.ndarray) -> None:
        self.windows, self.unreadable = windows, unreadable

    def take(self, indices: np.ndarray) -> Taken:
        lost = np.flatnonzero(self.unreadable[indices])
        return self.windows.take(indices), {int(i): Problem.unreadable() for i in lost}


def _recordings(files: Sequence[Path], transform: Any, form: Any) -> PartialRows:
    shape = (transform.length, transform.channels)
    rows, known = np.zeros((len(files), *shape), form.dtype), np.zeros((len(files), *shape), bool)
    for i, file in enumerate(files):
        try:
            samples = read_samples(file, Header(form.rate, form.channels, form.dtype))
        except Unreadable as problem:
            raise InputError(
                f"{file.name}: could not be read ({problem or 'damaged'}); repair or remove it."
            ) from problem
        if len(samples) > transform.length:
            raise InputError(
                f"{file.name}: has {len(samples):,} samples at {form.rate:,} Hz, and the run's windows "
                f"{transform.length:,}; cut it."
            )
        rows[i, : len(samples)], known[i, : len(samples)] = samples, True
    if transform.channels == 1:
        rows, known = rows[..., 0], known[..., 0]
    return PartialRows(rows, known)

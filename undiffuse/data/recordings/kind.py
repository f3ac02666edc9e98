"""Recordings: folders of sound files, cut into windows of one length.

Windows are modelled as arrays of C channels: 16-bit samples as dequantized whole numbers,
floating-point ones as they are, standardized over the training windows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, final

import numpy as np

from undiffuse.data.arranged import arrange
from undiffuse.data.arrays.kind import Beside, FolderKind
from undiffuse.data.arrays.transform import ArrayTransform, measure_array
from undiffuse.data.conformed import Conformed, Problem, Taken
from undiffuse.data.decoding import Unreadable
from undiffuse.data.folder import Folder
from undiffuse.data.labels import index_labels
from undiffuse.data.maps import GivenMap, refuse_maps
from undiffuse.data.recordings.decode import (
    SUFFIXES,
    SampleFormat,
    decode_recordings,
    plan_recordings,
    read_sample_format,
    read_samples,
)
from undiffuse.data.recordings.form import RecordingForm
from undiffuse.data.recordings.windows import Windows, window_length, window_notes
from undiffuse.data.rows import Loaded
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows, Progress
from undiffuse.options import AS_IT_IS, ReadingOptions


@final
class RecordingKind(FolderKind):
    """Recordings: see `Kind`."""

    name = "recordings"
    takes = ("size", "labels", "condition")
    parts: ClassVar[Mapping[str, type]] = {"transform": ArrayTransform, "form": RecordingForm}

    @property
    def folder_suffixes(self) -> Collection[str]:
        """The suffixes of sound files."""
        return SUFFIXES

    def read(
        self,
        source: Any,
        *,
        reading: ReadingOptions = AS_IT_IS,
        progress: Progress | None = None,
    ) -> Loaded:
        """Return the recordings of a folder, cut into windows.

        Classes and parts are as `arrange` finds them.

        Args:
            source: the `Folder`.
            reading: `size`, the samples in a window; `window_length` has the default; `labels` and
                `condition`, as for `arrange`.
            progress: called after each file.

        Raises:
            InputError: more than a few of the files, or all of them, cannot be read, or no
                recording reaches that size.
        """
        refuse_maps(source.name, reading.condition)
        arranged = arrange(source, reading.labels, reading.condition)
        folder = arranged.folder
        decoded, samples = decode_recordings(folder, None, progress)
        length = window_length(folder.name, decoded.lengths, samples.rate, reading.size)
        rows = Windows(decoded.values, decoded.lengths, length)
        files = np.array(decoded.kept)[rows.groups]  # that each window is of
        labels, names = index_labels(arranged.classes_of(files), len(rows), folder.name)
        notes = window_notes(folder.name, rows, decoded.lengths, samples.rate)
        return Loaded(
            kind=self.name,
            rows=rows,
            form=RecordingForm(rate=samples.rate, channels=samples.channels, dtype=samples.dtype),
            make_transform=lambda chunks: measure_array(
                chunks(),
                name=folder.name,
                row_shape=(length,) if samples.channels == 1 else (length, samples.channels),
                axes="T" if samples.channels == 1 else "TC",
                dtype=samples.dtype,
                bounded=True,
            ),
            name=folder.name,
            path=str(folder.path),
            fingerprint=arranged.fingerprint(folder.fingerprint(progress)),
            labels=labels,
            classes=names,
            groups=rows.groups,
            given=arranged.given_of(files),
            parts=arranged.parts_of(files),
            notes=(*folder.unread, *arranged.notes, *decoded.notes, *notes),
            facts={
                "recordings": len(decoded.lengths),
                "seconds": round(sum(decoded.lengths) / samples.rate, 3),
                "rate": samples.rate,
                "channels": samples.channels,
                "dtype": samples.dtype,
                "window": length,
            },
        )

    def maps_of(
        self,
        folder: Folder,
        transform: ArrayTransform,
        config: Mapping[str, Any],
        progress: Progress | None,
    ) -> tuple[Folder, tuple[GivenMap, ...], tuple[str, ...]]:
        """Recordings have no maps; see `FolderKind`."""
        return folder, (), ()

    def conform_folder(
        self,
        folder: Folder,
        transform: ArrayTransform,
        form: RecordingForm,
        beside: Beside,
        progress: Progress | None,
    ) -> Conformed:
        """Return the recordings of a folder as windows at the rate, channels and type of a run."""
        decoded, _ = decode_recordings(folder, _format(form), progress)
        by_file = dict(zip(decoded.kept, decoded.lengths))
        lengths = tuple(by_file.get(i, 0) for i in range(len(folder.files)))
        windows = Windows(decoded.values, lengths, transform.row_shape[0])
        seconds = (windows.starts - np.cumsum([0, *lengths])[windows.groups]) / form.rate
        called = folder.called
        return Conformed(
            _ReadableWindows(windows, np.array([i not in by_file for i in windows.groups])),
            [f"{called[group]}@{begin:.3f}" for group, begin in zip(windows.groups, seconds)],
            name=folder.name,
            **beside.of(windows.groups),
            groups=windows.groups,
            notes=(*beside.notes, *decoded.notes),
        )

    def complete_folder(
        self, folder: Folder, transform: ArrayTransform, form: RecordingForm
    ) -> PartialRows:
        """Return recordings shorter than a window as rows of which the rest is unknown."""
        length = transform.row_shape[0]
        rows = np.zeros((len(folder.files), length, form.channels), form.dtype)
        known, formats = np.zeros(rows.shape, bool), {}
        for i, file in enumerate(folder.files):
            try:
                formats[i] = read_sample_format(file)
                samples = read_samples(file, _format(form))
            except Unreadable as problem:
                raise InputError(
                    f"{file.name}: could not be read ({problem or 'damaged'}); repair or remove it."
                ) from problem
            if len(samples) > length:
                raise InputError(
                    f"{file.name}: has {len(samples):,} samples at {form.rate:,} Hz, "
                    f"and the run's windows {length:,}; cut it."
                )
            rows[i, : len(samples)], known[i, : len(samples)] = samples, True
        shape = (len(rows), *transform.row_shape)
        _, notes = plan_recordings(folder.content, formats, _format(form))
        return PartialRows(rows.reshape(shape), known.reshape(shape), tuple(notes))


@final
class _ReadableWindows:
    """Windows of recordings; those of a recording that could not be read have a problem."""

    def __init__(self, windows: Windows, unreadable: np.ndarray) -> None:
        self.windows, self.unreadable = windows, unreadable

    def take(self, indices: np.ndarray) -> Taken:
        lost = np.flatnonzero(self.unreadable[indices])
        return self.windows.take(indices), {int(i): Problem.unreadable() for i in lost}


def _format(form: RecordingForm) -> SampleFormat:
    return SampleFormat(form.rate, form.channels, form.dtype)

"""Arrays of any shape and real type; and what images and recordings share, as decoded arrays."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from undiffuse.data.arranged import arrange
from undiffuse.data.arrays.conform import complete_rows, conform_rows
from undiffuse.data.arrays.files import is_idx, read_hdf5, read_idx, read_npy, read_npz
from undiffuse.data.arrays.form import ArrayForm
from undiffuse.data.arrays.maps import maps_in_files, read_map
from undiffuse.data.arrays.objects import read_object
from undiffuse.data.arrays.transform import ArrayTransform
from undiffuse.data.conditions import Conditions, Vectors
from undiffuse.data.conformed import Conformed
from undiffuse.data.folder import Folder, files_for_run
from undiffuse.data.kind import Kind
from undiffuse.data.labels import index_labels, match_classes
from undiffuse.data.load import recorded_reading
from undiffuse.data.maps import GivenMap, names_of, with_maps
from undiffuse.data.paths import HDF5_SUFFIXES, name_of, suffix_of
from undiffuse.data.rows import Loaded
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows, Progress
from undiffuse.options import AS_IT_IS, ReadingOptions

_READERS = {".npy": read_npy, ".npz": read_npz, **dict.fromkeys(HDF5_SUFFIXES, read_hdf5)}


@final
class ArrayKind(Kind):
    """Arrays: see `Kind`. Arrays of 8- and 16-bit images are read here too, as images."""

    name = "arrays"
    parts: ClassVar[Mapping[str, type]] = {"transform": ArrayTransform, "form": ArrayForm}
    file_suffixes = tuple(_READERS)
    takes = ("axes", "condition")

    @property
    def folder_suffixes(self) -> Collection[str]:
        """None: arrays are single files."""
        return ()

    def reads(self, source: Any) -> bool:
        """Any object; of files, .npy, .npz, HDF5 and whatever begins as an IDX file does."""
        if isinstance(source, Path):
            return suffix_of(source) in _READERS or is_idx(source)
        return True

    def read(
        self,
        source: Any,
        *,
        reading: ReadingOptions = AS_IT_IS,
        progress: Progress | None = None,
    ) -> Loaded:
        """See `Kind.read`."""
        condition, maps = maps_in_files(reading.condition)
        shared: dict[str, Any] = {"axes": reading.axes, "condition": condition, "maps": maps}
        if not isinstance(source, Path):
            return read_object(source, progress, **shared)
        return _READERS.get(suffix_of(source), read_idx)(source, progress, **shared)

    def ask(self, where: Any, config: Mapping[str, Any]) -> tuple[np.ndarray, tuple[str, ...]]:
        """See `Kind.ask`."""
        own = Conditions.restore(config)
        assert own is not None
        return own.ask(where, read_map=read_map)

    def conform(
        self, source: Any, config: Mapping[str, Any], *, progress: Progress | None = None
    ) -> Conformed:
        """See `Kind.conform`."""
        if isinstance(source, Path) and source.is_dir():
            raise InputError(
                f"{source.name}/: the run was trained on arrays, not on a folder of files; "
                "give those."
            )
        transform, _, classes = self.restore(config)
        return conform_rows(source, config, transform, classes, progress)

    def complete(self, source: Any, config: Mapping[str, Any]) -> PartialRows:
        """See `Kind.complete`."""
        if isinstance(source, Path) and suffix_of(source) not in _READERS:
            raise InputError(
                f"{name_of(source)}: the run was trained on arrays; "
                "give .npy, .npz or .h5, with NaN for unknown."
            )
        return complete_rows(source, self.restore(config)[0])


@final
@dataclass(frozen=True)
class Beside:
    """What is known of each file of new data besides what is in it; None where it is not.

    Args:
        labels: (files,) indices into the run's classes.
        vector: (files, v) the conditions.
        notes: what could not be used, one sentence each.
        fingerprint: as that of a run on these data.
    """

    labels: np.ndarray | None
    vector: np.ndarray | Vectors | None
    notes: tuple[str, ...]
    fingerprint: str

    @classmethod
    def measure(
        cls,
        folder: Folder,
        config: Mapping[str, Any],
        classes: tuple[str, ...],
        progress: Progress | None,
        maps: Sequence[GivenMap] = (),
    ) -> Beside:
        """Return what a run can use of it; new data need not have any.

        Args:
            folder: the files.
            config: the run's config["data"].
            classes: the run's.
            progress: called now and then.
            maps: arrays that are conditions, one for each file.
        """
        reading, own = recorded_reading(config), Conditions.restore(config)
        try:
            arranged = arrange(folder, reading.labels, names_of(reading.condition))
        except InputError:
            arranged = arrange(replace(folder, others=()))  # by the subfolders alone
        content, used = folder.fingerprint(progress), len(arranged.folder.files)
        if used < len(folder.files):
            note = (
                f"{folder.name}: a list names {used:,} of {len(folder.files):,} {folder.what}, or "
                "some lie outside of its parts; classes and conditions are taken as not known."
            )
            return cls(None, None, (*arranged.folder.unread, note), content)
        index, names = index_labels(arranged.classes, len(folder.files), folder.name)
        vector, notes = own.vector(arranged.given, maps) if own else (None, ())
        return cls(
            match_classes(index, names, classes),
            vector,
            (*arranged.folder.unread, *notes),
            with_maps(arranged.fingerprint(content), maps),
        )

    def of(self, files: np.ndarray) -> dict[str, Any]:
        """Return the fingerprint, and labels and conditions of rows by which file each is of."""
        vector = self.vector
        if vector is not None:
            vector = vector.only(files) if isinstance(vector, Vectors) else vector[files]
        labels = None if self.labels is None else self.labels[files]
        return {"fingerprint": self.fingerprint, "labels": labels, "vector": vector}


class FolderKind(Kind):
    """A kind that is read from folders of files; see `Kind`. New rows may be arrays as well."""

    file_suffixes: ClassVar[tuple[str, ...]] = ()

    @final
    def reads(self, source: Any) -> bool:
        """No single file, and no object."""
        return False

    @final
    def conform(
        self, source: Any, config: Mapping[str, Any], *, progress: Progress | None = None
    ) -> Conformed:
        """See `Kind.conform`."""
        transform, form, classes = self.restore(config)
        if isinstance(source, Path) and source.is_dir():
            folder = files_for_run(source, self.folder_suffixes, self.name)
            folder, maps, notes = self.maps_of(folder, transform, config, progress)
            beside = Beside.measure(folder, config, classes, progress, maps)
            beside = replace(beside, notes=(*beside.notes, *notes))
            return self.conform_folder(folder, transform, form, beside, progress)
        return conform_rows(source, config, transform, classes, progress)

    @final
    def ask(self, where: Any, config: Mapping[str, Any]) -> tuple[np.ndarray, tuple[str, ...]]:
        """See `Kind.ask`."""
        own = Conditions.restore(config)
        assert own is not None
        return own.ask(where, read_map=read_map)

    @final
    def complete(self, source: Any, config: Mapping[str, Any]) -> PartialRows:
        """See `Kind.complete`."""
        transform, form, _ = self.restore(config)
        if isinstance(source, Path) and suffix_of(source) not in _READERS:
            folder = files_for_run(source, self.folder_suffixes, self.name)
            return self.complete_folder(folder, transform, form)
        return complete_rows(source, transform)

    @abstractmethod
    def maps_of(
        self,
        folder: Folder,
        transform: ArrayTransform,
        config: Mapping[str, Any],
        progress: Progress | None,
    ) -> tuple[Folder, tuple[GivenMap, ...], tuple[str, ...]]:
        """Return the files that are rows, the maps that lie with them, and notes on these.

        Args:
            folder: the files.
            transform: the run's.
            config: the run's config["data"].
            progress: called now and then.
        """

    @abstractmethod
    def conform_folder(
        self,
        folder: Folder,
        transform: ArrayTransform,
        form: Any,  # the form of the kind
        beside: Beside,
        progress: Progress | None,
    ) -> Conformed:
        """Return the files of a folder as rows of a run.

        Args:
            folder: the files.
            transform: the run's.
            form: the run's.
            beside: what is known of each file.
            progress: called now and then.
        """

    @abstractmethod
    def complete_folder(self, folder: Folder, transform: ArrayTransform, form: Any) -> PartialRows:
        """Return the files of a folder as partly known rows of a run."""

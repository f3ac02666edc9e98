"""Kinds of data: one class per kind says how it is read, modelled, presented and conformed.

    images       folders of images; arrays of 8- and 16-bit images too, once they are read
    recordings   folders of recordings
    tables       CSV, JSON lines and Parquet files, folders of such parts, data frames
    arrays       .npy, .npz and IDX files, arrays, tensors, data sets that are indexed

A kind is a folder with a module `kind.py` and one line in `KINDS`. A class is imported when its
kind is first asked for, and its module imports what reads the files (pyarrow, soundfile) only where
that is used: opening a run of images must not need the packages that read tables or recordings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, final

import numpy as np

from undiffuse import parts
from undiffuse.data.conditions import Conditions
from undiffuse.data.conformed import Conformed
from undiffuse.data.rows import Loaded
from undiffuse.errors import InputError, unknown
from undiffuse.interfaces import PartialRows, Progress
from undiffuse.options import AS_IT_IS, ReadingOptions


class Kind(ABC):
    """One kind of data; `name` is its key in `KINDS`, and what a run records as data.kind."""

    name: ClassVar[str]
    file_suffixes: ClassVar[tuple[str, ...]]  # of single files it reads, as ".csv"
    accompanies: ClassVar[bool] = False  # whether its files may lie beside those of another kind
    takes: ClassVar[Collection[str]] = ()  # names of the `ReadingOptions` that it reads by
    parts: ClassVar[
        Mapping[str, type]
    ]  # what its runs record: "transform", "form", and their parts

    @property
    @abstractmethod
    def folder_suffixes(self) -> Collection[str]:
        """The suffixes of files that it reads a folder of; empty if it reads no folders."""

    @abstractmethod
    def reads(self, source: Any) -> bool:
        """Return whether it reads `source`: the Path of a file, or an object."""

    @abstractmethod
    def read(
        self,
        source: Any,
        *,
        reading: ReadingOptions = AS_IT_IS,
        progress: Progress | None = None,
    ) -> Loaded:
        """Read a source.

        Args:
            source: a `Folder`, the absolute Path of a file, or an object.
            reading: how it is to be read; nothing is given but what the kind `takes`.
            progress: called now and then.

        Raises:
            InputError: for whatever cannot be read or modelled, in one sentence.
        """

    def mirror_axis(self, transform: Any) -> int | None:  # that of the kind
        """Return the axis that runs from left to right in rows (N, ...); None if none does."""
        return None

    @abstractmethod
    def conform(
        self, source: Any, config: Mapping[str, Any], *, progress: Progress | None = None
    ) -> Conformed:
        """Return the rows of `source` in the stored type of a run; see `data.conform`."""

    @abstractmethod
    def complete(self, source: Any, config: Mapping[str, Any]) -> PartialRows:
        """Return the rows of `source` with what is known of them; see `undiffuse.data.complete`."""

    def ask(self, where: Any, config: Mapping[str, Any]) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the vectors (m, v) of conditions, and notes; see `undiffuse.data.ask`."""
        own = Conditions.restore(config)
        assert own is not None
        return own.ask(where)

    @final
    def describe(self, transform: Any, form: Any) -> dict[str, Any]:
        """Return {"kind", "transform", "form"} as plain data, for `restore` to rebuild both."""
        return {
            "kind": self.name,
            "transform": parts.describe(transform, self.parts),
            "form": parts.describe(form, self.parts),
        }

    @final
    def restore(self, config: Mapping[str, Any]) -> tuple[Any, Any, tuple[str, ...]]:
        """Return (transform, form, classes) of a run's config["data"].

        Raises:
            InputError: if it is damaged.
        """
        for name in ("transform", "form", "classes"):
            if name not in config:
                raise InputError(
                    f'data: "{name}" is missing from the run\'s config.json; the run is damaged.'
                )
        return (
            parts.rebuild(config["transform"], self.parts, "data"),
            parts.rebuild(config["form"], self.parts, "data"),
            tuple(config["classes"]),
        )


@final
class _Kinds(Mapping[str, Kind]):
    """Name -> kind, imported from its place "module:class" when it is first asked for.

    Those that are set come before the last one, which takes any object.
    """

    def __init__(self, places: dict[str, str]) -> None:
        self.places = places
        self.more: dict[str, Kind] = {}

    def __getitem__(self, name: str) -> Kind:
        return self.more[name] if name in self.more else _kind(self.places[name])

    def __setitem__(self, name: str, kind: type[Kind]) -> None:
        self.more[name] = kind()

    def __delitem__(self, name: str) -> None:
        del self.more[name]

    def __iter__(self) -> Iterator[str]:
        *first, last = self.places
        return iter((*first, *self.more, last))

    def __len__(self) -> int:
        return len(self.places) + len(self.more)

    def __contains__(self, name: object) -> bool:
        return name in self.places or name in self.more


@cache
def _kind(place: str) -> Kind:
    module, name = place.split(":")
    return getattr(import_module(module), name)()  # the table below names classes by text


KINDS = _Kinds(
    {
        "images": "undiffuse.data.images.kind:ImageKind",
        "recordings": "undiffuse.data.recordings.kind:RecordingKind",
        "tables": "undiffuse.data.tables.kind:TableKind",
        "arrays": "undiffuse.data.arrays.kind:ArrayKind",
    }
)
"""Every kind by name. The first that reads a source is asked to; arrays take any other object."""


def kind_of(config: Mapping[str, Any]) -> Kind:
    """Return the kind of data of a run's config["data"]. Raises InputError if it names none."""
    if "kind" not in config:
        raise InputError('data: "kind" is missing from the run\'s config.json; the run is damaged.')
    if config["kind"] not in KINDS:
        raise unknown("data", "kind", str(config["kind"]), KINDS)
    return KINDS[config["kind"]]

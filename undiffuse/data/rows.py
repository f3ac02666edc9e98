"""Rows by number, from memory or from a memory map, and what is known about the rows of one source.

Nothing here holds more than the rows that were asked for: a memory-mapped file of any size is read
a chunk at a time.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
import torch

from undiffuse.data.given import Given, GivenMap
from undiffuse.data.stream.pieces import Pieces
from undiffuse.errors import InputError
from undiffuse.interfaces import Form, Progress, Rows, Transform

CHUNK_BYTES = 8 * 2**20

# torch computes on fewer integer types than numpy stores: each goes to the next larger signed one.
_WIDER = {np.dtype("uint16"): np.int32, np.dtype("uint32"): np.int64, np.dtype("uint64"): np.int64}

MakeTransform = Callable[[Callable[[], Iterator[np.ndarray]]], Transform]
"""`make_transform(chunks)`: the transform measured on rows that `chunks()` gives some at a time."""


@final
@dataclass(frozen=True)
class Stream:
    """How rows are read that are not all looked at: in pieces, shuffled within windows.

    Args:
        pieces: what is read at once.
        window: rows that are shuffled among each other.
        looked: the rows that all that is measured is measured on: columns and sizes on all of them,
            scales on those that are trained on.
    """

    pieces: Pieces
    window: int
    looked: np.ndarray

    def tree(self) -> dict[str, int]:
        """Return what a run records."""
        files = len(np.unique(self.pieces.files))
        return {"files": files, "window": self.window, "sample": len(self.looked)}


@runtime_checkable
class ByRow(Protocol):
    """What stands beside rows, such as their classes, read where it is indexed."""

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """Return it, (n, ...), of the rows at these positions (n,)."""
        ...


@runtime_checkable
class Expecting(Protocol):
    """Rows that can be read before they are asked for."""

    def expect(self, indices: np.ndarray, *, anew: bool) -> None:
        """Begin to read rows (n,), in this order, after those expected before, or instead."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One source as its kind reads it.

    Args:
        kind: how the rows are modelled, whoever read them; a key of `KINDS`.
        rows: the N rows.
        form: how they are presented and written.
        make_transform: is called once, with the training rows alone, so that nothing is measured on
            held-out rows; it may call its argument more than once.
        name: what the source is called in messages.
        path: what `load` takes to read it again: an absolute path or a name; None for an object.
        fingerprint: changes when the data changes, and not when it is moved.
        labels: (N,) int64, indices into `classes`, or what has them by number; None if there are
            none.
        classes: names of the classes.
        counts: how many rows of each class there are; None: as `labels` say.
        given: columns of conditions, a value for each row; in a table the rows hold them too.
        maps: conditions that are whole arrays, one for each row.
        groups: (N,) int64; rows of one group are held out together, or trained on together.
        parts: (N,) what each row is for, as in `split`; None if the source does not say.
        notes: what was skipped, resized, left out: one sentence each; more when the transform is
            measured.
        names: what each row is called; its number from 0, if empty.
        facts: plain data for `undiffuse info`.
        stream: how rows are read that are not all looked at; None: they have been.
        decided: options of reading that were decided here, for reading the same again.
    """

    kind: str
    rows: Rows
    form: Form
    make_transform: MakeTransform
    name: str
    path: str | None
    fingerprint: str
    labels: np.ndarray | ByRow | None = None
    classes: tuple[str, ...] = ()
    counts: Sequence[int] | None = None
    given: tuple[Given, ...] = ()
    maps: tuple[GivenMap, ...] = ()
    groups: np.ndarray | None = None
    parts: np.ndarray | None = None
    notes: Sequence[str] = ()
    names: Sequence[Any] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    stream: Stream | None = None
    decided: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Movable(Protocol):
    """Rows that are cut from something longer, and can be cut elsewhere: see `Windows`."""

    def room(self, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends between which each row can begin, not to meet those held out."""
        ...

    def moved(
        self, indices: np.ndarray, room: tuple[np.ndarray, np.ndarray], u: np.ndarray
    ) -> np.ndarray:
        """Return rows that begin at the shares u of their room."""
        ...


@final
class ArrayRows:
    """The rows of an array (N, ...), in memory or in a file, taken in native byte order.

    A memory-mapped file is read by position, not through the map: if it is cut short meanwhile,
    that is an InputError, where a map ends the process with SIGBUS.

    >>> ArrayRows(np.arange(6).reshape(3, 2)).take(np.array([2, 0])).tolist()
    [[4, 5], [0, 1]]
    """

    def __init__(self, array: np.ndarray) -> None:
        self.file = _MappedFile.of(array)
        self.array = np.asarray(array)  # a memory map's subclass would travel with every batch
        self.dtype = self.array.dtype.newbyteorder("=")

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.array)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return the rows (B, ...) at these positions, as a new array.

        Raises:
            InputError: the file has been cut short since it was opened.
        """
        if self.file is None:
            return np.ascontiguousarray(self.array[indices], dtype=self.dtype)
        shape = (len(indices), *self.array.shape[1:])
        rows = np.frombuffer(self.file.rows(indices), self.array.dtype).reshape(shape)
        return rows.astype(self.dtype)


@final
class SomeRows:
    """Some rows of others.

    >>> SomeRows(ArrayRows(np.arange(6)), np.array([4, 2])).take(np.array([1])).tolist()
    [2]
    """

    def __init__(self, rows: Rows, numbers: np.ndarray) -> None:
        self.rows, self.numbers = rows, numbers

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.numbers)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """See `Rows`."""
        return self.rows.take(self.numbers[indices])


@final
class _MappedFile:
    """The file behind a memory-mapped array whose rows lie one after another in it."""

    def __init__(self, path: str, offset: int, row: int) -> None:
        self.path, self.offset, self.row = path, offset, row
        self.handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.handle)

    @classmethod
    def of(cls, array: np.ndarray) -> _MappedFile | None:
        """Return the file of an array; None if it is in memory, or laid out in another way."""
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        if not isinstance(root, np.memmap) or not array.flags.c_contiguous or not array.size:
            return None
        if root.filename is None or array.ndim == 0:
            return None
        offset = root.offset + array.ctypes.data - root.ctypes.data
        return cls(str(root.filename), offset, array[:1].nbytes)

    def rows(self, indices: np.ndarray) -> bytearray:
        """Return the bytes of rows, read together where they follow each other."""
        row, content = self.row, bytearray(len(indices) * self.row)
        view = memoryview(content)
        cuts = np.flatnonzero(np.diff(indices) != 1) + 1
        for first, last in pairwise([0, *cuts.tolist(), len(indices)]):
            if last > first:
                start = self.offset + int(indices[first]) * row
                self._fill(view[first * row : last * row], start)
        return content

    def _fill(self, view: memoryview, start: int) -> None:
        done = 0
        while done < len(view):
            count = os.preadv(self.handle, [view[done:]], start + done)
            if count == 0:
                raise InputError(
                    f"{self.path}: has been cut short since it was opened; restore it, and start "
                    "again or continue with --resume."
                )
            done += count


def as_tensor(rows: np.ndarray) -> torch.Tensor:
    """Return a tensor of the same values and type, or a larger integer type if torch lacks it.

    >>> as_tensor(np.array([65535], np.uint16))
    tensor([65535], dtype=torch.int32)
    """
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=_WIDER.get(rows.dtype, rows.dtype)))


def chunk_length(rows: Rows) -> int:
    """Return how many rows make about 8 MB: what is read at a time when walking over the data."""
    return int(np.clip(CHUNK_BYTES // max(rows.take(np.arange(1)).nbytes, 1), 1, 65536))


def chunk_indices(
    rows: Rows, progress: Progress | None = None, what: str = "reading"
) -> Iterator[np.ndarray]:
    """Yield the positions of all rows in order, as many at a time as make about 8 MB."""
    length = chunk_length(rows)
    for start in range(0, len(rows), length):
        stop = min(start + length, len(rows))
        yield np.arange(start, stop)
        if progress:
            progress(stop, len(rows), what)


def chunks(
    rows: Rows, progress: Progress | None = None, what: str = "reading"
) -> Iterator[np.ndarray]:
    """Yield all rows in order, about 8 MB at a time."""
    return (rows.take(indices) for indices in chunk_indices(rows, progress, what))


def fingerprint(*arrays: np.ndarray | None) -> str:
    """Return a short name for the content of arrays: type, shape and every value.

    >>> fingerprint(np.zeros(3)) == fingerprint(np.zeros(3))
    True
    >>> fingerprint(np.zeros(3)) == fingerprint(np.ones(3))
    False
    """
    digest = hashlib.sha256()
    for part in arrays:
        if part is not None:
            digest.update(f"{part.dtype.str} {part.shape}".encode())
            for chunk in chunks(ArrayRows(part)):
                digest.update(chunk.data)
    return digest.hexdigest()[:16]

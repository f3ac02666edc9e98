"""Rows by number, from memory or from a memory map, and the ways from an array to a tensor.

Nothing here holds more than the rows that were asked for: a memory-mapped file of any size is read a chunk at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from undiffuse.interfaces import Progress, Rows, Transform

CHUNK_BYTES = 8 * 2**20
_SAMPLED_BYTES = 64 * 2**20
_BLOCK_BYTES = 2**16

MakeTransform = Callable[[Callable[[], Iterator[np.ndarray]]], Transform]
"""`make_transform(chunks)`: the transform measured on rows that `chunks()` gives some at a time."""

# torch computes on fewer integer types than numpy stores: each of these goes to the next larger signed one.
_WIDER = {np.dtype("uint16"): np.int32, np.dtype("uint32"): np.int64, np.dtype("uint64"): np.int64}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The result of reading one source. `make_transform` is called once, with the training rows in chunks, so that
    nothing is measured on held-out rows; it may iterate more than once by calling its argument again.
    """

    kind: str  # a key of KINDS: how the rows are modelled, whoever read them
    rows: Rows
    form: Any  # a Form
    make_transform: MakeTransform
    name: str
    path: str | None  # absolute, None for data that came as an object
    fingerprint: str  # changes when the data changes
    labels: np.ndarray | None = None  # (N,) int64, an index into classes
    classes: tuple[str, ...] = ()
    groups: np.ndarray | None = (
        None  # (N,) int64: rows of one group are held out together, or trained on together
    )
    notes: tuple[str, ...] = ()  # one sentence each: what was skipped, resized, left out
    names: Sequence[Any] = ()  # what each row is called; by its number, from 0, if empty
    facts: dict[str, Any] = field(default_factory=dict)  # plain data for `undiffuse info`


class ArrayRows:
    """The rows of an array (N, ...), in memory or memory-mapped, taken in the machine's own byte order.

    >>> ArrayRows(np.arange(6).reshape(3, 2)).take(np.array([2, 0])).tolist()
    [[4, 5], [0, 1]]
    """

    def __init__(self, array: np.ndarray) -> None:
        self.array = np.asarray(
            array
        )  # a plain view: a memory map's subclass would travel with every batch
        self.dtype = self.array.dtype.newbyteorder("=")

    def __len__(self) -> int:
        return len(self.array)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The rows (B, ...) at these positions, as a fresh array."""
        return np.ascontiguousarray(self.array[indices], dtype=self.dtype)


def as_tensor(rows: np.ndarray) -> torch.Tensor:
    """A tensor of the same values, in the stored type or, where torch lacks it, the next larger signed integer.

    >>> as_tensor(np.array([65535], np.uint16))
    tensor([65535], dtype=torch.int32)
    """
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=_WIDER.get(rows.dtype, rows.dtype)))


def chunk_length(rows: Rows) -> int:
    """How many rows make about 8 MB: what is read at a time by anything that walks over the data."""
    return int(np.clip(CHUNK_BYTES // max(rows.take(np.arange(1)).nbytes, 1), 1, 65536))


def chunks(
    rows: Rows, progress: Progress | None = None, what: str = "reading"
) -> Iterator[np.ndarray]:
    """All rows in order, a chunk at a time."""
    length = chunk_length(rows)
    for start in range(0, len(rows), length):
        stop = min(start + length, len(rows))
        yield rows.take(np.arange(start, stop))
        if progress:
            progress(stop, len(rows), what)


def fingerprint(array: np.ndarray, *more: np.ndarray | None) -> str:
    """A short name for the content of arrays: type, shape, and up to 64 MB of the values, sampled evenly.

    The same wherever the file lies. A change that falls between the samples of a larger array is not seen.

    >>> fingerprint(np.zeros(3)) == fingerprint(np.zeros(3)), fingerprint(np.zeros(3)) == fingerprint(np.ones(3))
    (True, False)
    """
    digest = hashlib.sha256()
    for part in (array, *more):
        if part is None:
            continue
        digest.update(f"{part.dtype.str} {part.shape}".encode())
        per_block = max(1, _BLOCK_BYTES // max(part[:1].nbytes, 1))  # rows
        blocks = -(-len(part) // per_block)
        budget = max(1, _SAMPLED_BYTES // max(per_block * part[:1].nbytes, 1))
        for block in np.unique(np.linspace(0, blocks - 1, min(blocks, budget)).astype(np.int64)):
            digest.update(
                np.ascontiguousarray(part[block * per_block : (block + 1) * per_block]).tobytes()
            )
    return digest.hexdigest()[:16]

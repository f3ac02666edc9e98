"""Batches of arrays, appended to a file: what has been drawn or scored survives a crash.

    identity (one line of JSON), then for each batch: length and CRC-32 of what follows, then a .npz

A batch that was cut short is dropped when the file is opened again, and what follows is made anew.
Two files with the same identity hold the same rows, and one may be the beginning of the other.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np

from undiffuse.errors import InputError

_HEAD = struct.Struct("<QI")  # length, CRC-32


@final
class BatchFile:
    """The batches in the file `path`, of what `identity` describes; made with the first batch.

    Args:
        path: the file.
        identity: plain data, all that the rows depend on.
        replace: whether a file that holds something else may be replaced.

    Raises:
        InputError: if the file holds something else (saying what differs) or cannot be read.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], *, replace: bool = False) -> None:
        self.path = path
        self.identity = json.loads(json.dumps(identity, sort_keys=True))
        self.sizes: list[int] = []  # rows of each batch
        try:
            if path.exists():
                self._open(replace)
        except OSError as problem:
            reason = problem.strerror or problem
            raise InputError(
                f"{path}: could not be read: {reason}; remove it, or choose another --out."
            ) from problem

    @classmethod
    def in_folder(cls, folder: Path, identity: Mapping[str, Any]) -> BatchFile:
        """Return the file in `folder` that is named by a hash of `identity`."""
        name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        return cls(folder / f"{name}.batches", identity, replace=True)

    @property
    def rows(self) -> int:
        """How many rows are there."""
        return sum(self.sizes)

    def append(self, batch: Mapping[str, Any]) -> None:
        """Append arrays, numbers and strings by name; the first one has an entry for each row."""
        stream = io.BytesIO()
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in batch.items()}
        np.savez(stream, **arrays)
        record = stream.getvalue()
        first = b"" if self.sizes else (json.dumps(self.identity) + "\n").encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(first + _HEAD.pack(len(record), zlib.crc32(record)) + record)
                file.flush()
                os.fsync(file.fileno())
        except OSError as problem:
            raise InputError(
                f"{self.path}: could not be written: {problem.strerror or problem}; "
                "the same command goes on from there once that is mended."
            ) from problem
        self.sizes.append(len(next(iter(batch.values()))))

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield what was appended, in order."""
        if not self.sizes:
            return
        with self.path.open("rb") as file:
            file.readline()
            for _ in self.sizes:
                record = _record(file)
                assert record is not None
                yield record

    def column(self, name: str, count: int) -> np.ndarray:
        """Return the first `count` entries of an array, or all if there are fewer."""
        parts, have = [np.zeros(0)], 0
        for batch in self:
            if have >= count:
                break
            parts.append(batch[name])
            have += len(batch[name])
        return np.concatenate(parts[1:] or parts)[:count]

    def _open(self, replace: bool) -> None:
        """Count the rows of whole batches, and cut the file after the last of them."""
        good = 0
        with self.path.open("r+b") as file:
            if self._is_ours(file.readline(), replace):
                while (record := _record(file)) is not None:
                    self.sizes.append(len(next(iter(record.values()))))
                    good = file.tell()
            good = good if self.sizes else 0
            if good != self.path.stat().st_size:
                file.truncate(good)

    def _is_ours(self, line: bytes, replace: bool) -> bool:
        try:
            found = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            return False
        names = [*self.identity, *(name for name in found if name not in self.identity)]
        different = [name for name in names if found.get(name) != self.identity.get(name)]
        if different and not replace:
            raise InputError(
                f"{self.path}: holds what another command began ({', '.join(different)} differ); "
                "finish that one, or remove the file."
            )
        return not different


def _record(file: BinaryIO) -> dict[str, np.ndarray] | None:
    """The next batch of the file; None at its end, and where the rest is damaged."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length, checksum = _HEAD.unpack(head)
    if not 0 < length <= os.fstat(file.fileno()).st_size - file.tell():
        return None
    record = file.read(length)
    if zlib.crc32(record) != checksum:
        return None
    with np.load(io.BytesIO(record), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}

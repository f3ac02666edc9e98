"""Batches of arrays, appended to a file: what has been drawn or scored survives a crash.

    identity (one line of JSON), then for each batch: length and CRC-32 of what follows, then a .npz

A batch that is damaged or cut short is dropped when the file is opened again, with all that follow
it, which are made anew. Two files with the same identity hold the same rows, and one may be the
beginning of the other. A file in a folder that cannot be written to is held in memory instead.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np

from undiffuse.errors import InputError
from undiffuse.reading import open_regular, parse_json, said

_HEAD = struct.Struct("<QI")  # length, CRC-32
LONGEST_LINE = 2**20  # bytes of the identity


@final
class BatchFile:
    """The batches in the file `path`, of what `identity` describes; made with the first batch.

    Args:
        path: the file.
        identity: plain data, all that the rows depend on.
        replace: whether a file that holds something else may be replaced.
        like: what each batch holds, name -> kinds of numpy types, the first with an entry for each
            row; a batch that does not is damaged.
        shape: of an entry of the first; None: any.

    Raises:
        InputError: if the file holds something else (saying what differs) or cannot be read.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        *,
        replace: bool = False,
        like: Mapping[str, str] | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self.path, self.like, self.shape = path, like, shape
        self.identity = json.loads(json.dumps(identity, sort_keys=True))
        self.sizes: list[int] = []  # rows of each batch
        self.held: list[bytes] | None = None  # the batches, where they cannot be written
        try:
            if path.is_symlink():
                path.unlink()  # what it leads to is somebody else's
            if path.exists():
                self._open(replace)
        except (OSError, ValueError) as problem:
            if isinstance(problem, InputError):
                raise
            raise InputError(
                f"{path}: could not be read: {said(problem)}; remove it, or choose another --out."
            ) from problem

    @classmethod
    def in_folder(cls, folder: Path, identity: Mapping[str, Any], **expected: Any) -> BatchFile:
        """Return the file in `folder` that is named by a hash of `identity`, a cache.

        Where that cannot be read or written, the batches are held in memory. `expected` is `like`
        and `shape`.
        """
        name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        place = folder / f"{name}.batches"
        try:
            file = cls(place, identity, replace=True, **expected)
            writable = os.access(next(p for p in place.parents if p.exists()), os.W_OK)
        except (InputError, OSError):
            file, writable = cls(Path(os.devnull) / name, identity, **expected), False
        if not writable:
            file.held = list(file._records())
        return file

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
        self.sizes.append(len(next(iter(batch.values()))))
        if self.held is not None:
            self.held.append(record)
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(self.path, flags, 0o666), "ab") as file:
                file.write(first + _HEAD.pack(len(record), zlib.crc32(record)) + record)
                file.flush()
                os.fsync(file.fileno())
        except OSError as problem:
            raise InputError(
                f"{self.path}: could not be written: {problem.strerror or problem}; "
                "the same command goes on from there once that is mended."
            ) from problem

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield what was appended, in order."""
        for record in self._records():
            yield _arrays(record)

    def _records(self) -> Iterator[bytes]:
        if self.held is not None or not self.sizes:
            yield from self.held or ()
            return
        with os.fdopen(open_regular(self.path), "rb") as file:
            file.readline(LONGEST_LINE)
            for _ in self.sizes:
                record = _record(file)
                if record is None:
                    raise InputError(
                        f"{self.path}: has been changed by another process; run the command again."
                    )
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
        with os.fdopen(open_regular(self.path), "rb") as file:
            if self._is_ours(file.readline(LONGEST_LINE), replace):
                while (record := _record(file)) is not None:
                    arrays = self._sound(record)
                    if arrays is None:
                        break
                    self.sizes.append(len(next(iter(arrays.values()))))
                    good = file.tell()
            good = good if self.sizes else 0
            size = os.fstat(file.fileno()).st_size
        if good != size and os.access(self.path, os.W_OK):
            os.truncate(self.path, good)

    def _sound(self, record: bytes) -> dict[str, np.ndarray] | None:
        """The arrays of a batch, None if they are not those that are appended here."""
        try:
            arrays = _arrays(record)
            first = next(iter(arrays.values()))
        except (OSError, ValueError, LookupError, StopIteration, EOFError, NotImplementedError,
                zipfile.BadZipFile, zlib.error, SyntaxError, TypeError):  # fmt: skip
            return None
        like = self.like or {name: array.dtype.kind for name, array in arrays.items()}
        as_expected = (
            list(arrays) == list(like)
            and all(arrays[name].dtype.kind in kinds for name, kinds in like.items())
            and first.ndim > 0
            and len(first) > 0
            and self.shape in (None, first.shape[1:])
            and all(array.ndim == 0 or len(array) == len(first) for array in arrays.values())
        )
        return arrays if as_expected else None

    def _is_ours(self, line: bytes, replace: bool) -> bool:
        try:
            found = parse_json(line) if line.endswith(b"\n") else None
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


def _record(file: BinaryIO) -> bytes | None:
    """The next batch of the file; None at its end, and where the rest is damaged."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length, checksum = _HEAD.unpack(head)
    if not 0 < length <= os.fstat(file.fileno()).st_size - file.tell():
        return None
    record = file.read(length)
    return record if zlib.crc32(record) == checksum else None


def _arrays(record: bytes) -> dict[str, np.ndarray]:
    """The arrays of a batch, which are stored as they are: one that unpacks is not ours."""
    with zipfile.ZipFile(io.BytesIO(record)) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("compressed")
    with np.load(io.BytesIO(record), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}

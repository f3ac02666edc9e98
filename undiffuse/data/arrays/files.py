"""Arrays from files: .npy (memory-mapped), .npz, and IDX, the format of MNIST and its relatives.

IDX: two zero bytes, a byte for the type, a byte for the number of axes, each length in four big-endian bytes, values.
Nothing is ever unpickled: an array of objects, or a pickle under a borrowed name, is refused.
"""

from __future__ import annotations

import gzip
import math
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from undiffuse.data.arrays.read import from_array
from undiffuse.data.rows import Loaded
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress

_DATA_KEYS, _LABEL_KEYS = ("data", "x", "images", "arr_0"), ("label", "labels", "y")
_LARGE = 2**30  # bytes
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_npy(path: Path, progress: Progress | None = None) -> Loaded:
    """One array, memory-mapped: rows are read from the disk as they are needed."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as problem:
        raise InputError(f"{path.name}: {_refusal(path, problem)}") from problem
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(f"{path.name}: this is an .npz archive under another name; rename it.")
    return from_array(array, name=path.name, path=str(path), progress=progress)


def read_npz(path: Path, progress: Progress | None = None) -> Loaded:
    """The array called data, x, images or arr_0, or the largest; labels are called label, labels or y."""
    try:
        with np.load(path, mmap_mode=None, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("not an archive")
            sizes = {
                entry.filename.removesuffix(".npy"): entry.file_size for entry in _entries(path)
            }
            labels_key = next(
                (key for key in _LABEL_KEYS if key in archive.files and len(archive.files) > 1),
                None,
            )
            others = [key for key in archive.files if key != labels_key]
            if not others:
                raise InputError(f"{path.name}: the archive is empty.")
            named = [key for key in _DATA_KEYS if key in others]
            key = named[0] if named else max(others, key=lambda key: sizes.get(key, 0))
            array, labels = archive[key], archive[labels_key] if labels_key else None
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(f"{path.name}: {_refusal(path, problem)}") from problem
    notes = [f'{path.name}: the array "{key}" is used, out of {", ".join(others)}.'] * (
        len(others) > 1
    )
    if array.nbytes > _LARGE:
        size = array.nbytes / 2**30
        notes.append(
            f"{path.name}: all {size:.1f} GiB are held in memory; an .npy file is read from the disk instead."
        )
    return from_array(
        array, name=path.name, path=str(path), labels=labels, notes=tuple(notes), progress=progress
    )


def _entries(path: Path) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(path) as archive:
        return archive.infolist()


def is_idx(path: Path) -> bool:
    """Whether a file, gzipped or not, begins as an IDX file does."""
    try:
        with _open(path) as stream:
            start = stream.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return (
        len(start) == 4 and start[:2] == b"\0\0" and start[2] in _IDX_TYPES and 1 <= start[3] <= 8
    )


def read_idx(path: Path, progress: Progress | None = None, classes: tuple[str, ...] = ()) -> Loaded:
    """One IDX file, with the labels of the file beside it that is called the same with "labels" for "images"."""
    beside = re.sub(r"idx\d", "idx1", path.name.replace("images", "labels"))
    choices = [
        path.with_name(beside),
        path.with_name(beside.removesuffix(".gz")),
        path.with_name(beside + ".gz"),
    ]
    found = [choice for choice in choices if beside != path.name and choice.is_file()]
    labels = idx_array(found[0]) if found else None
    return from_array(
        idx_array(path),
        name=path.name,
        path=str(path),
        labels=labels,
        classes=classes,
        progress=progress,
    )


def idx_array(path: Path) -> np.ndarray:
    """The array in an IDX file: memory-mapped, or held in memory if the file is gzipped."""
    try:
        with _open(path) as stream:
            _, _, code, axes = stream.read(4)
            shape = tuple(np.frombuffer(stream.read(4 * axes), ">u4").astype(int).tolist())
            dtype, offset = np.dtype(_IDX_TYPES[code]), 4 + 4 * axes
            if path.suffix != ".gz":
                return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
            values = np.frombuffer(stream.read(), dtype)
    except (ValueError, KeyError, OSError, EOFError, zlib.error) as problem:
        raise InputError(
            f"{path.name}: the file is cut short or damaged; fetch it again."
        ) from problem
    if len(values) != math.prod(shape):
        raise InputError(f"{path.name}: the file is cut short or damaged; fetch it again.")
    return values.reshape(shape)


def _open(path: Path):
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _refusal(path: Path, problem: Exception) -> str:
    """Why numpy did not read a file, from its first bytes and its message."""
    with path.open("rb") as stream:
        start = stream.read(8)
    if not start:
        return "the file is empty."
    if start.startswith((b"\x93NUMPY", b"PK")):
        if "object" in str(problem).lower():
            return "it holds Python objects, which are never unpickled; save numbers instead."
        return "the file is cut short or damaged; write it again."
    return "this is not a numpy file, or a pickled one, which is never opened; save the array with numpy.save."

"""Arrays from files: .npy (memory-mapped), .npz, HDF5, and IDX, the format of MNIST.

IDX: two zero bytes, a byte for the type, a byte for the number of axes, each length in four
big-endian bytes, then the values. Nothing is ever unpickled: an array of objects, or a pickle under
another suffix, is refused.
"""

from __future__ import annotations

import gzip
import math
import re
import zipfile
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from undiffuse.data.arrays.hdf5 import hdf5_array
from undiffuse.data.arrays.read import from_array
from undiffuse.data.arrays.unpacked import LARGE, check_unpacked
from undiffuse.data.paths import HDF5_SUFFIXES, name_of, suffix_of
from undiffuse.data.rows import Loaded
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress

_DATA_KEYS, _LABEL_KEYS = ("data", "x", "images", "arr_0"), ("label", "labels", "conditions", "y")
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def array_in(path: Path) -> np.ndarray:
    """Return the array of an HDF5 or .npy file, or that of `read_npz`. Raises InputError."""
    if suffix_of(path) in HDF5_SUFFIXES:
        return hdf5_array(path)
    return _npz_arrays(path)[0] if path.suffix.lower() == ".npz" else _npy_array(path)


def read_npy(path: Path, progress: Progress | None = None, **reading: Any) -> Loaded:
    """Return the array of a file, memory-mapped: rows are read as they are needed.

    `reading` is axes, condition and maps, as for `from_array`, here and below.

    Raises:
        InputError: the file is damaged or holds Python objects; see also `from_array`.
    """
    array = _npy_array(path)
    return from_array(array, name=path.name, path=str(path), progress=progress, **reading)


def read_npz(path: Path, progress: Progress | None = None, **reading: Any) -> Loaded:
    """Return one array of an archive: called data, x, images or arr_0, or else the largest.

    Labels are called label, labels or y, and so are conditions, or conditions.

    Raises:
        InputError: the file is damaged, empty or holds Python objects; see also `from_array`.
    """
    array, labels, notes = _npz_arrays(path)
    if array.nbytes > LARGE:
        size = f"{array.nbytes / 2**30:.1f} GiB"
        notes += (
            f"{path.name}: all {size} are held in memory; "
            "an .npy file is read from the disk instead.",
        )
    return from_array(
        array,
        name=path.name,
        path=str(path),
        labels=labels,
        notes=notes,
        progress=progress,
        **reading,
    )


def read_idx(
    path: Path,
    progress: Progress | None = None,
    *,
    classes: tuple[str, ...] = (),
    **reading: Any,
) -> Loaded:
    """Return the array of an IDX file.

    Args:
        path: the file, possibly gzipped. Labels are taken from the file beside it that is named
            alike, with "labels" for "images".
        progress: is told how many values have been checked.
        classes: the names of the classes 0, 1, ..., if they are known.
        reading: as for `read_npy`.

    Raises:
        InputError: the file is damaged; see also `from_array`.
    """
    beside = re.sub(r"idx\d", "idx1", path.name.replace("images", "labels"))
    choices = [beside, beside.removesuffix(".gz"), beside + ".gz"]
    found = [name for name in choices if beside != path.name and path.with_name(name).is_file()]
    return from_array(
        _idx_array(path),
        name=path.name,
        path=str(path),
        labels=_idx_array(path.with_name(found[0])) if found else None,
        classes=classes,
        progress=progress,
        **reading,
    )


def is_idx(path: Path) -> bool:
    """Return whether a file, gzipped or not, begins as an IDX file does."""
    try:
        with _open(path) as stream:
            start = stream.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return (
        len(start) == 4 and start[:2] == b"\0\0" and start[2] in _IDX_TYPES and 1 <= start[3] <= 8
    )


def read_hdf5(path: Path, progress: Progress | None = None, **reading: Any) -> Loaded:
    """Return a data set of an HDF5 file: the one that the path names, or else the only one.

    Raises:
        InputError: the file is damaged, or has no such data set; see also `from_array`.
    """
    array, name = hdf5_array(path), name_of(path)
    return from_array(array, name=name, path=str(path), progress=progress, **reading)


def _npy_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as problem:
        raise InputError(f"{path.name}: {_refusal(path, problem)}") from problem
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(f"{path.name}: this is an .npz archive under another name; rename it.")
    return array


def _npz_arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Return the data, the labels, and a note if there was a choice."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("not an archive")
            keys = archive.files
            label_keys = [key for key in _LABEL_KEYS if key in keys and len(keys) > 1][:1]
            others = [key for key in keys if key not in label_keys]
            if not others:
                raise InputError(f"{path.name}: the archive is empty.")
            named = [key for key in _DATA_KEYS if key in others]
            sizes = _sizes(path)
            key = named[0] if named else max(others, key=sizes.__getitem__)
            check_unpacked(path, sizes[key])
            array, labels = archive[key], archive[label_keys[0]] if label_keys else None
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(f"{path.name}: {_refusal(path, problem)}") from problem
    if len(others) == 1:
        return array, labels, ()
    note = f'{path.name}: the array "{key}" is used, out of {", ".join(others)}.'
    return array, labels, (note,)


def _sizes(path: Path) -> dict[str, int]:
    """Return the bytes of each array of an archive, without reading it."""
    with zipfile.ZipFile(path) as archive:
        return {
            entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()
        }


def _idx_array(path: Path) -> np.ndarray:
    """Return the array of an IDX file: memory-mapped, or in memory if the file is gzipped."""
    damaged = f"{path.name}: the file is cut short or damaged; fetch it again."
    try:
        with _open(path) as stream:
            _, _, code, axes = stream.read(4)
            shape = tuple(np.frombuffer(stream.read(4 * axes), ">u4").astype(int).tolist())
            dtype, offset = np.dtype(_IDX_TYPES[code]), 4 + 4 * axes
            if path.suffix != ".gz":
                return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
            size = math.prod(shape) * dtype.itemsize
            check_unpacked(path, size)
            values = np.frombuffer(stream.read(size + 1), dtype)
    except (ValueError, KeyError, OSError, EOFError, zlib.error) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(damaged) from problem
    if len(values) != math.prod(shape):
        raise InputError(damaged)
    return values.reshape(shape)


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _refusal(path: Path, problem: Exception) -> str:
    """Return why numpy did not read a file, from its first bytes and its message."""
    with path.open("rb") as stream:
        start = stream.read(8)
    if not start:
        return "the file is empty."
    if start.startswith((b"\x93NUMPY", b"PK")):
        if "object" in str(problem).lower():
            return "it holds Python objects, which are never unpickled; save numbers instead."
        return "the file is cut short or damaged; write it again."
    return (
        "this is not a numpy file, or a pickled one, which is never opened; "
        "save the array with numpy.save."
    )

"""Data sets of HDF5 files as arrays: mapped from the file where they lie in it as in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from undiffuse.data.arrays.unpacked import check_unpacked
from undiffuse.data.paths import name_of, split_part
from undiffuse.errors import InputError, unknown
from undiffuse.reading import said

_SHOWN = 12  # data sets in a sentence


def hdf5_array(path: Path) -> np.ndarray:
    """Return the data set that a path names, file.h5:/group/name, or the only one of the file.

    Raises:
        InputError: h5py is missing, the file is damaged, or there is no such data set.
    """
    try:
        import h5py
    except ImportError as problem:
        raise InputError(
            "reading HDF5 files needs h5py; pip install 'undiffuse[science]'."
        ) from problem
    file, wanted = split_part(path)
    try:
        with file.open("rb") as stream, h5py.File(stream, "r") as tree:
            return _array_of(_data_set(tree, wanted, file), file, name_of(path))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(
            f"{name_of(path)}: could not be read as HDF5 ({said(problem)}); check the file."
        ) from problem


def _data_set(tree: Any, wanted: str, file: Path) -> Any:
    """Return the data set of a name, or the only one with an axis."""
    import h5py

    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape:
            found[f"/{name}"] = item

    tree.visititems(visit)
    name = wanted if wanted.startswith("/") else f"/{wanted}"
    if wanted and name in found:
        return found[name]
    if not found:
        raise InputError(f"{file.name}: has no data sets; there is nothing to learn from.")
    if wanted:
        raise unknown(f"{file.name}:", "data set", name, list(found)[:_SHOWN])
    if len(found) > 1:
        shown = [f"{one} {item.shape}" for one, item in found.items()]
        listed = ", ".join(shown[:_SHOWN]) + ", ..." * (len(shown) > _SHOWN)
        raise InputError(
            f"{file.name}: holds {len(found)} data sets ({listed}); name one: "
            f"{file.name}:{next(iter(found))}."
        )
    return next(iter(found.values()))


def _array_of(item: Any, file: Path, name: str) -> np.ndarray:
    if item.dtype.kind == "O" or item.dtype.hasobject:
        raise InputError(f"{name}: holds text or lists, not numbers; choose another data set.")
    offset = item.id.get_offset()  # None if it is in chunks, or in another file
    if offset is not None and item.size:
        return np.memmap(file, item.dtype, "r", offset, item.shape)
    check_unpacked(file, item.nbytes)
    return item[...]

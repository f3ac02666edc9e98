"""Samples that were drawn before, to be evaluated: those that `undiffuse sample` wrote, or others.

Of a folder of parts, as .npy or Parquet, only the first are read: ten million rows need not be.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from undiffuse.data import conform
from undiffuse.data.cells import CellColumns
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress
from undiffuse.reading import said

_PART = re.compile(r"part-\d{5,}(\.npy|\.parquet)")


def given_samples(
    samples: Any,
    config: Mapping[str, Any],
    count: int,
    *,
    batch: int,
    progress: Progress | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Return the first `count` samples (n, ...) in a run's stored type, and what to say of them.

    Args:
        samples: a file or folder, or anything else that `load` takes.
        config: the run's config["data"].
        count: how many at most.
        batch: rows read at a time.
        progress: called while files are read.

    Raises:
        InputError: as `data.conform` does, and for parts that cannot be read.
    """
    named = isinstance(samples, str | os.PathLike)
    folder = Path(os.path.expanduser(samples)) if named else None
    if folder is not None and folder.is_file() and folder.suffix.lower() == ".png":
        raise InputError(
            f"{samples}: is one picture, from which samples cannot be read; draw them into a "
            "folder or an .npy file."
        )
    first = None if folder is None else _first_parts(folder, count)
    own = conform(samples if first is None else first[0], config, progress=progress)
    total = len(own) if first is None else first[1]
    name = os.fspath(samples) if named else own.name
    parts, left_out = [], 0
    for start in range(0, min(count, len(own)), batch):
        part, problems = own.readable.take(np.arange(start, min(start + batch, count, len(own))))
        bad = [i for i, one in problems.items() if one.nats is not None]
        parts.append(np.delete(part, bad, 0))
        left_out += len(bad)
    rows = np.concatenate(parts)
    notes = [
        f"{name}: {len(rows):,} of {total:,} samples that were drawn before are compared; speed "
        "and conditions are those of samples that the run draws now"
    ]
    if left_out:
        notes.append(
            f"{name}: {left_out:,} samples could not be read, or hold what training rows cannot, "
            "and were left out"
        )
    return rows, [*notes, *own.notes]


def _first_parts(folder: Path, count: int) -> tuple[Any, int] | None:
    """The parts of a folder that hold the first `count` rows, as one, and how many rows all hold.

    None for what is no folder of parts of one kind.
    """
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    matches = [_PART.fullmatch(name) for name in names]
    kinds = {None if match is None else match[1] for match in matches}
    if len(kinds) != 1 or None in kinds:
        return None
    try:
        files = [folder / name for name in names]
        return (_arrays if kinds == {".npy"} else _tables)(files, count)
    except (OSError, ValueError) as problem:
        raise InputError(f"{folder}: could not be read: {said(problem)}.") from problem


def _arrays(files: list[Path], count: int) -> tuple[np.ndarray, int]:
    parts = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
    needed, have = [], 0
    for part in parts:
        if have < count:
            needed.append(part[: count - have])
            have += len(needed[-1])
    return np.concatenate(needed), sum(len(part) for part in parts)


def _tables(files: list[Path], count: int) -> tuple[Any, int] | None:
    """None for images and arrays in cells, of which no more are read than are asked for."""
    import pyarrow as pa
    from pyarrow import parquet

    with files[0].open("rb") as stream:
        if CellColumns.of(parquet.read_schema(stream)) is not None:
            return None
    needed, total = [], 0
    for file in files:
        if total < count:
            with file.open("rb") as stream:  # Arrow takes no path that is not UTF-8
                needed.append(parquet.read_table(stream))
        with file.open("rb") as stream:
            total += parquet.read_metadata(stream).num_rows
    return pa.concat_tables(needed).slice(0, count), total

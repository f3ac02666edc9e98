"""A folder of images -> rows in a memory map, decoded once.

Two passes: headers decide what all images become (the size most of them have, the richest kind of pixels met), then
each is decoded, in parallel, into one array on the disk. It lies in the cache folder under a name made from the
files' paths, sizes and times, so the next run on the same folder starts at once and a changed folder is read anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from undiffuse.atomic import atomic_folder
from undiffuse.data.arrays.form import ImageForm
from undiffuse.data.arrays.transform import ImageTransform
from undiffuse.data.folder import cache_folder, classes_of, fingerprint, refuse_many, unreadable
from undiffuse.data.images.decode import Header, Target, Unreadable, read_header, read_image
from undiffuse.data.images.plan import plan
from undiffuse.data.labels import index_labels
from undiffuse.data.rows import ArrayRows, Loaded
from undiffuse.interfaces import Progress

_FORMAT = 1  # of the cached files
_WHAT = "images"
_BLOCK = 64  # images decoded at a time


def read_images(
    folder: Path,
    files: Sequence[Path],
    *,
    size: int | tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Loaded:
    """The images `files` of `folder`, as rows (H, W) or (H, W, C) of uint8, or (H, W) of uint16.

    `size` is the longer side, or (height, width). If every file lies in one of several subfolders, these are the
    classes. Raises InputError if over 5 % of the files, or all, cannot be read.
    """
    name = f"{folder.name}/"
    mark = fingerprint(folder, files)
    key = hashlib.sha256(f"{mark} {size} {_FORMAT}".encode()).hexdigest()[:24]
    place = cache_folder() / f"images-{key}"
    found = _cached(place)
    if found is None:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow's remarks on odd files; the bombs are looked for by hand
            _decode_all(place, name, files, size, progress)
        found = _cached(place)
        assert found is not None
    pixels, facts = found
    kept = [files[i] for i in facts["kept"]]
    classes, notes = classes_of(folder, kept, name, _WHAT)
    index, names = index_labels(classes, len(kept), name)
    channel_axis = None if pixels.ndim == 3 else -1
    shared = {
        "row_shape": pixels.shape[1:],
        "channel_axis": channel_axis,
        "dtype": pixels.dtype.name,
    }
    shared["levels"] = 2 ** (8 * pixels.dtype.itemsize)
    return Loaded(
        kind="images",
        rows=ArrayRows(pixels),
        form=ImageForm(**shared),
        make_transform=lambda _: ImageTransform(**shared),
        name=name,
        path=str(folder),
        fingerprint=mark,
        labels=index,
        classes=names,
        notes=(*facts["notes"], *notes),
        facts={
            "images": len(kept),
            "row_shape": list(pixels.shape[1:]),
            "dtype": pixels.dtype.name,
        },
    )


def _cached(place: Path) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The decoded rows and what is noted about them, or None if they are not there whole."""
    try:
        facts = json.loads((place / "facts.json").read_text())
        pixels = np.load(place / "rows.npy", mmap_mode="r", allow_pickle=False)
        return (pixels, facts) if len(pixels) == len(facts["kept"]) else None
    except (OSError, ValueError, EOFError, LookupError, TypeError):
        return None


def _decode_all(
    place: Path,
    name: str,
    files: Sequence[Path],
    size: int | tuple[int, int] | None,
    progress: Progress | None,
) -> None:
    """Read every image and write rows.npy and facts.json into `place`, which appears whole or not at all."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    with ThreadPoolExecutor(min(32, cores)) as pool:
        failed: dict[int, Unreadable] = {}
        headers: dict[int, Header] = {}
        for i, header in _each(pool, read_header, files, progress, f"looking at {name}"):
            if isinstance(header, Unreadable):
                failed[i] = header
            else:
                headers[i] = header
        refuse_many(name, files, failed, _WHAT)
        target, notes = plan(name, files, headers, size)
        with atomic_folder(place, replace=".*") as temporary:
            readable = list(headers)
            rows = _each(
                pool,
                partial(read_image, target=target),
                [files[i] for i in readable],
                progress,
                f"decoding {name}",
            )
            kept = []
            with (temporary / "rows.npy").open("wb") as stream:
                start = _write_header(stream, target, len(readable))
                for j, row in rows:
                    if isinstance(row, Unreadable):
                        failed[readable[j]] = row
                    else:
                        stream.write(row.tobytes())
                        kept.append(readable[j])
                refuse_many(name, files, failed, _WHAT)
                stream.seek(0)
                assert _write_header(stream, target, len(kept)) == start
            if failed:
                sentence = unreadable(name, files, failed, _WHAT)
                notes.insert(0, f"{sentence}; training on the other {len(kept):,}.")
            (temporary / "facts.json").write_text(json.dumps({"kept": kept, "notes": notes}))


def _each(
    pool: ThreadPoolExecutor,
    work: Callable[[Path], Any],
    files: Sequence[Path],
    progress: Progress | None,
    what: str,
) -> Iterator[tuple[int, Any]]:
    """(index, result or Unreadable) of `work` on each file, in order; only a block is ever waiting in memory."""

    def attempt(path: Path) -> Any:
        try:
            return work(path)
        except Unreadable as problem:
            return problem

    for start in range(0, len(files), _BLOCK):
        block = files[start : start + _BLOCK]
        yield from enumerate(pool.map(attempt, block), start)
        if progress:
            progress(start + len(block), len(files), what)


def _write_header(stream: Any, target: Target, rows: int) -> int:
    """The .npy header for this many rows; numpy leaves room in it, so that its length is the same for fewer."""
    dtype = np.dtype(np.uint16 if target.deep else np.uint8)
    fields = {"descr": dtype.str, "fortran_order": False, "shape": (rows, *target.row_shape)}
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.tell()

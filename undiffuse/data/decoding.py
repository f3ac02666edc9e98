"""The files of a folder, decoded in parallel and only once.

Two passes: the headers decide what all files become (a size, a rate, a kind of pixels), then each
file is decoded and appended to one array on the disk, which is memory-mapped. It lies in the cache
folder under a name made from the files' paths and contents, so the next run on the same folder
starts at once and a changed folder is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from undiffuse.atomic import atomic_folder
from undiffuse.data.folder import Folder, are_few, cache_folder
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_FORMAT = 3  # of the cached files

_File = TypeVar("_File")
_Result = TypeVar("_Result")
_Header = TypeVar("_Header")
_Target = TypeVar("_Target", bound="DataclassInstance")


class Unreadable(Exception):
    """A file that cannot be used, with the reason if it is worth saying."""


@dataclass(frozen=True)
class Decoded:
    """All readable files of a folder, one after another.

    Args:
        values: memory-mapped (total, ...); file `kept[i]` has the next `lengths[i]` of them.
        kept: positions of the readable files among the folder's.
        lengths: number of entries of each.
        target: what every file became, as plain data.
        notes: what was skipped and changed, one sentence each.
    """

    values: np.ndarray
    kept: tuple[int, ...]
    lengths: tuple[int, ...]
    target: dict[str, Any]
    notes: tuple[str, ...]


def decode_once(
    folder: Folder,
    read_header: Callable[[Path], _Header],
    plan: Callable[[Mapping[int, _Header]], tuple[_Target, list[str]]],
    decode: Callable[[Path, _Target], np.ndarray],
    *,
    key: str,
    ahead: int,
    rest: str = "training on",
    progress: Progress | None = None,
) -> Decoded:
    """Return what the files of a folder hold, from the cache or decoded now.

    Args:
        folder: the files.
        read_header: reads the header of a file, or raises Unreadable.
        plan: what every file becomes, a dataclass, given the headers by position; and notes.
        decode: returns a file as an array (n, ...), of one type and trailing shape for all, or
            raises Unreadable.
        key: whatever the result depends on besides the files.
        ahead: the most files that wait in memory at a time.
        rest: what happens with the files that can be read, for messages.
        progress: called after each file.

    Raises:
        InputError: more than a few of the files, or all of them, cannot be read.
    """
    place = _place(folder, key, progress)
    cached = _cached(place)
    if cached is not None:
        return cached
    failed: dict[int, Unreadable] = {}

    def each(
        positions: Sequence[int], work: Callable[[Path], _Result], ahead: int, what: str
    ) -> Iterator[tuple[int, _Result]]:
        """(position, result) of the files that can be read; refuse the folder if few can."""
        files = [folder.files[i] for i in positions]
        for j, result in for_each(files, work, ahead=ahead, progress=progress, what=what):
            if isinstance(result, Unreadable):
                failed[positions[j]] = result
            else:
                yield positions[j], result
        _refuse_many(folder, failed)

    positions = range(len(folder.files))
    headers = dict(each(positions, read_header, 64, f"looking at {folder.name}"))
    target, notes = plan(headers)
    with atomic_folder(place, replace=".*") as temporary:
        parts = each(
            list(headers), lambda path: decode(path, target), ahead, f"decoding {folder.name}"
        )
        lengths = _write_parts(temporary / "values.npy", parts)
        if failed:
            notes = [f"{unreadable(folder, failed)}; {rest} the other {len(lengths):,}.", *notes]
        _write_facts(temporary, lengths, asdict(target), notes)
    cached = _cached(place)
    assert cached is not None
    return cached


def _place(folder: Folder, key: str, progress: Progress | None) -> Path:
    """Where in the cache what the files hold is kept, by their contents and `key`."""
    name = f"{folder.fingerprint(progress)} {key} {_FORMAT}"
    return cache_folder() / f"{folder.what}-{hashlib.sha256(name.encode()).hexdigest()[:24]}"


def _write_facts(
    place: Path, lengths: Mapping[int, int], target: dict[str, Any], notes: list[str]
) -> None:
    """Write what is said of the files beside what they hold; `lengths` by position."""
    facts = {
        "kept": list(lengths),
        "lengths": list(lengths.values()),
        "target": target,
        "notes": notes,
    }
    (place / "facts.json").write_text(json.dumps(facts))


def for_each(
    files: Sequence[_File],
    work: Callable[[_File], _Result],
    *,
    ahead: int,
    progress: Progress | None = None,
    what: str = "",
) -> Iterator[tuple[int, _Result | Unreadable]]:
    """Yield (position, result) of `work` on each file, in order, worked out in parallel.

    Args:
        files: the files.
        work: what is done with each; where it raises Unreadable, that is the result.
        ahead: the most results that wait in memory at a time.
        progress: called after each file.
        what: what is being done, for `progress`.
    """

    def attempt(path: _File) -> _Result | Unreadable:
        try:
            return work(path)
        except Unreadable as problem:
            return problem

    waiting: deque[Future[_Result | Unreadable]] = deque()
    with warnings.catch_warnings(), ThreadPoolExecutor(min(32, ahead, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks on odd files
        for i in range(len(files)):
            while len(waiting) < min(ahead, len(files) - i):
                waiting.append(pool.submit(attempt, files[i + len(waiting)]))
            yield i, waiting.popleft().result()
            if progress:
                progress(i + 1, len(files), what)


def unreadable(folder: Folder, failed: Mapping[int, Unreadable]) -> str:
    """Return "photos/: 2 of 90 images could not be read (a.jpg, b.jpg)", three names at most."""
    some = sorted(failed)[:3]
    reasons = {i: f": {failed[i]}" if str(failed[i]) else "" for i in some}
    alike = len(set(reasons.values())) == 1  # then it is said once, after the names
    shown = [folder.files[i].name + ("" if alike else reasons[i]) for i in some]
    names = ", ".join(shown + ["..."] * (len(failed) > 3)) + (reasons[some[0]] if alike else "")
    return (
        f"{folder.name}: {len(failed):,} of {len(folder.files):,} {folder.what} could not be read "
        f"({names})"
    )


def _write_parts(path: Path, parts: Iterable[tuple[int, np.ndarray]]) -> dict[int, int]:
    """Write arrays (n, ...) one after another as one .npy; return the n of each position."""
    lengths: dict[int, int] = {}
    values: np.ndarray | None = None
    with path.open("wb") as stream:
        for i, part in parts:
            if values is None:
                values = part
                _write_npy_header(stream, values, 0)
            stream.write(np.ascontiguousarray(part).data)
            lengths[i] = len(part)
        assert values is not None  # or all had failed
        stream.seek(0)
        _write_npy_header(stream, values, sum(lengths.values()))
    return lengths


def _refuse_many(folder: Folder, failed: Mapping[int, Unreadable]) -> None:
    total = len(folder.files)
    if len(failed) == total or not are_few(len(failed), total):
        raise InputError(f"{unreadable(folder, failed)}; repair or remove them.")


def _cached(place: Path) -> Decoded | None:
    """Return what was decoded before; None if it is not there whole."""
    try:
        facts: dict[str, Any] = json.loads((place / "facts.json").read_text())
        values = np.load(place / "values.npy", mmap_mode="r", allow_pickle=False)
        if len(values) != sum(facts["lengths"]):
            return None
        return Decoded(
            values=values,
            kept=tuple(facts["kept"]),
            lengths=tuple(facts["lengths"]),
            target=facts["target"],
            notes=tuple(facts["notes"]),
        )
    except (OSError, ValueError, EOFError, LookupError, TypeError):
        return None


def _write_npy_header(stream: Any, values: np.ndarray, length: int) -> None:
    """Write a .npy header for `length` entries like `values`; numpy leaves room for any length."""
    fields = {
        "descr": np.lib.format.dtype_to_descr(values.dtype),
        "fortran_order": False,
        "shape": (length, *values.shape[1:]),
    }
    np.lib.format.write_array_header_1_0(stream, fields)

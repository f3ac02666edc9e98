"""Folders of images beside a folder of images, as conditions: a map for each, by its name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from undiffuse.data.decoding import decode_once
from undiffuse.data.folder import Folder, walk
from undiffuse.data.given import GivenMap
from undiffuse.data.images.decode import read_as_is, read_image_header
from undiffuse.data.maps import MOST_CLASSES, given_map
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress

_AHEAD = 64  # images that wait in memory


@dataclass(frozen=True)
class _Header:
    """What is known of an image of a map before it is resized."""

    size: tuple[int, int]
    picture: tuple[int, int]  # of the image that it is a condition of
    channels: int
    dtype: str
    values: tuple[int, ...]  # of one channel of few whole numbers


@dataclass(frozen=True)
class _Target:
    """What the images of a map become."""

    height: int
    width: int
    channels: int
    dtype: str
    nearest: bool


def without(folder: Folder, places: Sequence[Path]) -> Folder:
    """Return a folder without the images that lie in the folders of conditions."""
    files = tuple(file for file in folder.files if not any(one in file.parents for one in places))
    return replace(folder, files=files or folder.files)


def maps_beside(folder: Path, own: str | None, places: Sequence[Path]) -> list[Path]:
    """Return the folders of conditions that lie with a folder as a run's own lie with its data.

    Those that lie beside the run's data, and not in them, are not another folder's.

    Args:
        folder: that of the images.
        own: that of the run's data; None: they are no folder.
        places: the run's own folders of conditions.
    """
    if own is None:
        return []
    found = [(folder / os.path.relpath(one, own)).resolve() for one in places]
    return [
        one
        for one, place in zip(found, places)
        if one.is_dir() and (one != place.resolve() or folder.resolve() == Path(own).resolve())
    ]


def map_in(
    place: Path,
    folder: Folder,
    files: np.ndarray,
    size: tuple[int, int],
    progress: Progress | None = None,
) -> tuple[GivenMap, tuple[str, ...]]:
    """Return the images of a folder as a condition of the images that are named alike, and notes.

    Args:
        place: the folder of conditions.
        folder: that of the images.
        files: (N,) which of its files each row is of.
        size: height and width of a row.
        progress: called after each file.

    Raises:
        InputError: there is no such folder, no image of it is named like one, and other sizes.
    """
    if not place.is_dir():
        raise InputError(f"--condition {place}/: no such folder; check the path.")
    if len(np.unique(files)) < len(files):
        raise InputError(
            f"--condition {place.name}/: some images of {folder.name} have several pages or "
            "frames; save them one by one."
        )
    pairs = _pairs(place, folder)
    own, notes = Folder(place, tuple(pairs), folder.what), []

    def decode(path: Path, target: _Target) -> np.ndarray:
        pixels = read_as_is(path, channels=target.channels, size=size, nearest=target.nearest)
        return pixels.astype(target.dtype)[None]

    key = f"map {size} {folder.fingerprint(progress)}"
    decoded = decode_once(
        own,
        lambda path: _header(path, folder.files[pairs[path]]),
        lambda headers: (_plan(own, headers, size), []),
        decode,
        key=key,
        ahead=_AHEAD,
        rest="using",
        progress=progress,
    )
    places = np.full(len(folder.files), -1)
    places[[list(pairs.values())[i] for i in decoded.kept]] = np.arange(len(decoded.kept))
    places = places[files]
    if lacking := int((places < 0).sum()):
        notes.append(
            f"{place.name}/: {lacking:,} of {len(files):,} images of {folder.name} have none of "
            "this name; their condition is taken as not known."
        )
    found = given_map(place.name, decoded.values, size, where=f"{place.name}/", places=places)
    return found, (*decoded.notes, *notes)


def _header(path: Path, picture: Path) -> _Header:
    """Return what is known of an image of a map, and of the image it is a condition of."""
    values, image = read_as_is(path), read_image_header(picture)
    few = np.unique(values) if values.shape[2] == 1 and values.dtype.kind in "biu" else []
    return _Header(
        values.shape[:2],
        (image.height, image.width),
        values.shape[2],
        values.dtype.name,
        tuple(map(int, few)) if 0 < len(few) <= MOST_CLASSES else (),
    )


def _plan(own: Folder, headers: Mapping[int, _Header], size: tuple[int, int]) -> _Target:
    """Return what the images of a map become. Raises InputError for other sizes."""
    for i, one in headers.items():
        if one.size != one.picture:
            (high, wide), (height, width) = one.size, one.picture
            raise InputError(
                f"{own.name}{own.called[i]}: is {high} x {wide} (height x width), and its image "
                f"{height} x {width}; resize one of them."
            )
    known = {value for one in headers.values() for value in one.values}
    few = all(one.values for one in headers.values()) and len(known) <= MOST_CLASSES
    dtype = np.result_type(*(np.dtype(one.dtype) for one in headers.values()))
    wide = dtype if few or dtype.itemsize < 2 else np.dtype(np.float32)
    channels = max(one.channels for one in headers.values())
    return _Target(*size, channels, wide.name, nearest=few)


def _pairs(place: Path, folder: Folder) -> dict[Path, int]:
    """Return the files of conditions and the number of the image that each belongs to.

    They have the same path, but for the suffix, in their folders, or below the folder that all of
    the images lie in.
    """
    base = Path(os.path.commonpath([file.parent for file in folder.files]))
    numbers = {
        file.relative_to(top).with_suffix(""): i
        for top in (base, folder.path)
        for i, file in enumerate(folder.files)
    }
    found: dict[Path, int] = {}
    for file in walk(place)[0]:
        number = numbers.pop(file.relative_to(place).with_suffix(""), None)
        if number is not None:
            found[file] = number
    if not found:
        raise InputError(
            f"--condition {place.name}/: no image in it is named like one of {folder.name}; give "
            "both the same name."
        )
    return found

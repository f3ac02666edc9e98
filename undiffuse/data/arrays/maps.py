"""Maps from files and objects: arrays, images, and folders of images; see `data.maps`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from undiffuse.data.arrays.files import array_in
from undiffuse.data.arrays.objects import to_array
from undiffuse.data.decoding import Unreadable
from undiffuse.data.folder import walk
from undiffuse.data.images.decode import read_as_is
from undiffuse.data.maps import ARRAYS, ConditionMap, channel_axis, is_map, names_of
from undiffuse.data.paths import split_part, suffix_of
from undiffuse.errors import InputError


def located(condition: Sequence[str]) -> tuple[str, ...]:
    """Return the entries of `--condition`, with absolute paths of maps.

    Raises:
        InputError: there is no such file or folder.
    """
    return tuple(_located(one) if is_map(one) else one for one in condition)


def _located(entry: str) -> str:
    place = Path(os.path.expanduser(entry))
    if not split_part(place)[0].exists():
        raise InputError(f"--condition {entry}: no such file or folder; check the path.")
    return f"{place.resolve()}{os.sep if place.is_dir() else ''}"


def maps_in_files(
    condition: Sequence[str] | None,
) -> tuple[tuple[str, ...] | None, dict[str, np.ndarray]]:
    """Return the entries of `--condition` that are no maps, and the arrays of the others by name.

    Raises:
        InputError: for a folder, and a file that cannot be read.
    """
    maps: dict[str, np.ndarray] = {}
    for entry in condition or ():
        if not is_map(entry):
            continue
        place = Path(entry)
        if place.is_dir():
            raise InputError(
                f"--condition {entry}: is a folder, and the data are an array; give .npy or .h5."
            )
        maps[split_part(place)[0].stem] = array_in(place)
    return names_of(condition), maps


def read_map(own: ConditionMap, value: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return what a person gives as maps (m, C, *S) of a run, and notes.

    Args:
        own: the run's.
        value: an array or a tensor; the path of an array, of an image or of a folder of images.

    Raises:
        InputError: for another shape, values that are no numbers, and classes that the run has not.
    """
    name = f"where {own.name}"
    if isinstance(value, str | os.PathLike):
        place = Path(os.path.expanduser(value))
        name = f"where {value}"
        if not split_part(place)[0].exists():
            raise InputError(f"{name}: no such file or folder; check the path.")
        values = array_in(place) if suffix_of(place) in ARRAYS else _images(own, place)
    else:
        values = to_array(value)
    if values.dtype.kind not in "biuf":
        raise InputError(f"{name}: holds values of type {values.dtype}; give numbers.")
    maps = _in_layout(own, values, name)
    if np.isinf(maps).any():
        raise InputError(f"{name}: holds infinite values; replace them.")
    known = maps[~np.isnan(maps)]
    if own.classes:
        strange = known[~np.isin(known, own.classes)]
        if len(strange):
            raise InputError(
                f"{name}: {strange[0]:g} is no class of the run; they are "
                f"{', '.join(map(str, own.classes))}."
            )
    elif len(known) and (known.min() < own.low or known.max() > own.high):
        return maps, (
            f"{name}: its values go from {known.min():.6g} to {known.max():.6g}, outside of what "
            f"the training rows have, {own.low:.6g} to {own.high:.6g}; the model has not learned "
            "what is there.",
        )
    return maps, ()


def _in_layout(own: ConditionMap, values: np.ndarray, name: str) -> np.ndarray:
    """Return values as (m, C, *S). Raises InputError for another shape."""
    channels, *space = own.shape
    for rows in (values, values[None]):
        try:
            axis = channel_axis(rows.shape, space)
        except ValueError:
            continue
        maps = rows[:, None] if axis is None else np.moveaxis(rows, axis, 1)
        if maps.shape[1] == channels and len(maps):
            return maps.astype(np.float64)
    raise InputError(
        f"{name}: its shape is {values.shape}, and a condition of the run has {own.shape}; give "
        "one, or one for each row."
    )


def _images(own: ConditionMap, place: Path) -> np.ndarray:
    """Return the images of a folder, or one, as (m, H, W, C); of the run's size."""
    if len(own.shape) != 3:
        raise InputError(f"where {place}: the condition {own.name} is no image; give .npy or .h5.")
    files = walk(place)[0] if place.is_dir() else [place]
    if not files:
        raise InputError(f"where {place}: the folder is empty; put images into it.")
    height, width = own.shape[1:]
    found = []
    for file in files:
        try:
            pixels = read_as_is(file, channels=own.shape[0])
        except Unreadable as problem:
            why = f": {problem}" if str(problem) else ""
            raise InputError(
                f"{file.name}: could not be read as an image{why}; repair or remove it."
            ) from problem
        if pixels.shape[:2] != (height, width):
            raise InputError(
                f"{file.name}: is {pixels.shape[0]} x {pixels.shape[1]} (height x width), and the "
                f"conditions of the run are {height} x {width}; resize it."
            )
        found.append(pixels)
    return np.stack(found)

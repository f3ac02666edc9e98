"""Conditions that are whole arrays, maps: values at each position of a row.

    numbers    (C + 1, *S)   (value - mean) / deviation for each of C channels, then 1
    classes    (K, *S)       one channel for each class, 1 where the position is of it
    not known  zeros

So positions may be unknown one by one. Whole numbers of one channel, of at most 32 different
values, are classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from undiffuse.data.folder import digest
from undiffuse.data.given import GivenMap
from undiffuse.data.paths import HDF5_SUFFIXES, suffix_of
from undiffuse.data.rows import ArrayRows, chunk_indices, chunks, fingerprint
from undiffuse.errors import InputError

ARRAYS = (".npy", ".npz", *HDF5_SUFFIXES)
MOST_CLASSES = 32  # values of a map of whole numbers, from which on they are numbers


@final
class MapRows:
    """An array as maps (N, C, *S).

    Args:
        array: (M, *S), (M, C, *S) or (M, *S, C).
        axis: that of the channels; None: there is one channel without an axis.
        places: (N,) which of the M each row has, -1 for none; None: the row's own.
    """

    def __init__(
        self, array: np.ndarray, axis: int | None, places: np.ndarray | None = None
    ) -> None:
        self.rows, self.axis, self.places = ArrayRows(array), axis, places

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows) if self.places is None else len(self.places)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return maps (B, C, *S) float64."""
        places = indices if self.places is None else self.places[indices]
        taken = self.rows.take(np.maximum(places, 0)).astype(np.float64)
        taken[places < 0] = np.nan
        return taken[:, None] if self.axis is None else np.moveaxis(taken, self.axis, 1)


def is_map(condition: str) -> bool:
    """Return whether an entry of `--condition` is a file of an array, or a folder.

    >>> is_map("masks/"), is_map("depth.npy"), is_map("metadata.csv:age"), is_map("age")
    (True, True, False, False)
    """
    return condition.endswith(("/", os.sep)) or suffix_of(Path(condition)) in ARRAYS


def names_of(condition: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the entries of `--condition` that are no maps; None if there are none."""
    return tuple(one for one in condition or () if not is_map(one)) or None


def with_maps(content: str, maps: Sequence[GivenMap]) -> str:
    """Return the fingerprint of data with maps, from that of the data without them."""
    parts = [content, *(fingerprint(*one.contents) for one in maps)]
    return digest("".join(parts))[:16] if maps else content


def refuse_maps(name: str, condition: Sequence[str] | None) -> None:
    """Raise InputError for maps among the conditions of data that cannot have any."""
    for one in condition or ():
        if is_map(one):
            raise InputError(
                f"{name}: --condition {one}: conditions that are whole arrays are for images and "
                "arrays; name columns instead."
            )


def channel_axis(shape: Sequence[int], space: Sequence[int]) -> int | None:
    """Return the axis of channels of an array (N, ...) over positions `space`; None without one.

    Raises ValueError if it has other positions.

    >>> channel_axis((9, 3, 8, 6), (8, 6)), channel_axis((9, 8, 6, 3), (8, 6))
    (1, -1)
    """
    if tuple(shape[1:]) == tuple(space):
        return None
    if len(shape) == len(space) + 2:
        for axis, rest in ((1, shape[2:]), (-1, shape[1:-1])):
            if tuple(rest) == tuple(space):
                return axis
    raise ValueError("other positions")


def given_map(
    name: str,
    array: np.ndarray,
    space: Sequence[int],
    *,
    where: str,
    places: np.ndarray | None = None,
) -> GivenMap:
    """Return an array as a map.

    Args:
        name: its name.
        array: as for `MapRows`.
        space: the positions S of a row.
        where: what is read, for messages.
        places: as for `MapRows`.

    Raises:
        InputError: for other positions, values that are no real numbers, and infinite ones.
    """
    S = ", ".join(map(str, space))
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{where}: condition {name} holds values of type {array.dtype}; give numbers."
        )
    try:
        axis = channel_axis(array.shape, space)
    except ValueError:
        raise InputError(
            f"{where}: conditions of shape {array.shape}; give (N, {S}) or (N, C, {S}), as its "
            "rows have these positions, or k numbers a row."
        ) from None
    rows = MapRows(array, axis, places)
    single = rows.take(np.arange(1)).shape[1] == 1
    values: set[int] | None = set() if single and array.dtype.kind in "biu" else None
    positions = unknown = torn = 0
    for chunk in chunks(ArrayRows(array)):
        if chunk.dtype.kind == "f":
            if np.isinf(chunk).any():
                raise InputError(f"{where}: condition {name} holds infinite values; replace them.")
            empty = np.isnan(chunk) if axis is None else np.isnan(chunk).any(axis)
            empty = empty.reshape(len(chunk), -1)
            positions, unknown = positions + empty.size, unknown + int(empty.sum())
            torn += int(empty.any(1).sum())
        if values is not None:
            values |= set(np.unique(chunk).tolist())
            values = values if len(values) <= MOST_CLASSES else None
    classes = tuple(sorted(map(int, values or ())))
    note = (
        f"condition {name}: {unknown:,} of {positions:,} positions, in {torn:,} of {len(array):,} "
        "rows, are NaN, which the model learns as not known."
    )
    contents = (array, places)
    return GivenMap(
        name=name, rows=rows, contents=contents, classes=classes, note=note if unknown else ""
    )


def maps_among(
    y: Any, names: Sequence[str] | None, space: Sequence[int]
) -> tuple[Any, Sequence[str] | None, dict[str, np.ndarray]]:
    """Return what else stands beside rows, the names that are left, and the maps by name.

    Args:
        y: as for `conditions.labels_or_conditions`.
        names: likewise.
        space: the positions S of a row; () of a vector, which has no maps.
    """
    if isinstance(y, Mapping):
        maps = {str(one): np.asarray(y[one]) for one in y if np.ndim(y[one]) > 1}
        maps = {one: maps[one] for one in maps if names is None or one in names}
        if not maps:
            return y, names, {}
        rest = {one: y[one] for one in y if str(one) not in maps and np.ndim(y[one]) < 2}
        left = None if names is None else tuple(one for one in names if one not in maps)
        return rest or None, left or None, maps
    shape = getattr(y, "shape", ())
    if not space or not (len(shape) > 2 or tuple(shape[1:]) == tuple(space)):
        return y, names, {}
    return None, None, {names[0] if names and len(names) == 1 else "y": np.asarray(y)}


@final
@dataclass(frozen=True, kw_only=True)
class ConditionMap:
    """A map as a run records it.

    Args:
        name: its name.
        shape: (C, *S) of one.
        classes: the values of classes; empty for numbers.
        mean: of each channel over the training rows, as the others.
        deviation: the standard deviations; 1 where it is 0.
        low: the least value.
        high: the greatest.
    """

    name: str
    shape: tuple[int, ...]
    classes: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 0.0

    @classmethod
    def measure(cls, given: GivenMap, training: np.ndarray) -> ConditionMap:
        """Return the map as its training rows (n,) measure it."""
        rows = given.rows
        shape = rows.take(np.arange(1)).shape[1:]
        if given.classes:
            return cls(name=given.name, shape=shape, classes=given.classes)
        count = total = squares = np.zeros(shape[0])
        low, high, trained = math.inf, -math.inf, np.zeros(len(rows), bool)
        trained[training] = True
        for indices in chunk_indices(rows):
            values = rows.take(indices[trained[indices]])
            if not len(values) or np.isnan(values).all():
                continue
            by_channel = np.moveaxis(values, 1, 0).reshape(shape[0], -1)
            count = count + (~np.isnan(by_channel)).sum(1)
            total = total + np.nansum(by_channel, 1)
            squares = squares + np.nansum(by_channel**2, 1)
            low, high = min(low, np.nanmin(values)), max(high, np.nanmax(values))
        if not count.all():
            raise InputError(f"condition {given.name}: is not known in any training row; give it.")
        mean = total / count
        variance = np.maximum(squares / count - mean**2, 0.0)
        deviation = np.sqrt(np.where(variance > 1e-12 * squares / count, variance, 1.0))
        spread = {"mean": tuple(mean.tolist()), "deviation": tuple(deviation.tolist())}
        return cls(name=given.name, shape=shape, low=float(low), high=float(high), **spread)

    @classmethod
    def read(cls, tree: dict[str, Any]) -> ConditionMap:
        """Return a map from plain data. Raises TypeError or KeyError if it is damaged."""
        names = ("shape", "classes", "mean", "deviation")
        return cls(**{**tree, **{name: tuple(tree[name]) for name in names}})

    def tree(self) -> dict[str, Any]:
        """Return the map as plain data, for `read`."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @property
    def channels(self) -> int:
        """The channels that a network is given."""
        return len(self.classes) or self.shape[0] + 1

    @property
    def width(self) -> int:
        """The numbers of a vector that are its own."""
        return self.channels * math.prod(self.shape[1:])

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Return the numbers (B, width) float32 of maps (B, C, *S)."""
        if self.classes:
            entries = [values[:, 0] == one for one in self.classes]
            return np.stack(entries, 1).reshape(len(values), -1).astype(np.float32)
        sides = (-1, *[1] * (len(self.shape) - 1))
        mean, deviation = (np.reshape(one, sides) for one in (self.mean, self.deviation))
        known = ~np.isnan(values).any(1, keepdims=True)
        z = np.where(known, (values - mean) / deviation, 0.0)
        return np.concatenate([z, known], 1).reshape(len(values), -1).astype(np.float32)

    def decode(self, numbers: np.ndarray) -> np.ndarray:
        """Return the maps (B, C, *S) of numbers (B, width)."""
        entries = numbers.reshape(len(numbers), self.channels, *self.shape[1:])
        if self.classes:
            values = np.array(self.classes)[entries.argmax(1)]
            return np.where(entries.any(1), values, np.nan)[:, None]
        sides = (-1, *[1] * (len(self.shape) - 1))
        mean, deviation = (np.reshape(one, sides) for one in (self.mean, self.deviation))
        return np.where(entries[:, -1:] > 0, mean + deviation * entries[:, :-1], np.nan)

    @property
    def said(self) -> str:
        """What it holds, for people."""
        channels = f"{self.shape[0]} x " * (self.shape[0] > 1)
        size = channels + " x ".join(map(str, self.shape[1:]))
        if self.classes:
            shown = ", ".join(map(str, self.classes[:8])) + ", ..." * (len(self.classes) > 8)
            return f"{size} of the classes {shown}"
        return f"{size} of {self.low:.6g} to {self.high:.6g}"

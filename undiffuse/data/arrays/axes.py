"""The axes of an array: their letters, what a model makes of them, and how they are inferred.

    N   rows, always the first axis        C      channels: columns, colours, sensors
    T   time                               D H W  depth, height and width

    N, NC              numbers, and vectors of C columns
    NT, NTC, NCT       sequences, which a model sees as (C, T)
    NHW, NHWC, NCHW    grids, which it sees as (C, H, W)
    and with D or T    volumes and films: every slice of them is a channel of its own, (C D, H, W)

Nobody has to say which they are. *Units*: where the values along the first or the last axis of a
row have scales of different orders of magnitude, or means that lie far apart, from one index to
the next, these are channels. *Order*: along time and space neighbours are more alike than others,
and along channels they are not. Let r_ij be the correlation between indices i and j of an axis
over the rows, each place of the other axes on its own, averaged over these. An axis has an order if

    o = mean of r_i,i+1 - mean of r_ij > 0.05

and of 199 random orders of its indices at most one has so large an o. That takes six indices: a
shorter axis counts as channels. What neither tells is guessed from the shape alone, and said to be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from undiffuse.errors import InputError

LAYOUTS: dict[int, tuple[str, ...]] = {
    1: ("N",),
    2: ("NC", "NT"),
    3: ("NTC", "NCT", "NHW"),
    4: ("NHWC", "NCHW", "NDHW", "NTHW"),
    5: ("NDHWC", "NCDHW", "NDCHW", "NTHWC", "NCTHW", "NTCHW"),
}
"""What an array of so many axes can be; of more, only the last three of a row are told apart."""

SAMPLED = 2**22  # values that the axes are inferred from, about
_NAMES = {"N": "rows", "T": "steps", "C": "channels", "D": "deep", "H": "high", "W": "wide"}
_MOST_FEATURES = 64
_ORDER, _JUMP = 10.0, 3.0  # of standard deviations: in all, and from one index to the next
_INDICES, _PLACES = 64, 12  # most of an axis, and of all others, that correlations are taken of
_LEAST, _ORDERS, _WEAKER = 0.05, 199, 1 / 3  # of o; orders tried; o of channels beside that of time


@dataclass(frozen=True)
class Axes:
    """The axes of the rows of an array, without the N, and where that is known from.

    Args:
        letters: one for each axis of a row.
        reason: what it was inferred from; "" if it was given, or if there is no choice.
        guess: whether it may well be wrong.
    """

    letters: str
    reason: str = ""
    guess: bool = False

    def sentence(self, row_shape: Sequence[int]) -> str:
        """Return what the axes are, why, and what else they could be."""
        names = _NAMES if len(row_shape) > 1 else {**_NAMES, "C": "columns"}
        sizes = zip(self.letters, row_shape)
        parts = [f"{size:,} {names.get(letter, 'more')}" for letter, size in sizes]
        said = f"N{self.letters}" + (f": rows of {', '.join(parts)}" if parts else "")
        others = [one for one in LAYOUTS.get(len(row_shape) + 1, ()) if one[1:] != self.letters]
        if not self.reason:
            return said
        change = f"; otherwise --data.axes {' or '.join(others)}" if others else ""
        return f"{said} ({self.reason}{change})"


def given_axes(axes: str, row_shape: tuple[int, ...], name: str) -> Axes:
    """Return the axes that a person gave. Raises InputError unless an array can have them."""
    possible = LAYOUTS.get(len(row_shape) + 1, ())
    if axes.upper() not in possible:
        shape = " x ".join(f"{side:,}" for side in row_shape) or "one number"
        some = f"give {' or '.join(possible)}" if possible else "leave --data.axes out"
        raise InputError(
            f"{name}: its rows are {shape}, and axes {axes} are none of theirs; {some} "
            "(N rows, T time, C channels, D H W depth, height, width)."
        )
    return Axes(axes.upper()[1:])


def layout_of(row_shape: Sequence[int], letters: str) -> tuple[int, ...]:
    """Return the shape in which a model sees rows.

    Args:
        row_shape: the shape of a row.
        letters: its axes, without the N.

    >>> layout_of((24, 2), "TC"), layout_of((30, 40), "HW"), layout_of((9,), "C")
    ((2, 24), (1, 30, 40), (9,))
    >>> layout_of((8, 32, 32, 3), "DHWC"), layout_of((), "")
    ((24, 32, 32), (1,))
    """
    sides = 2 if "W" in letters else 1 if "T" in letters else 0
    rest = [size for letter, size in zip(letters, row_shape) if letter != "C"]
    channels = math.prod(size for letter, size in zip(letters, row_shape) if letter == "C")
    inner = len(rest) - sides
    return (channels * math.prod(rest[:inner]), *rest[inner:])


def by_channel(rows: np.ndarray, letters: str) -> np.ndarray:
    """Return values of rows (n, *row_shape) as (n, channels, values of each).

    >>> by_channel(np.zeros((2, 24, 3)), "TC").shape
    (2, 3, 24)
    """
    where = letters.find("C") if len(letters) > 1 else -1
    moved = np.moveaxis(rows, where + 1, 1) if where > 0 else rows
    return moved.reshape(len(rows), layout_of(rows.shape[1:], letters)[0], -1)


def infer_axes(rows: np.ndarray) -> Axes:
    """Return what the axes of rows (n, ...) most likely are; see the head of this module.

    >>> time = np.random.default_rng(0).normal(size=(50, 24, 3)).cumsum(1)
    >>> infer_axes(time).letters, infer_axes(np.moveaxis(time, 1, 2)).letters
    ('TC', 'CT')
    """
    count, guess = rows.ndim - 1, "a guess from the shape alone"
    if count < 2:
        return _of_vectors(rows) if count else Axes("")
    orders = [_order(rows, axis + 1) for axis in range(count)]
    ordered = [order > _WEAKER * max(orders) for order in orders]
    features = features_axis(rows)
    if features is not None and not ordered[features]:
        where = "last" if features == -1 else "first"
        reason = f"values along the {where} axis have different units"
        return Axes(_with_channels(count, features % count), reason)
    by_shape = shape_axes(rows.shape[1:])
    if all(ordered) and count < 4 and by_shape not in ("TC", "CT"):
        return Axes("DHW"[-count:], "neighbours are alike along every axis")
    if ordered.count(False) == 1:
        where = ordered.index(False)
        named = "first" if where == 0 else "last" if where == count - 1 else "second"
        reason = f"neighbours are alike along every axis but the {named}"
        if letters := _with_channels(count, where):
            return Axes(letters, reason)
    return Axes(by_shape, guess, guess=True)


def _of_vectors(rows: np.ndarray) -> Axes:
    """The axes of vectors: columns, whatever they look like, as that asks nothing of them."""
    long = rows.shape[1] >= 16 and _order(rows, 1) > 0
    return Axes("C", "neighbours are alike: of a series, the steps" if long else "")


def _with_channels(count: int, place: int) -> str:
    """Return the letters of so many axes of which one is the channels; "" if no layout has it."""
    if count > 4:
        rest = "ABEFGIJKLM"[: count - 4] + "DHW"
        return {0: "C" + rest, count - 1: rest + "C"}.get(place, "")
    letters = (layout[1:] for layout in LAYOUTS[count + 1])
    return next((one for one in letters if one.find("C") == place), "")


def shape_axes(row_shape: tuple[int, ...]) -> str:
    """Return the letters of axes by their lengths alone.

    >>> [shape_axes(shape) for shape in ((2, 1000), (1000, 2), (30, 40), (5, 33, 20), (32, 32, 13))]
    ['CT', 'TC', 'HW', 'CHW', 'HWC']
    """
    *_, a, b = row_shape
    if len(row_shape) == 2:
        last, first = b <= 16 and a >= 4 * b, a <= 16 and b >= 4 * a
        return "TC" if last else "CT" if first else "HW"
    h, w, c = row_shape[-3:]
    last = h == w if (h == w) != (w == c) else c < min(h, w)  # h x w are the grid, not w x c
    return _with_channels(len(row_shape), len(row_shape) - 1 if last else 0)


def features_axis(rows: np.ndarray) -> int | None:
    """Return 0 or -1 if only the first, or the last axis of rows holds values of different units.

    It does if there are at most 64 indices, whose standard deviations are of different orders of
    magnitude, or whose means lie far apart, from one index to the next: along time or space both
    change gradually.

    >>> rows = np.random.default_rng(0).normal(size=(50, 24, 2))
    >>> features_axis(rows), features_axis(rows * [1, 1000]), features_axis(rows + [100, 0])
    (None, -1, -1)
    """
    if rows.ndim < 3:
        return None
    differ = {axis: _differ(np.moveaxis(rows, axis, 0)) for axis in (1, rows.ndim - 1)}
    if differ[1] == differ[rows.ndim - 1]:
        return None
    return 0 if differ[1] else -1


def _differ(values: np.ndarray) -> bool:
    values = values.reshape(len(values), -1).astype(np.float64)
    if not 2 <= len(values) <= _MOST_FEATURES:
        return False
    values = values[~np.isnan(values).all(1)]
    if len(values) < 2:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = np.nanmean(values, 1), np.nanstd(values, 1)
        varies = std > 1e-12 * np.nanmax(np.abs(values), 1)
        mean, std = mean[varies], std[varies]
        if len(std) < 2:
            return False
        spread, jump = std.max() / std.min(), np.abs(np.diff(np.log(std))).max()
        apart = np.abs(np.diff(mean)) / np.maximum(std[1:], std[:-1])
    return bool((spread >= _ORDER and jump >= math.log(_JUMP)) or apart.max() >= _ORDER)


def _order(rows: np.ndarray, axis: int) -> float:
    """Return o of an axis, 0 if it has no order: neighbours, and indices far apart, are tried."""
    length = rows.shape[axis]
    if length < 6 or len(rows) < 4:
        return 0.0
    moved = np.moveaxis(rows, axis, 1).reshape(len(rows), length, -1)
    places = np.unique(np.linspace(0, moved.shape[2] - 1, _PLACES + 2)[1:-1].round().astype(int))
    stride, first = -(-length // _INDICES), max(0, (length - _INDICES) // 2)
    near = moved[:, first : first + _INDICES, places]
    found = [_order_of(near)] + [_order_of(moved[:, ::stride, places])] * (stride > 1)
    return max(found)


def _order_of(values: np.ndarray) -> float:
    """Return o of values (n, indices, places)."""
    z = values.astype(np.float64)
    known = ~np.isnan(z)
    z = np.where(known, z, 0.0)
    z /= max(np.abs(z).max(), 1e-300)  # as squares of large numbers overflow
    z -= z.sum(0) / np.maximum(known.sum(0), 1)
    z *= known
    norm = np.sqrt((z**2).sum(0))
    alive = norm > 1e-9 * max(norm.max(), 1e-300)
    z /= np.where(alive, norm, 1)
    both = alive.T.astype(float)
    pairs = np.einsum("pi,pj->ij", both, both)
    r = np.einsum("nip,njp->ij", z, z, optimize=True) / np.maximum(pairs, 1)
    used = np.flatnonzero(np.diag(pairs) > 0)
    r = r[np.ix_(used, used)]
    if len(r) < 6:
        return 0.0
    apart = r[~np.eye(len(r), dtype=bool)].mean()
    adjacent = np.diag(r, 1).mean()
    rng = np.random.default_rng(0)
    orders = rng.permuted(np.tile(np.arange(len(r)), (_ORDERS, 1)), axis=1)
    beaten = (r[orders[:, 1:], orders[:, :-1]].mean(1) >= adjacent).sum()
    o = float(adjacent - apart)
    return o if o > _LEAST and beaten <= 1 else 0.0

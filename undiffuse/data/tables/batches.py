"""Codes of table columns <-> coordinates, for all columns of one sort at once (see `modelled`).

What was measured of each column, its levels or knots, is a row of a matrix that the longest of them
fills, so that only columns of about as many levels stand together.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.special import ndtr, ndtri

from undiffuse.data.tables.modelled import (
    ConstantColumn,
    EnumeratedColumn,
    GappedColumn,
    GivenColumn,
    LevelColumn,
    ModelledColumn,
    NumberColumn,
    UnorderedColumn,
    on_grid,
)
from undiffuse.data.tables.unordered import LevelPoints
from undiffuse.data.unseen import log_seen
from undiffuse.data.whole_numbers import inside

FARTHEST = 8.0  # ndtri of the largest float64 below 1 is 8.2: the outermost intervals end here


class ColumnBatch(ABC):
    """How columns of one sort, C of them, are encoded and decoded, all at once.

    Codes are (C, B). x and its noise are (C, B) too, or (2 C, B) and more: the first coordinate of
    each column, then the second of each; (0, B) for constants.
    """

    @abstractmethod
    def encode(self, codes: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Encode codes with noise z, of the shape of x: x float32 and log corrections (C, B)."""

    @abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """Decode x to codes (C, B) float64."""


@final
class ConstantBatch(ColumnBatch):
    """Columns without a coordinate."""

    def __init__(self, columns: Sequence[ConstantColumn]) -> None:
        self._code = _each(column.some_code for column in columns)
        self._rows = _each(column.rows for column in columns)

    def encode(self, codes: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """See `ColumnBatch`."""
        own, rows = _beside(codes, self._code, self._rows)
        return z.float(), log_seen((codes == own) | (codes.isnan() & own.isnan()), rows)

    def decode(self, x: Tensor) -> Tensor:
        """See `ColumnBatch`."""
        return self._code.to(x.device).expand(-1, x.shape[1])


@final
class GivenBatch(ColumnBatch):
    """Columns that are conditions."""

    def __init__(self, columns: Sequence[GivenColumn]) -> None:
        self._count = len(columns)

    def encode(self, codes: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """See `ColumnBatch`."""
        return z.float(), torch.zeros_like(codes)

    def decode(self, x: Tensor) -> Tensor:
        """See `ColumnBatch`."""
        return x.new_full((self._count, x.shape[1]), math.nan, dtype=torch.float64)


@final
class LevelBatch(ColumnBatch):
    """Columns of levels, each of which has an interval of the standard normal."""

    def __init__(self, columns: Sequence[EnumeratedColumn]) -> None:
        orders = [np.argsort(column.values, kind="stable") for column in columns]
        values = [np.array(c.values, np.float64)[order] for c, order in zip(columns, orders)]
        levels = [order + (order >= c.unseen) for c, order in zip(columns, orders)]
        self._sorted = _stacked([np.append(some, math.inf) for some in values])
        self._level = _stacked([np.append(some, 0) for some in levels], 0.0).long()
        self._drawn = _stacked([column.drawn for column in columns])
        masses = [np.array(c.masses, dtype=np.float64) / math.fsum(c.masses) for c in columns]
        below = [mass.cumsum() - mass for mass in masses]
        self._mass, self._below = _stacked(masses), _stacked(below)
        inner = [ndtri(torch.from_numpy(edges[1:])).numpy() for edges in below]
        self._edges = _stacked([np.concatenate([[-math.inf], some, [math.inf]]) for some in inner])
        self._unseen = _each(column.unseen for column in columns).long()
        self._last = _each(len(column.masses) - 1 for column in columns).long()

    def level(self, codes: Tensor) -> Tensor:
        """Return the level of each code, the last one where missing."""
        known, levels, unseen, last = _beside(
            codes, self._sorted, self._level, self._unseen, self._last
        )
        finite = codes.nan_to_num()
        place = torch.searchsorted(known, finite)
        level = torch.where(known.gather(1, place) == finite, levels.gather(1, place), unseen)
        return torch.where(codes.isnan(), last, level)

    def log_mass(self, codes: Tensor) -> Tensor:
        """Return the logarithm of each code's share."""
        return self._mass.to(codes.device).gather(1, self.level(codes)).log()

    def encode(self, codes: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """See `ColumnBatch`."""
        return self.spread(self.level(codes), z)

    def spread(self, level: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return a point of the interval of each level, and the log correction."""
        masses, below, edges = _beside(z, self._mass, self._below, self._edges)
        mass = masses.gather(1, level)
        v = (below.gather(1, level) + ndtr(z) * mass).clamp(max=1.0)  # rounding may take it further
        x = ndtri(v).clamp(-FARTHEST, FARTHEST)
        x = inside(x, edges.gather(1, level), edges.gather(1, level + 1))
        return x, mass.log() + negative_log_normal(x)

    def level_at(self, x: Tensor) -> Tensor:
        """Return the level whose interval holds each x."""
        return torch.searchsorted(self._edges.to(x.device), x.double(), right=True) - 1

    def decode(self, x: Tensor) -> Tensor:
        """See `ColumnBatch`."""
        return self._drawn.to(x.device).gather(1, self.level_at(x))


@final
class GappedBatch(ColumnBatch):
    """Columns of levels in an order, with gaps, which a second coordinate tells."""

    def __init__(self, columns: Sequence[GappedColumn]) -> None:
        self._levels = LevelBatch([column.present for column in columns])
        self._states = LevelBatch([column.state for column in columns])
        self._some = _each(column.values[0] for column in columns)

    def encode(self, codes: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """See `ColumnBatch`."""
        z, z_state = z.chunk(2)
        known = ~codes.isnan()
        x, correction = self._levels.encode(torch.where(known, codes, self._some.to(z.device)), z)
        x = torch.where(known, x, z.float())
        correction = torch.where(known, correction, negative_log_normal(x))
        flag, more = self._states.encode(codes, z_state)
        return torch.cat([x, flag]), correction + more

    def decode(self, x: Tensor) -> Tensor:
        """See `ColumnBatch`."""
        x, flag = x.chunk(2)
        known = self._states.level_at(flag) == 0
        return torch.where(known, self._levels.decode(x), math.nan)


@final
class UnorderedBatch(ColumnBatch):
    """Columns of levels without an order.

    x is the first coordinate of each column, then the second of each that has one, and so on.
    """

    def __init__(self, columns: Sequence[UnorderedColumn]) -> None:
        self._levels = LevelBatch(columns)
        self._place = _stacked([column.place for column in columns], 0.0).long()
        self._drawn = _stacked([[*c.values, *[math.nan] * c.missing] for c in columns])
        masses = _stacked([column.masses for column in columns], 0.0)
        shares = torch.zeros_like(masses).scatter_add(1, self._place, masses)
        self._log_part = masses.log() - shares.gather(1, self._place).log()
        points = [torch.tensor(column.points, dtype=torch.float64) for column in columns]
        self.points = LevelPoints(points, [own[: len(one)] for own, one in zip(shares, points)])
        widths = self.points.widths
        self._has = torch.arange(int(widths.max()))[:, None] < widths  # (D, C) coordinates

    def encode(self, codes: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """See `ColumnBatch`."""
        place, log_part, has = _beside(z, self._place, self._log_part, self._has)
        level = self._levels.level(codes)
        x, log_q = self.points.draw(place.gather(1, level), self._padded(z))
        return x[has], log_part.gather(1, level) - log_q

    def decode(self, x: Tensor) -> Tensor:
        """See `ColumnBatch`."""
        return self._drawn.to(x.device).gather(1, self.points.nearest(self._padded(x)))

    def _padded(self, x: Tensor) -> Tensor:
        """Return coordinates (D, C, B), 0 where a column has none."""
        has = self._has.to(x.device)
        padded = x.new_zeros(*has.shape, x.shape[1])
        padded[has] = x
        return padded


@final
class NumberBatch(ColumnBatch):
    """Columns of numbers: all of them of whole steps or none, all with a second coordinate or none.

    The second coordinate is that of levels {ordinary, atom 1, ..., missing}: of a column of levels
    in which whatever is no atom is the unseen one.
    """

    def __init__(self, columns: Sequence[NumberColumn]) -> None:
        self._low = _each(column.low for column in columns)
        self._high = _each(column.high for column in columns)
        self._rows = _each(column.rows for column in columns)
        self._grid = [_each(part) for part in zip(*(column.grid for column in columns))]
        self._knots = _stacked([column.knots for column in columns])
        self._marks = _stacked([column.marks for column in columns])
        self._slopes = _stacked([np.diff(c.marks) / np.diff(c.knots) for c in columns])
        self._inner_knots = _stacked([column.knots[1:-1] for column in columns])
        self._inner_marks = _stacked([column.marks[1:-1] for column in columns])
        self._gaps = [_stacked([[gap[end] for gap in c.gaps] for c in columns]) for end in (0, 1)]
        stated = bool(columns[0].states)
        self._states = LevelBatch([column.state for column in columns]) if stated else None

    def encode(self, codes: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """See `ColumnBatch`."""
        if self._states is None:
            return self._number(codes, z)
        z, z_state = z.chunk(2)
        state = self._states.level(codes)
        ordinary = state == 0
        x, correction = self._number(torch.where(ordinary, codes, self._low.to(z.device)), z)
        x = torch.where(ordinary, x, z.float())
        correction = torch.where(ordinary, correction, negative_log_normal(x))
        flag, more = self._states.spread(state, z_state)
        return torch.cat([x, flag]), correction + more

    def _number(self, codes: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Encode ordinary numbers."""
        if not self._grid:
            exact, slope = self._map(codes)
            return exact.float(), slope.log()
        rows, *grid = _beside(codes, self._rows, *self._grid)
        steps, seen = on_grid(codes, *grid)
        exact, slope = self._map(steps + ndtr(z))
        x = inside(exact, self._map(steps)[0], self._map(steps + 1)[0])
        return x, slope.log() + log_seen(seen, rows)

    def decode(self, x: Tensor) -> Tensor:
        """See `ColumnBatch`."""
        if self._states is None:
            return self._back(x)
        x, flag = x.chunk(2)
        ordinary = self._states.level_at(flag) == 0
        return torch.where(ordinary, self._back(x), self._states.decode(flag))

    def _back(self, x: Tensor) -> Tensor:
        """Decode ordinary numbers."""
        inner, *tables = _beside(x, self._inner_marks, self._knots, self._marks, self._slopes)
        exact = x.double()
        j = torch.searchsorted(inner, exact, right=True)
        knots, marks, slopes = (table.gather(1, j) for table in tables)
        y = knots + (exact - marks) / slopes
        low, high, starts, ends, *grid = _beside(x, self._low, self._high, *self._gaps, *self._grid)
        y = y.floor() if grid else y
        if starts.shape[1]:
            gap = (torch.searchsorted(starts, y, right=True) - 1).clamp(min=0)
            a, b = starts.gather(1, gap), ends.gather(1, gap)
            y = torch.where((y > a) & (y < b), torch.where(y - a < b - y, a, b), y)
        if grid:
            offset, unit, denominator = grid
            y = (offset + unit * y) / denominator
        return y.clamp(low, high)

    def _map(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return m(y) and m'(y)."""
        inner, *tables = _beside(y, self._inner_knots, self._knots, self._marks, self._slopes)
        j = torch.searchsorted(inner, y, right=True)
        knots, marks, slopes = (table.gather(1, j) for table in tables)
        return marks + (y - knots) * slopes, slopes


BATCHES: Mapping[type[ModelledColumn], Callable[[Sequence[Any]], ColumnBatch]] = {
    ConstantColumn: ConstantBatch,
    GivenColumn: GivenBatch,
    LevelColumn: LevelBatch,
    GappedColumn: GappedBatch,
    UnorderedColumn: UnorderedBatch,
    NumberColumn: NumberBatch,
}
"""What encodes columns, by how they are modelled."""


def _each(values: Iterable[float | int]) -> Tensor:
    """Return one number for each column, (C, 1)."""
    return torch.tensor(list(values), dtype=torch.float64)[:, None]


def _stacked(lists: Sequence[Sequence[float | int] | np.ndarray], pad: float = math.inf) -> Tensor:
    """Return one list for each column, (C, longest); `pad` follows the end of a shorter one."""
    tensors = [torch.as_tensor(one, dtype=torch.float64) for one in lists]
    return pad_sequence(tensors, batch_first=True, padding_value=pad)


def _beside(like: Tensor, *tables: Tensor) -> list[Tensor]:
    """Return tables on the device of `like`."""
    return [table.to(like.device) for table in tables]


def negative_log_normal(x: Tensor) -> Tensor:
    """Return -log of the standard normal density at `x`, in float64."""
    return 0.5 * x.double() ** 2 + 0.5 * math.log(2 * math.pi)

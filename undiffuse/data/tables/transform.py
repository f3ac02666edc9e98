"""Rows of a table <-> vectors whose coordinates are each close to a standard normal.

A row is encoded and decoded by all columns of one sort at once (see `modelled` for how each is
modelled). What was measured of each, its levels or knots, is a row of a matrix that the longest of
them fills, so that only columns of about as many levels stand together.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.special import ndtr, ndtri

from undiffuse.data.tables.modelled import (
    ConstantColumn,
    LevelColumn,
    ModelledColumn,
    NumberColumn,
    on_grid,
)
from undiffuse.data.unseen import log_seen
from undiffuse.data.whole_numbers import inside
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise

FARTHEST = 8.0  # ndtri of the largest float64 below 1 is 8.2: the outermost intervals end here


@final
class TableTransform:
    """Rows (B, columns) float64, NaN where missing, <-> x (B, D) float32.

    >>> column = LevelColumn(name="a", values=[0, 1], masses=[3, 1, 1], unseen=2)
    >>> transform = TableTransform(columns=[column])
    >>> x, _ = transform.encode(torch.tensor([[0.0], [1.0]]), torch.zeros_like)
    >>> transform.decode(x).tolist()
    [[0.0], [1.0]]
    """

    levels = None
    bin_width = None

    def __init__(self, *, columns: Sequence[ModelledColumn]) -> None:
        self.columns = tuple(columns)
        self._widths = [column.width for column in self.columns]
        alike: dict[tuple[type[ModelledColumn], Hashable], list[int]] = {}
        for i, column in enumerate(self.columns):
            alike.setdefault((type(column), column.alike), []).append(i)
        groups = list(alike.values())
        self._batches = [
            BATCHES[sort]([self.columns[i] for i in group]) for (sort, _), group in alike.items()
        ]
        first = np.cumsum([0, *self._widths]).tolist()
        coordinates = [
            [first[i] + k for k in range(self._widths[group[0]]) for i in group] for group in groups
        ]
        self._by_column, self._by_coordinate = _Regrouped(groups), _Regrouped(coordinates)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(columns,)."""
        return (len(self.columns),)

    @property
    def shape(self) -> tuple[int, ...]:
        """(D,): one per column, two if values are missing or stand apart, none if constant."""
        return (sum(self._widths),)

    @property
    def description(self) -> str:
        """One sentence on how rows are modelled."""
        left_out = self._widths.count(0)
        constants = f"; {left_out} constant left out and put back" if left_out else ""
        return f"{len(self.columns)} columns as {self.shape[0]} numbers of unit scale{constants}"

    def encode(self, row: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Encode rows (B, columns); see `Transform.encode`.

        Raises:
            InputError: for a missing value where none was in the data, naming the column.
        """
        row = row.double()
        empty = row.isnan()
        if bool(empty.any()):
            self._check_missing(empty)
        z = row.new_zeros((len(row), *self.shape))
        if any(column.random for column in self.columns):
            z = noise(z)
        codes, noises = self._by_column.split(row), self._by_coordinate.split(z)
        encoded = [batch.encode(*given) for batch, *given in zip(self._batches, codes, noises)]
        x, corrections = zip(*encoded)
        return self._by_coordinate.join(x), self._by_column.join(corrections).T.contiguous().sum(0)

    def decode(self, x: Tensor) -> np.ndarray:
        """Decode x (B, D) to rows (B, columns) in which every column can hold its value."""
        parts = self._by_coordinate.split(x.detach().nan_to_num())
        codes = [batch.decode(part) for batch, part in zip(self._batches, parts)]
        return self._by_column.join(codes).cpu().numpy()

    def cells(self, row: Tensor) -> None:
        """Return None: levels have intervals of probability, not bins of equal width."""

    def known(self, mask: Tensor) -> Tensor:
        """Map a mask (B, columns) of known values to one of x, (B, D)."""
        return mask.repeat_interleave(torch.tensor(self._widths, device=mask.device), 1)

    def _check_missing(self, empty: Tensor) -> None:
        for column, some in zip(self.columns, empty.any(0).tolist()):
            if some and not column.missing:
                raise InputError(
                    f'column "{column.name}": a value is missing, and none was in the training '
                    "data; fill it."
                )


@final
class _Regrouped:
    """The columns of a matrix (B, C) in groups, each of them turned: (columns of the group, B)."""

    def __init__(self, groups: Sequence[Sequence[int]]) -> None:
        self._sizes = [len(group) for group in groups]
        self._order = torch.tensor([i for group in groups for i in group], dtype=torch.long)
        self._back = self._order.argsort()

    def split(self, matrix: Tensor) -> Sequence[Tensor]:
        """Return the groups."""
        return matrix.T[self._order.to(matrix.device)].split(self._sizes)

    def join(self, groups: Sequence[Tensor]) -> Tensor:
        """Return the matrix."""
        joined = torch.cat(list(groups))
        return joined[self._back.to(joined.device)].T.contiguous()


class ColumnBatch(ABC):
    """How columns of one sort, C of them, are encoded and decoded, all at once.

    Codes are (C, B). x and its noise are (C, B) too, or (2 C, B): the first coordinate of each
    column, then the second of each; (0, B) for constants.
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
class LevelBatch(ColumnBatch):
    """Columns of levels, each of which has an interval of the standard normal."""

    def __init__(self, columns: Sequence[LevelColumn]) -> None:
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
    LevelColumn: LevelBatch,
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

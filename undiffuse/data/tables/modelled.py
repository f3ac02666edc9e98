"""How a column of a table is modelled, as measured on the training rows.

A column becomes one or two coordinates, or none. Each of its values is put by a monotone map where
a standard normal would put its rank, so that a model meets coordinates it already knows and learns
how they depend on each other.

*Levels* (categories, booleans, numbers with few values that recur; "missing" is one more level).
Level k owns the interval (F_k, F_k + w_k) of probabilities, w_k its share of the training rows.
With u uniform,

    v = F_k + u w_k,   x = Phi^-1(v),
    log P(k) = log E_u[w_k p(x)/phi(x)] >= E_u[log p(x) + log w_k - log phi(x)],

which is an equality when x is standard normal.

*Levels in an order with gaps* (3 values or more) have a second coordinate, of {a value, missing};
where that is missing, the first is filled as it is for numbers, see below.

*Levels without an order* (3 categories or more) are points of a space instead (see `unordered` and
`placing`): on a line they would have neighbours. Two stand by falling frequency. Those that keep to
the values of other columns are intervals too, in an order of what goes together with them: then
each has its share beside those values however little a model has learned (docs/measurements.md).

A value that the n training rows do not have is one more level. The N_1 values that one row has are
about as frequent together as all unseen ones (Good 1953), so their share N_1/n is split into
N_1 + 1 equal parts, one of which is for whatever is unseen; 1/(n + 1) is, where N_1 = 0.

*Numbers* (continuous, or whole with many values k, which become y = k + u). The map x = m(y) is
linear between knots (quantiles of the training rows at normal scores) and goes on linearly beyond
them: log p(y) = log p(x) + log m'(y), exactly. Values that many rows share ("atoms", such as the
zeros of a capital gain) and missing ones have no density; they become a second coordinate of levels
{ordinary, atom 1, ..., missing}, and where that is not "ordinary" the number is filled with z ~
N(0, 1), whose log-density is subtracted.

A repeated value far from all others (-999, 9999-12-31) is an atom too, however few rows have it,
and between two clusters that are far apart the map is so steep that hardly any x is left: a value
that falls there goes to the nearer end, so that nothing is drawn where the data have nothing.

Numbers are on a grid where those of all training rows are; one between two steps is modelled as
the step below, with probability 1/(n + 1) of lying there.

*Conditions* are no part of x, and decode to NaN: whoever draws given them puts them back.

*Constants* are left out and put back; another value has probability 1/(n + 1).

All this is measured on the training rows alone. A held-out row is then as likely to have a value
that they lack as a new one, which the rate of alarms rests on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor
from torch.special import ndtr, ndtri

from undiffuse.data.tables.columns import Column, FloatColumn
from undiffuse.data.tables.placing import Places, by_frequency, place_alone

if TYPE_CHECKING:
    import pyarrow as pa

MOST_LEVELS = 256  # of a column on a grid; with more it is modelled as a number
REPEATS = 4  # rows per value, on average, with fewer of which a column on a grid is a number
ATOM = 0.05  # a value of a number column in more than this share of the rows is an atom
FAR = 0.5  # so is a repeated end that is further from the rest than this share of their range
WIDE, BLOCK, EMPTY = (
    0.1,
    8,
    5.0,
)  # a gap: share of the range, and times what its 8 nearest rows span
STEEP = 1e-4  # half of the x that a gap takes
KNOTS = (33, 65, 129, 257)  # which of them, other rows decide; fewer with eight rows to a knot
PER_KNOT = 20  # rows, with fewer of which no more than the first are tried
EXACT_STEPS = 2**20  # whole numbers with up to this many steps come back exactly from float32
_SAME = 1e-7  # relative difference of numbers that are one: those of float32 columns are rounded
LEAST_SLOPE = 3e-6  # of the map on such a column: a bin is then several ulps wide, even in a tail


class ModelledColumn(ABC):
    """How one column is modelled; `transform` encodes and decodes its codes."""

    name: str
    width: int  # coordinates of x
    random: bool = True  # whether its noise is used
    alike: Hashable = None  # columns of one class for which this is equal are encoded together
    missing: bool = True  # whether a value can be missing

    @abstractmethod
    def expects(self, codes: np.ndarray) -> np.ndarray:
        """Return which codes (N,) are levels, or on the grid, of the training rows."""

    @abstractmethod
    def nearest(self, codes: np.ndarray) -> np.ndarray:
        """Return codes (N,), those beyond the range of the training rows moved to its end."""

    @property
    @abstractmethod
    def some_code(self) -> float:
        """A code that the column can hold."""


@final
class ConstantColumn(ModelledColumn):
    """A column with one value: no coordinate.

    Args:
        name: the column's name, for messages.
        value: the code of that value; None: every one is missing.
        rows: how many training rows have it.
    """

    width = 0
    random = False

    def __init__(self, *, name: str, value: float | None, rows: int) -> None:
        self.name = name
        self.value = value
        self.rows = rows

    def expects(self, codes: np.ndarray) -> np.ndarray:
        """See `ModelledColumn`."""
        return codes == self.some_code

    def nearest(self, codes: np.ndarray) -> np.ndarray:
        """See `ModelledColumn`."""
        return np.full_like(codes, self.some_code)

    @property
    def some_code(self) -> float:
        """See `ModelledColumn`."""
        return math.nan if self.value is None else self.value


@final
class GivenColumn(ModelledColumn):
    """A column that is a condition: no coordinate, and no part of the likelihood.

    Args:
        name: the column's name, for messages.
    """

    width = 0
    random = False

    def __init__(self, *, name: str) -> None:
        self.name = name

    @property
    def some_code(self) -> float:
        """See `ModelledColumn`."""
        return math.nan

    def expects(self, codes: np.ndarray) -> np.ndarray:
        """See `ModelledColumn`."""
        return np.ones(len(codes), dtype=bool)

    def nearest(self, codes: np.ndarray) -> np.ndarray:
        """See `ModelledColumn`."""
        return codes


class EnumeratedColumn(ModelledColumn):
    """A column with few values.

    Args:
        name: the column's name, for messages.
        values: its codes, in their order.
        masses: the share of each, with that of unseen values at `unseen`, and then that of missing
            if it can be missing.
        unseen: the place of the level of all other values.
    """

    def __init__(
        self,
        *,
        name: str,
        values: Sequence[float | int],
        masses: Sequence[float | int],
        unseen: int,
    ) -> None:
        self.name = name
        self.values = values
        self.masses = masses
        self.unseen = unseen
        self.missing = len(masses) > len(values) + 1
        self.alike = len(values).bit_length() // 4
        fits = len(masses) - len(values) in (1, 2) and 0 <= unseen <= len(values)
        if not fits or len(masses) < 2 or min(masses) < 0 or sum(masses) <= 0:
            raise ValueError(f'column "{name}": the masses are none of its levels')

    @classmethod
    def counted(
        cls, rows: np.ndarray, column: Column, places: Places | None = None
    ) -> dict[str, Any]:
        """Return the arguments that training rows (N,) of codes give.

        Args:
            rows: the codes.
            column: how they are stored.
            places: what gives values without an order one; None: their frequency.
        """
        present = rows[~np.isnan(rows)]
        if column.ordered:
            values, counts = np.unique(present, return_counts=True)
        else:
            values, counts = by_frequency(present)
            if places is not None:
                order = places.order(values)
                values, counts = values[order], counts[order]
        once = counts == 1
        part = once.sum() / (once.sum() + 1)  # of a row, for each value seen once and for unseen
        by_rank = column.ordered or places is not None
        unseen = len(values) if by_rank else len(values) - int(once.sum())
        masses = np.insert(np.where(once, part, counts), unseen, part or 1.0).tolist()
        if column.missing != "no":
            masses.append(max(len(rows) - len(present), 1))
        return {
            "name": column.name,
            "values": values.tolist(),
            "masses": masses,
            "unseen": unseen,
        }

    @property
    def drawn(self) -> list[float | int]:
        """The code of each level when it is drawn: for unseen values that of a level beside it."""
        codes = [*self.values, *([math.nan] if self.missing else [])]
        beside = min(self.unseen, max(len(self.values) - 1, 0))
        return [*codes[: self.unseen], codes[beside], *codes[self.unseen :]]

    def expects(self, codes: np.ndarray) -> np.ndarray:
        """See `ModelledColumn`."""
        return np.isin(codes, np.asarray(self.values, dtype=np.float64))

    def nearest(self, codes: np.ndarray) -> np.ndarray:
        """See `ModelledColumn`."""
        return np.clip(codes, min(self.values), max(self.values))

    @property
    def some_code(self) -> float:
        """See `ModelledColumn`."""
        return self.drawn[0]


@final
class LevelColumn(EnumeratedColumn):
    """Levels that are intervals of one coordinate; for the arguments see `EnumeratedColumn`."""

    width = 1

    @classmethod
    def measure(cls, rows: np.ndarray, column: Column, places: Places | None = None) -> LevelColumn:
        """Return the column of training rows (N,) of codes; see `counted`."""
        return cls(**cls.counted(rows, column, places))


@final
class GappedColumn(EnumeratedColumn):
    """Levels in an order, and missing, which has no place in it.

    That is a coordinate of levels, and one of whether there is one; for the arguments see
    `EnumeratedColumn`.
    """

    width = 2

    @classmethod
    def measure(cls, rows: np.ndarray, column: Column) -> GappedColumn:
        """Return the column of training rows (N,) of codes."""
        return cls(**cls.counted(rows, column))

    @property
    def present(self) -> LevelColumn:
        """The levels but for missing."""
        masses = self.masses[:-1]
        return LevelColumn(name=self.name, values=self.values, masses=masses, unseen=self.unseen)

    @property
    def state(self) -> LevelColumn:
        """The levels {there is a value, missing}."""
        masses = [math.fsum(self.masses[:-1]), self.masses[-1]]
        return LevelColumn(name=self.name, values=[], masses=masses, unseen=0)


@final
class UnorderedColumn(EnumeratedColumn):
    """Levels that are points; unseen values share that of the level beside them: it is never empty.

    Args:
        name: see `EnumeratedColumn`; so are `values`, `masses` and `unseen`.
        points: of each value, and then of missing if it can be missing.
    """

    def __init__(
        self,
        *,
        name: str,
        values: Sequence[float | int],
        masses: Sequence[float | int],
        unseen: int,
        points: Sequence[Sequence[float]],
    ) -> None:
        super().__init__(name=name, values=values, masses=masses, unseen=unseen)
        self.points, self.width = points, len(points[0]) if points else 0
        even = all(len(point) == self.width for point in points)
        if len(points) != len(masses) - 1 or not self.width or not even:
            raise ValueError(f'column "{name}": the points are none of its levels')

    @classmethod
    def measure(
        cls, rows: np.ndarray, column: Column, places: Places | None = None
    ) -> UnorderedColumn:
        """Return the column of training rows (N,) of codes, whose points may be known."""
        counted = cls.counted(rows, column)
        codes = np.array([*counted["values"], *([math.nan] if column.missing != "no" else [])])
        places = place_alone(codes) if places is None else places
        return cls(**counted, points=places.of(codes))

    @cached_property
    def place(self) -> list[int]:
        """The place of each level among the points."""
        own = [*range(len(self.points))]
        beside = min(self.unseen, len(self.values) - 1)
        return [*own[: self.unseen], beside, *own[self.unseen :]]


@final
class NumberColumn(ModelledColumn):
    """A column of numbers.

    Args:
        name: the column's name, for messages.
        grid: (offset, unit, denominator) of codes that are all (offset + k unit)/denominator; empty
            if they are not.
        low: its least ordinary code.
        high: its greatest ordinary code.
        rows: how many training rows it was measured on.
        knots: rising points y of the map, of steps k + u on a grid.
        marks: the x of each.
        atoms: codes that stand apart.
        states: the shares of {ordinary, each atom, missing if one more}; empty if all are ordinary.
        gaps: pairs of y between which the data have none, and none is drawn.
    """

    def __init__(
        self,
        *,
        name: str,
        low: float,
        high: float,
        rows: int,
        knots: Sequence[float],
        marks: Sequence[float],
        atoms: Sequence[float] = (),
        states: Sequence[float] = (),
        grid: Sequence[int] = (),
        gaps: Sequence[Sequence[float]] = (),
    ) -> None:
        self.gaps = gaps
        self.name, self.low, self.high, self.rows, self.grid = name, low, high, rows, grid
        self.knots, self.marks, self.atoms, self.states = knots, marks, atoms, states
        self.missing = len(states) > len(atoms) + 1
        self.width = 2 if states else 1
        self.random = bool(grid) or bool(states)
        self.alike = (bool(grid), bool(states))
        rise = all(a < b for points in (knots, marks) for a, b in pairwise(points))
        if len(knots) != len(marks) or len(knots) < 2 or not rise:
            raise ValueError(f'column "{name}": the knots and their marks do not rise together')
        if len(grid) not in (0, 3) or min(grid[1:], default=1) < 1:
            raise ValueError(f'column "{name}": the grid is none')
        if any(len(gap) != 2 for gap in gaps):
            raise ValueError(f'column "{name}": the gaps are no pairs')

    @classmethod
    def measure(
        cls, rows: np.ndarray, column: Column, ordinary: np.ndarray, grid: Sequence[int]
    ) -> NumberColumn:
        """Return the column of training rows (N,), whose `ordinary` codes are no atoms."""
        values, counts = np.unique(rows[~np.isnan(rows)], return_counts=True)
        apart = ~np.isin(values, ordinary)
        is_ordinary = np.isin(rows, ordinary)
        states = [float(is_ordinary.sum()), *counts[apart].astype(float).tolist()]
        if column.missing != "no":
            states.append(max(float(np.isnan(rows).sum()), 1.0))
        low, high = ordinary[[0, -1]].tolist()
        places = _steps(rows[is_ordinary], grid)
        gaps = _gaps(*np.unique(places, return_counts=True), bool(grid))
        first, last = _steps(ordinary[[0, -1]], grid).tolist()
        knots, marks = _knots(places, bool(grid), first, last, gaps)
        return cls(
            name=column.name,
            low=low,
            high=high,
            rows=len(rows),
            knots=knots,
            marks=marks,
            atoms=values[apart].tolist(),
            states=[state / sum(states) for state in states] if len(states) > 1 else [],
            grid=grid,
            gaps=[list(gap) for gap in gaps],
        )

    @property
    def state(self) -> LevelColumn:
        """The levels {ordinary, each atom, missing}, of which "ordinary" is that of all others."""
        return LevelColumn(name=self.name, values=self.atoms, masses=self.states, unseen=0)

    def expects(self, codes: np.ndarray) -> np.ndarray:
        """See `ModelledColumn`."""
        if not self.grid:
            return np.ones(len(codes), dtype=bool)
        return on_grid(torch.from_numpy(np.nan_to_num(codes)), *self.grid)[1].numpy()

    def nearest(self, codes: np.ndarray) -> np.ndarray:
        """See `ModelledColumn`."""
        ends = [self.low, self.high, *self.atoms]
        return np.clip(codes, min(ends), max(ends))

    @property
    def some_code(self) -> float:
        """See `ModelledColumn`."""
        return self.low


def on_grid(
    codes: Tensor, offset: Tensor | int, unit: Tensor | int, denominator: Tensor | int
) -> tuple[Tensor, Tensor]:
    """Return the steps of codes, that below where a code lies between two, and which do not."""
    whole = (codes * denominator - 0.5).ceil()  # half a step belongs to the one below
    steps = ((whole - offset) / unit).floor()
    close = (whole / denominator - codes).abs() <= _SAME * codes.abs()
    return steps, close & (offset + unit * steps == whole)


MODELLED: Mapping[str, type[ModelledColumn]] = {
    "constant": ConstantColumn,
    "given": GivenColumn,
    "levels": LevelColumn,
    "gapped": GappedColumn,
    "unordered": UnorderedColumn,
    "number": NumberColumn,
}
"""Every way to model a column, by the name it is recorded under."""


def copies_of(rows: np.ndarray) -> np.ndarray:
    """Return which rows (N, columns) are copies of one above them."""
    whole = np.ascontiguousarray(rows, dtype=np.float64)
    same = whole.view(f"V{whole.itemsize * whole.shape[1]}").ravel()  # a NaN equals itself
    copies = np.ones(len(rows), dtype=bool)
    copies[np.unique(same, return_index=True)[1]] = False
    return copies


def measure_model(
    column: Column,
    codes: np.ndarray,
    arrow_type: pa.DataType,
    copies: np.ndarray | None = None,
    places: Places | None = None,
) -> ModelledColumn:
    """Decide how a column of an Arrow type is modelled.

    one value in every row                                    left out, and put back
    a category, a boolean, at most 256 values on a grid       levels; 3 categories or more have no
                                                              order
    at most 256 values on no grid that recur                  levels
    anything else                                             a number; its atoms stand apart

    Args:
        column: how the values are stored.
        codes: those of the training rows, (N,).
        arrow_type: the type that the column had in training.
        copies: which rows are copies of others, (N,); None: none.
        places: where categories stand; None: as if there were no other columns.
    """
    values, counts = np.unique(codes[~np.isnan(codes)], return_counts=True)
    whole = len(values) > 0 and counts.sum() == len(codes)
    if len(values) == 0 or (len(values) == 1 and whole):
        value = values.item() if len(values) else None
        return ConstantColumn(name=column.name, value=value, rows=len(codes))
    ordinary = values[(counts <= ATOM * len(codes)) & ~_far_ends(values, counts)]
    grid = column.grid_of(values, arrow_type)
    repeated = len(values) <= min(MOST_LEVELS, counts.sum() / REPEATS)
    repeated = repeated and (bool(grid) or _recur(codes, ordinary, copies))
    if not column.ordered and len(values) > 2:
        return UnorderedColumn.measure(codes, column, places)
    if column.size or len(ordinary) < 2 or repeated:
        gapped = column.ordered and column.missing != "no" and len(values) > 2
        return (GappedColumn if gapped else LevelColumn).measure(codes, column)
    return NumberColumn.measure(codes, column, ordinary, grid)


def phrase_of(model: ModelledColumn, column: Column, arrow_type: pa.DataType) -> str:
    """Return a phrase for people on how a column is modelled."""
    if isinstance(model, ConstantColumn):
        return "a constant: left out of the model and put back"
    if isinstance(model, GivenColumn):
        return "a condition: the others are modelled given it"
    or_missing = ", or missing" if column.missing != "no" else ""
    if isinstance(model, EnumeratedColumn):
        apart = " on no grid" if isinstance(column, FloatColumn) else ""
        order = ", without an order" if isinstance(model, UnorderedColumn) else ""
        return f"one of {len(model.values)} values{apart}{or_missing}{order}"
    assert isinstance(model, NumberColumn)
    named = ", ".join(column.texts(np.array(model.atoms), arrow_type)) if model.atoms else ""
    apart = f", with {named} apart" if named else ""
    return f"{'whole steps' if model.grid else 'a continuous number'}{apart}{or_missing}"


def _recur(codes: np.ndarray, ordinary: np.ndarray, copies: np.ndarray | None) -> bool:
    """Return whether numbers recur that are no atoms, as those of a coarse instrument do.

    Each has so many rows on average, and most have several that are no copies of each other.
    """
    some = np.isin(codes, ordinary)
    apart = some if copies is None else some & ~copies
    counts = np.unique(codes[apart], return_counts=True)[1]
    enough = len(ordinary) <= some.sum() / REPEATS
    return bool(enough and 2 * np.count_nonzero(counts > 1) > len(ordinary))


def _far_ends(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return which rising values are repeated ends that stand apart, as -999 for missing does.

    They are far from all others, or ten times as frequent as each of the ten next to them.
    """
    low, high = 0, len(values) - 1
    far = np.zeros(len(values), dtype=bool)
    while high - low >= 2:
        below, above = values[low + 1] - values[low], values[high] - values[high - 1]
        often = 10 * counts[low + 1 : low + 11].max(), 10 * counts[max(high - 10, 0) : high].max()
        far_below = below > FAR * (values[high] - values[low + 1])
        far_above = above > FAR * (values[high - 1] - values[low])
        if counts[low] >= (2 if far_below else often[0]):
            far[low] = True
            low += 1
        elif counts[high] >= (2 if far_above else often[1]):
            far[high] = True
            high -= 1
        else:
            break
    return far


def _gaps(values: np.ndarray, counts: np.ndarray, whole: bool) -> list[tuple[float, float]]:
    """Return pairs of rising values with nothing between them, where that is no accident.

    A gap is a tenth of the range or more, and five times as wide as what the eight nearest rows on
    either side span: in a sample of any smooth density that is rarer than one in ten million.
    """
    above = counts.cumsum()
    gaps = []
    for i in np.flatnonzero(np.diff(values) >= WIDE * (values[-1] - values[0])).tolist():
        if min(above[i], above[-1] - above[i]) < BLOCK:
            continue
        first = int(np.searchsorted(above, above[i] - BLOCK, side="right"))
        last = int(np.searchsorted(above, above[i] + BLOCK))
        near = max(values[i] - values[first], values[last] - values[i + 1])
        width = values[i + 1] - values[i] - whole
        if width > EMPTY * near and width > 0:
            gaps.append((float(values[i]), float(values[i + 1])))
    return gaps


def _steps(codes: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Return the steps of codes on a grid; the codes themselves without one."""
    if not grid:
        return codes
    offset, unit, denominator = grid
    return np.round((np.round(codes * denominator) - offset) / unit)


def _knots(
    values: np.ndarray,
    whole: bool,
    low: float,
    high: float,
    gaps: Sequence[tuple[float, float]],
) -> tuple[list[float], list[float]]:
    """Return quantiles at evenly spaced normal scores; equal ones share their mean score."""
    half = 0.5 if whole else 0.0
    knots, marks = _at_scores(values + half, _count(values + half, whole))
    for a, b in gaps:
        knots, marks = _with_gap(knots, marks, (a + whole, b), float(np.mean(values <= a)))
    if len(knots) < 2:  # hardly any ordinary value in the training rows: spread the whole range
        knots, marks = np.array([low, high + 2 * half]), np.array([-1.0, 1.0])
    if whole and high - low < EXACT_STEPS:
        rises = np.maximum(np.diff(marks), LEAST_SLOPE * np.diff(knots))
        wider = np.append(0.0, rises.cumsum())
        marks = wider - wider[len(marks) // 2] + marks[len(marks) // 2]
    return knots.tolist(), marks.tolist()


def _at_scores(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the quantiles of values (N,) at so many scores, and these, for `_knots`."""
    farthest = float(ndtri(torch.tensor(1 - 0.5 / max(len(values), 2), dtype=torch.float64)))
    scores = np.linspace(-farthest, farthest, count)
    shares = ndtr(torch.tensor(scores)).numpy()
    quantiles = np.quantile(values, shares) if len(values) else np.zeros(2)
    knots, group = np.unique(quantiles, return_inverse=True)
    marks = np.bincount(group, weights=scores) / np.bincount(group)
    apart = np.diff(knots) > 1e-12 * np.maximum(np.abs(knots[1:]), np.abs(knots[:-1])) + 1e-290
    return knots[np.append(True, apart)], marks[np.append(True, apart)]


def _count(values: np.ndarray, whole: bool) -> int:
    """Return how many knots the map of values (N,) has: under those of half, the rest is likeliest.

    Values that are `whole` lie in the middle of their steps.
    """
    fewest = int(np.clip(len(values) // 8, 2, KNOTS[0]))
    tried = [count for count in KNOTS[1:] if len(values) >= PER_KNOT * count]
    if not tried:
        return fewest
    own, others = np.split(np.random.default_rng(0).permutation(values), [len(values) // 2])
    if whole:
        others = others + np.random.default_rng(1).uniform(-0.5, 0.5, len(others))

    def nats(count: int) -> float:
        knots, marks = _at_scores(own, count)
        if len(knots) < 2:
            return 0.0
        slopes = np.diff(marks) / np.diff(knots)
        j = np.searchsorted(knots[1:-1], others, side="right")
        x = marks[j] + (others - knots[j]) * slopes[j]
        return float(np.mean(np.log(slopes[j]) - x**2 / 2))

    return max((fewest, *tried), key=nats)


def _with_gap(
    knots: np.ndarray, marks: np.ndarray, ends: tuple[float, float], share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return knots and marks with hardly any x between the ends of a gap.

    Args:
        knots: rising points.
        marks: the x of each.
        ends: where the gap begins and ends.
        share: the share of the values below it.
    """
    if not 0 < share < 1:
        return knots, marks
    x = float(ndtri(torch.tensor(share, dtype=torch.float64)))
    (a, b), near = ends, 1e-6 * (ends[1] - ends[0])
    left = (knots < a - near) & (marks < x - STEEP)
    right = (knots > b + near) & (marks > x + STEEP)
    side = 0.01 * (b - a)  # where a side has one value alone
    lower = (knots[left], marks[left]) if left.any() else ([a - side], [x - 1.0])
    upper = (knots[right], marks[right]) if right.any() else ([b + side], [x + 1.0])
    middle = ([a, b], [x - STEEP, x + STEEP])
    knots, marks = (np.concatenate(parts) for parts in zip(lower, middle, upper))
    return knots, marks

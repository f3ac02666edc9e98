"""Rules between columns of a table, and how a column that others bind is modelled given those.

A rule binds one column, its target y, to others, its sources X. It takes the place of y in the
model, and the chain rule p(X) p(y | X) keeps the likelihood right:

    Formula, Lookup, Calendar   y = f(X) in all n training rows that f is defined in. No coordinate;
                                P(y | X) = n/(n + 1) if y = f(X), else q(y)/(n + 1), where q is the
                                law of y alone: the share of what n rows have not shown.
    Ordered                     y >= x: the difference y - x >= 0 is modelled in the place of y.
    Near                        y is nearly c_0 + c_1 x of an x that others determine, and so is no
                                coordinate: the difference is modelled in the place of y. Any y can
                                occur, so that this can be no breach.
    Absent                      y is missing where x is, in n rows: no coordinate is used there, and
                                P is n/(n + 1) if y is missing, else q(y)/(n + 1). Elsewhere y has a
                                model, or a rule, measured on those rows alone.
    Within                      few pairs (x, y) occur: the levels of y are those seen beside x, of
                                the probabilities that they have there; any other y has the share of
                                the unseen there, times q(y).

Where f is not defined, since a source is missing, y has a model of its own, measured on the rows
where that is so; elsewhere its coordinates are filled with z ~ N(0, 1), whose density is
subtracted. A pair that a lookup does not know leaves y to q.

Rows are restored column by column: a rule finds its sources restored, so rules are in that order.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from undiffuse.data.tables.batches import BATCHES, LevelBatch, negative_log_normal
from undiffuse.data.tables.modelled import EnumeratedColumn, LevelColumn, ModelledColumn
from undiffuse.data.tables.values import Numbering, said_part, to_common
from undiffuse.data.unseen import log_seen

HALFWAY = 1e-6  # steps: what is so near to the middle of two may have been rounded either way
_UNITS = ("year", "month", "day", "hour", "minute", "second")


def log_share(column: ModelledColumn, codes: np.ndarray) -> Tensor:
    """Return log q of codes (N,): the law of a column alone, at the middle of a step of a grid."""
    if isinstance(column, EnumeratedColumn):
        return LevelBatch([column]).log_mass(torch.from_numpy(codes)[None])[0]
    z = torch.zeros(column.width, len(codes), dtype=torch.float64)
    x, correction = BATCHES[type(column)]([column]).encode(torch.from_numpy(codes)[None], z)
    return correction[0] - negative_log_normal(x).sum(0)


class _Part:
    """One model (of a rest, of a difference) with its coordinates, unused in some rows."""

    def __init__(self, model: ModelledColumn) -> None:
        self.model, self.batch = model, BATCHES[type(model)]([model])
        self.width = model.width

    def encode(self, codes: np.ndarray, used: np.ndarray, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x (width, B) and the log correction (B,); z where it is not used."""
        codes = np.where(used, codes, self.model.some_code)
        x, correction = self.batch.encode(torch.from_numpy(codes)[None].to(z.device), z)
        on = torch.from_numpy(used).to(z.device)
        return torch.where(on, x, z.float()), torch.where(
            on, correction[0], negative_log_normal(z.float()).sum(0)
        )

    def decode(self, x: Tensor) -> np.ndarray:
        """Return codes (B,)."""
        return self.batch.decode(x)[0].cpu().numpy()


@dataclass(kw_only=True, eq=False)
class Rule(ABC):
    """What binds a column; see above. Rows (B, columns) are codes, NaN where missing.

    Args:
        name: the target's name.
        of: the names of the sources.
        target: the place of the target among the columns.
        sources: those of the sources.
    """

    name: str
    of: Sequence[str]
    target: int
    sources: Sequence[int]
    width = 0  # coordinates of x
    holds: ClassVar[bool] = True  # whether rows can break it

    @abstractmethod
    def encode(self, row: np.ndarray, z: Tensor, own: ModelledColumn) -> tuple[Tensor, Tensor]:
        """Return x (width, B) and log corrections (B,); `own` is the target's model alone."""

    @abstractmethod
    def decode(self, row: np.ndarray, x: Tensor) -> np.ndarray:
        """Return the target's codes (B,) of rows whose sources are restored."""

    @abstractmethod
    def broken(self, row: np.ndarray) -> np.ndarray:
        """Return which rows (B,) break the rule."""

    @property
    @abstractmethod
    def phrase(self) -> str:
        """What holds, after the target's name: "follows from a and b (...)"."""

    @property
    def both(self) -> str:
        """The sources' names as a phrase."""
        names = [f'"{name}"' for name in self.of]
        return ", ".join(names[:-1]) + (" and " if names[1:] else "") + names[-1]


@dataclass(kw_only=True, eq=False)
class Determined(Rule):
    """A target that its sources determine.

    Args:
        rows: in how many training rows they do.
        rest: the target's model in rows where `predict` is not defined; None: there was no such.
    """

    rows: int
    rest: ModelledColumn | None = None

    def __post_init__(self) -> None:
        self.set_rest(self.rows, self.rest)

    def set_rest(self, rows: int, rest: ModelledColumn | None) -> None:
        """Take what only the training rows tell: see the class."""
        self.rows, self.rest = rows, rest
        self._rest = None if rest is None else _Part(rest)
        self.width = 0 if rest is None else rest.width

    @abstractmethod
    def predict(self, row: np.ndarray) -> np.ndarray:
        """Return the target's codes (B,)."""

    @abstractmethod
    def same(self, codes: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return which of the target's codes are equal."""

    def defined(self, row: np.ndarray) -> np.ndarray:
        """Return in which rows (B,) the sources determine the target."""
        return np.logical_not(np.isnan(row[:, list(self.sources)]).any(1))

    def base(self, row: np.ndarray) -> np.ndarray | float:
        """Return what `rest` models the target's codes (B,) less of."""
        return 0.0

    def encode(self, row: np.ndarray, z: Tensor, own: ModelledColumn) -> tuple[Tensor, Tensor]:
        """See `Rule`."""
        codes, defined = row[:, self.target], self.defined(row)
        kept = self.same(codes, self.predict(row))
        correction = log_seen(torch.from_numpy(kept), self.rows)
        correction[~torch.from_numpy(defined)] = 0.0
        alone = ~defined & (self._rest is None) | defined & ~kept
        if alone.any():
            correction[torch.from_numpy(alone)] += log_share(own, codes[alone])
        correction = correction.to(z.device)
        if self._rest is None:
            return z.float(), correction
        x, more = self._rest.encode(codes - self.base(row), ~defined, z)
        return x, correction + more

    def decode(self, row: np.ndarray, x: Tensor) -> np.ndarray:
        """See `Rule`."""
        codes = self.predict(row)
        if self._rest is None:
            return codes
        return np.where(self.defined(row), codes, self.base(row) + self._rest.decode(x))

    def broken(self, row: np.ndarray) -> np.ndarray:
        """See `Rule`."""
        return self.defined(row) & ~self.same(row[:, self.target], self.predict(row))


@final
@dataclass(kw_only=True, eq=False)
class Formula(Determined):
    """y = c_0 + c_1 u + c_2 v + c_12 u v, of parts u, v of one or two sources.

    Of a rounded one, a value halfway between two steps of y has been rounded up or down, by a
    custom that is not known: which of the two it is, is modelled.

    Args:
        name: see `Rule`; so are `of`, `target` and `sources`.
        parts: the part of each source, "" for the number itself; see `values`.
        scales: what codes are numbers of, of the target and of each source.
        constants: c_0, c_1 and, of two sources, c_2 and c_12.
        cycle: (low, period): y is brought into [low, low + period) by periods; empty: it is not.
        rounded: whether y has been rounded to a step of its own.
        half: the model of whether y is the upper of two steps, 0 or 1, where f(X) is halfway; None:
            that was in no training row.
        rows: see `Determined`; so is `rest`.
    """

    parts: Sequence[str]
    scales: Sequence[Sequence[int]]
    constants: Sequence[float]
    cycle: Sequence[float] = ()
    rounded: bool = False
    half: ModelledColumn | None = None

    def __post_init__(self) -> None:
        self._own, *self._scales = (Numbering(*scale) for scale in self.scales)
        super().__post_init__()

    def set_rest(self, rows: int, rest: ModelledColumn | None) -> None:
        """See `Determined`."""
        super().set_rest(rows, rest)
        self._half = None if self.half is None else _Part(self.half)
        self.width += 0 if self.half is None else self.half.width

    @property
    def is_whole(self) -> bool:
        """Whether any values of the sources give one that the target's grid has."""
        if not self._own.unit:
            return True
        steps = [
            1.0 if part else s.unit / s.denominator for part, s in zip(self.parts, self._scales)
        ]
        steps += [math.prod(steps)][: len(self.constants) - 1 - len(steps)]
        size = self._own.denominator / self._own.unit
        terms = [c * step * size for c, step in zip(self.constants[1:], steps)]
        on_grids = all(scale.unit for scale in self._scales)
        return on_grids and all(abs(term - round(term)) < 1e-6 for term in terms)

    def value(self, row: np.ndarray) -> np.ndarray:
        """Return f(X) (B,), not rounded."""
        first, *others = (
            scale.part(row[:, source], part)
            for scale, source, part in zip(self._scales, self.sources, self.parts)
        )
        y = self.constants[0] + self.constants[1] * first
        for second in others:
            y = y + self.constants[2] * second + self.constants[3] * first * second
        if self.cycle:
            low, period = self.cycle
            y = low + np.mod(y - low, period)
        return y

    def halfway(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return where f(X) (B,) is halfway between two steps of a rounded y.

        Beside it stands whether y is the upper one, 0 or 1, and where it is one of the two.
        """
        if not self.rounded:
            nowhere = np.zeros(len(row), bool)
            return nowhere, nowhere, nowhere
        steps, step, y = self._own.steps(self.value(row)), self._own.step, row[:, self.target]
        low = np.floor(steps)
        halfway = np.abs(steps - low - 0.5) <= HALFWAY
        up = self.same(y, (low + 1) * step)
        return halfway, up.astype(np.float64), halfway & (up | self.same(y, low * step))

    def predict(self, row: np.ndarray) -> np.ndarray:
        """See `Determined`."""
        if not self.rounded:
            return self._own.codes(self.value(row))
        return np.rint(self._own.steps(self.value(row))) * self._own.step

    def defined(self, row: np.ndarray) -> np.ndarray:
        """See `Determined`."""
        return super().defined(row) & np.isfinite(self.value(row))

    def encode(self, row: np.ndarray, z: Tensor, own: ModelledColumn) -> tuple[Tensor, Tensor]:
        """See `Rule`."""
        _, up, either = self.halfway(row)
        first = self.width - (self._half.width if self._half else 0)
        certain = row.copy()
        certain[:, self.target] = np.where(either, self.predict(row), row[:, self.target])
        x, correction = super().encode(certain, z[:first], own)
        if self._half is None:
            at = torch.from_numpy(either).to(z.device)
            return x, correction + math.log(0.5) * at
        other, more = self._half.encode(up, either, z[first:])
        return torch.cat([x, other]), correction + more

    def decode(self, row: np.ndarray, x: Tensor) -> np.ndarray:
        """See `Rule`."""
        if self._half is None:
            return super().decode(row, x)
        first = self.width - self._half.width
        codes, (halfway, _, _) = super().decode(row, x[:first]), self.halfway(row)
        low = np.floor(self._own.steps(self.value(row)))
        return np.where(
            halfway, (low + self._half.decode(x[first:]).clip(0, 1)) * self._own.step, codes
        )

    def broken(self, row: np.ndarray) -> np.ndarray:
        """See `Rule`."""
        return super().broken(row) & ~self.halfway(row)[2]

    def same(self, codes: np.ndarray, others: np.ndarray) -> np.ndarray:
        """See `Determined`."""
        return self._own.same(codes, others)

    @property
    def phrase(self) -> str:
        """See `Rule`."""
        names = [said_part(*each) for each in zip(self.of, self.parts, self._scales)]
        told = f"follows from {self.both}"
        if self._times:
            return f"{told} (a sum or difference of times)"
        names += ["", " × ".join(names).replace(" × 1 / ", " / ")][: 2 * (len(names) > 1)]
        names = [name for name in names if name]
        formula = ""
        for constant, name in zip(self.constants[1:], names):
            factor = "" if abs(constant) == 1 else f"{abs(constant):.6g} × "
            sign = " - " if constant < 0 else " + "
            formula += f"{sign}{factor}{name}" if constant else ""
        formula = formula.removeprefix(" + ").strip()
        if self.constants[0]:
            formula += f" {'-' if self.constants[0] < 0 else '+'} {abs(self.constants[0]):.6g}"
        return f"{told} ({formula}{', rounded' if self.rounded else ''})"

    @property
    def _times(self) -> bool:
        """Whether constants are in units that a person does not see."""
        return any(s.day for s, part in zip(self._scales, self.parts) if not part) or bool(
            self._own.day
        )


@final
@dataclass(kw_only=True, eq=False)
class Lookup(Determined):
    """y by a table of the values, or of the parts, of one or two sources.

    Args:
        name: see `Rule`; so are `of`, `target` and `sources`.
        parts: the part of each source; see `Formula`.
        scales: of each source; empty for a category.
        keys: what sources hold in each line of the table, one list each.
        values: the target's code in each line; None for missing.
        rows: see `Determined`; so is `rest`.
    """

    parts: Sequence[str]
    scales: Sequence[Sequence[int]]
    keys: Sequence[Sequence[float]]
    values: Sequence[float | None]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._levels = [np.unique(one) for one in self.keys]
        places = self._place(np.array(self.keys, dtype=np.float64))
        order = np.argsort(places)
        self._places = places[order]
        values = [math.nan if v is None else v for v in self.values]
        self._values = np.array(values, dtype=np.float64)[order]
        if len(set(self._places.tolist())) != len(values) or min(self._places) < 0:
            raise ValueError(f'column "{self.name}": the lookup has a line twice')

    def _place(self, keys: np.ndarray) -> np.ndarray:
        """Return one number for each key of (sources, B); -1 for what no line holds."""
        place, none = np.zeros(keys.shape[1], dtype=np.int64), np.zeros(keys.shape[1], dtype=bool)
        for levels, values in zip(self._levels, keys):
            level = np.searchsorted(levels, values).clip(max=len(levels) - 1)
            none |= levels[level] != values
            place = place * len(levels) + level
        return np.where(none, -1, place)

    def _line(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the line (B,) of the table nearest to each row, and whether it is its own."""
        keys = [
            Numbering(*scale).part(row[:, source], part) if part else row[:, source]
            for scale, source, part in zip(self.scales, self.sources, self.parts)
        ]
        place = self._place(np.nan_to_num(np.array(keys), nan=math.inf))
        line = np.searchsorted(self._places, place).clip(max=len(self._places) - 1)
        return line, self._places[line] == place

    def lines(self, row: np.ndarray) -> np.ndarray:
        """Return the line (B,) of the table that each row has, or the one beside it."""
        return self._line(row)[0]

    def predict(self, row: np.ndarray) -> np.ndarray:
        """See `Determined`: a line beside the own one, where the table has none."""
        return self._values[self._line(row)[0]]

    def same(self, codes: np.ndarray, others: np.ndarray) -> np.ndarray:
        """See `Determined`."""
        return (codes == others) | (np.isnan(codes) & np.isnan(others))

    def defined(self, row: np.ndarray) -> np.ndarray:
        """See `Determined`."""
        return self._line(row)[1]

    @property
    def phrase(self) -> str:
        """See `Rule`."""
        what = "combinations" if len(self.sources) > 1 else "values"
        parts = [
            said_part(name, part, Numbering(*scale))
            for name, part, scale in zip(self.of, self.parts, self.scales)
            if part
        ]
        of = f" of {parts[0]}" if parts else ""
        return f"follows from {self.both} (lookup of {len(self.values):,} {what}{of})"


@final
@dataclass(kw_only=True, eq=False)
class Calendar(Determined):
    """A day or a time by its year, month, day, hour, minute and second.

    Args:
        name: see `Rule`; so are `of`, `target` and `sources`.
        units: what each source holds, in the order of the sources.
        scales: of the target and of each source.
        year: the year of all rows, where no source holds it.
        starts: the times of the sources from which each shift applies.
        shifts: what is added to the time of the sources, as a time zone does.
        twice: pairs of the first and the last time of the sources that come with two shifts, as an
            hour in autumn does: `rest` models what is to be added there.
        rows: see `Determined`; so is `rest`.
    """

    units: Sequence[str]
    scales: Sequence[Sequence[int]]
    year: int = 1970
    starts: Sequence[int] = ()
    shifts: Sequence[int] = (0,)
    twice: Sequence[Sequence[int]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._own, *self._scales = (Numbering(*scale) for scale in self.scales)

    def naive(self, row: np.ndarray) -> np.ndarray:
        """Return the time (B,) that the sources say, in the target's steps, before any shift."""
        held = {
            unit: np.nan_to_num(scale.numbers(row[:, source])).astype(np.int64)
            for unit, source, scale in zip(self.units, self.sources, self._scales)
        }
        year, month, day = (held.get(unit, self.year) for unit in _UNITS[:3])
        months = np.asarray((year - 1970) * 12 + month - 1).astype("datetime64[M]")
        days = months.astype("datetime64[D]").astype(np.int64) + day - 1
        ticks = days * self._own.day
        for unit, per_day in zip(_UNITS[3:], (24, 1440, 86_400)):
            ticks = ticks + held.get(unit, 0) * (self._own.day // per_day)
        return ticks

    def predict(self, row: np.ndarray) -> np.ndarray:
        """See `Determined`."""
        naive = self.naive(row)
        shift = np.array(self.shifts)[np.searchsorted(np.array(self.starts), naive, side="right")]
        return (naive + shift - self._own.offset) / self._own.unit

    def same(self, codes: np.ndarray, others: np.ndarray) -> np.ndarray:
        """See `Determined`."""
        return codes == others

    def defined(self, row: np.ndarray) -> np.ndarray:
        """See `Determined`."""
        naive, known = self.naive(row), super().defined(row)
        for first, last in self.twice:
            known &= (naive < first) | (naive > last)
        return known

    def base(self, row: np.ndarray) -> np.ndarray | float:
        """See `Determined`."""
        return self.predict(row)

    @property
    def phrase(self) -> str:
        """See `Rule`."""
        zone = f", {len(self.shifts)} shifts of a time zone" if len(self.shifts) > 1 else ""
        twice = ", of some times one of two" if self.twice else ""
        return f"follows from {self.both} (the time that they say{zone}{twice})"


def least_codes(codes: np.ndarray, source: Numbering, own: Numbering, strict: bool) -> np.ndarray:
    """Return the least codes of a column that are not below others; NaN where those are missing.

    Args:
        codes: what they are not below, (B,), codes of `source`.
        source: what those stand for.
        own: the column's scale.
        strict: whether an equal one is below.
    """
    if not own.unit:
        return source.numbers(codes)
    if source.unit:
        theirs, ours = to_common(source, own)
        apart, size = source.ticks(codes) * theirs - own.offset * ours, ours * own.unit
        least = apart // size + 1 if strict else -(-apart // size)
    else:
        steps = (codes * own.denominator - own.offset) / own.unit
        least = np.floor(steps + 1e-9) + 1 if strict else np.ceil(steps - 1e-9)
    return np.where(np.isnan(codes), np.nan, least.astype(np.float64))


@final
@dataclass(kw_only=True, eq=False)
class Ordered(Rule):
    """A target that is never below its source x: the least value not below x, and a gap.

    Args:
        name: see `Rule`; so are `of`, `target` and `sources`.
        scales: of the target and of the source.
        gap: the model of the gap, in the target's codes.
        ends: the least and the greatest code of the target, which are kept.
        strict: whether they are never equal.
        rest: the model of the target where x is missing; None: it never was.
    """

    scales: Sequence[Sequence[int]]
    gap: ModelledColumn
    ends: Sequence[float]
    strict: bool = False
    rest: ModelledColumn | None = None

    def __post_init__(self) -> None:
        self._own, self._source = (Numbering(*scale) for scale in self.scales)
        self._gap, self._rest = _Part(self.gap), None if self.rest is None else _Part(self.rest)
        self.width = self.gap.width + (self.rest.width if self.rest else 0)

    def _least(self, row: np.ndarray) -> np.ndarray:
        return least_codes(row[:, self.sources[0]], self._source, self._own, self.strict)

    def encode(self, row: np.ndarray, z: Tensor, own: ModelledColumn) -> tuple[Tensor, Tensor]:
        """See `Rule`."""
        least, width = self._least(row), self.gap.width
        known = ~np.isnan(least)
        x, correction = self._gap.encode(row[:, self.target] - least, known, z[:width])
        if self._rest is None:
            return x, correction
        other, more = self._rest.encode(row[:, self.target], ~known, z[width:])
        return torch.cat([x, other]), correction + more

    def decode(self, row: np.ndarray, x: Tensor) -> np.ndarray:
        """See `Rule`."""
        least = self._least(row)
        low, high = self.ends
        codes = np.clip(least + self._gap.decode(x[: self.gap.width]), low, high)
        if not self._own.unit:
            at = self._own.denominator  # the decimals that are kept, but never below x
            up = np.floor(least * at) + 1 if self.strict else np.ceil(least * at)
            codes = np.maximum(self._own.codes(codes), up / at) if at else codes
        if self._rest is None:
            return codes
        return np.where(np.isnan(least), self._rest.decode(x[self.gap.width :]), codes)

    def broken(self, row: np.ndarray) -> np.ndarray:
        """See `Rule`."""
        gaps = row[:, self.target] - self._least(row)
        return gaps <= 0 if self.strict and not self._own.unit else gaps < 0

    @property
    def phrase(self) -> str:
        """See `Rule`."""
        return f"is {'above' if self.strict else 'at least'} {self.both}"


@final
@dataclass(kw_only=True, eq=False)
class Near(Rule):
    """A target that is nearly a multiple of its source.

    Args:
        name: see `Rule`; so are `of`, `target` and `sources`.
        scales: of the target and of the source, which is never missing.
        constants: c_0 and c_1.
        gap: the model of the difference, in the target's codes.
        ends: the least and the greatest code of the target, which are kept.
    """

    scales: Sequence[Sequence[int]]
    constants: Sequence[float]
    gap: ModelledColumn
    ends: Sequence[float]
    holds = False

    def __post_init__(self) -> None:
        self._own, self._source = (Numbering(*scale) for scale in self.scales)
        self._gap, self.width = _Part(self.gap), self.gap.width

    def base(self, row: np.ndarray) -> np.ndarray:
        """Return the codes (B,) that the difference is from."""
        first, factor = self.constants
        return self._own.codes(first + factor * self._source.numbers(row[:, self.sources[0]]))

    def encode(self, row: np.ndarray, z: Tensor, own: ModelledColumn) -> tuple[Tensor, Tensor]:
        """See `Rule`."""
        return self._gap.encode(row[:, self.target] - self.base(row), np.ones(len(row), bool), z)

    def decode(self, row: np.ndarray, x: Tensor) -> np.ndarray:
        """See `Rule`."""
        low, high = self.ends
        codes = np.clip(self.base(row) + self._gap.decode(x), low, high)
        return codes if self._own.unit else self._own.codes(codes)

    def broken(self, row: np.ndarray) -> np.ndarray:
        """See `Rule`."""
        return np.zeros(len(row), dtype=bool)

    @property
    def phrase(self) -> str:
        """See `Rule`."""
        first, factor = self.constants
        sign = "-" if first < 0 else "+"
        formula = f"{factor:.4g} × {self.of[0]} {sign} {abs(first):.4g}"
        return f"is modelled by its difference from {formula}"


@final
@dataclass(kw_only=True, eq=False)
class Within(Rule):
    """A target with the levels that are seen beside each value, or pair, of its sources.

    Args:
        name: see `Rule`; so are `of`, `target` and `sources`.
        parents: codes of the sources, one list each.
        columns: the target's levels beside each of them, and at the end those beside all others.
    """

    width = 1

    parents: Sequence[Sequence[float]]
    columns: Sequence[LevelColumn]

    def __post_init__(self) -> None:
        self._batch = LevelBatch(self.columns)
        self._place = {tuple(parent): i for i, parent in enumerate(self.parents)}
        self._seen_in = [set(column.values) for column in self.columns]

    def _places(self, row: np.ndarray) -> np.ndarray:
        keys = map(tuple, row[:, list(self.sources)].tolist())
        return np.array([self._place.get(key, len(self.parents)) for key in keys], np.int64)

    def _seen(self, row: np.ndarray) -> np.ndarray:
        pairs = zip(self._places(row).tolist(), row[:, self.target].tolist())
        others = len(self.parents)
        return np.array([i < others and code in self._seen_in[i] for i, code in pairs], dtype=bool)

    def encode(self, row: np.ndarray, z: Tensor, own: ModelledColumn) -> tuple[Tensor, Tensor]:
        """See `Rule`."""
        codes = torch.from_numpy(row[:, self.target]).to(z.device)
        shape = (len(self.columns), len(row))
        x, correction = self._batch.encode(codes.expand(shape), z.expand(shape))
        places = torch.from_numpy(self._places(row)).to(z.device)[None]
        x, correction = x.gather(0, places), correction.gather(0, places)[0]
        unseen = ~self._seen(row)
        if unseen.any():
            more = torch.zeros(len(row), dtype=torch.float64)
            more[torch.from_numpy(unseen)] = log_share(own, row[unseen, self.target])
            correction = correction + more.to(z.device)
        return x, correction

    def decode(self, row: np.ndarray, x: Tensor) -> np.ndarray:
        """See `Rule`."""
        codes = self._batch.decode(x.expand(len(self.columns), -1)).cpu().numpy()
        return np.take_along_axis(codes, self._places(row)[None], 0)[0]

    def broken(self, row: np.ndarray) -> np.ndarray:
        """See `Rule`."""
        return ~self._seen(row)

    @property
    def phrase(self) -> str:
        """See `Rule`."""
        count = sum(map(len, self._seen_in[:-1]))
        return f"is one of the values seen beside {self.both} ({count:,} combinations)"


@final
class Absent(Rule):
    """A target that is missing where others are, and elsewhere has a rule or a model of its own.

    Args:
        name: see `Rule`; so is `target`. `of` and `sources` are those of the inner rule.
        gaps: the places of the columns where it is missing if one of them is.
        beside: their names.
        rows: in how many training rows one of them is missing.
        others: in how many none is and the target is not missing either; 0: it can be there.
        inner: its rule or model elsewhere.
    """

    def __init__(
        self,
        *,
        name: str,
        target: int,
        gaps: Sequence[int],
        beside: Sequence[str],
        rows: int,
        inner: Rule | ModelledColumn,
        others: int = 0,
    ) -> None:
        self.name, self.target, self.gaps, self.beside = name, target, gaps, beside
        self.rows, self.others, self.inner = rows, others, inner
        self.rule = inner if isinstance(inner, Rule) else None
        self.of = self.rule.of if self.rule else ()
        self.sources = self.rule.sources if self.rule else ()
        self._part = None if isinstance(inner, Rule) else _Part(inner)
        self.width = inner.width

    def _absent(self, row: np.ndarray) -> np.ndarray:
        """Return in which rows (B,) the target has to be missing."""
        return np.asarray(np.isnan(row[:, list(self.gaps)]).any(1))

    def encode(self, row: np.ndarray, z: Tensor, own: ModelledColumn) -> tuple[Tensor, Tensor]:
        """See `Rule`."""
        absent, empty = self._absent(row), np.isnan(row[:, self.target])
        free = torch.from_numpy(absent | empty & (self.others > 0))  # of all coordinates
        share = log_seen(torch.from_numpy(empty), self.rows)
        if self.others:
            share = torch.where(
                torch.from_numpy(absent), share, log_seen(torch.from_numpy(~empty), self.others)
            )
        else:
            share[torch.from_numpy(~absent)] = 0.0
        odd = absent & ~empty
        if odd.any():
            share[torch.from_numpy(odd)] += log_share(own, row[odd, self.target])
        free, share = free.to(z.device), share.to(z.device)
        if self.rule is not None:
            x, correction = self.rule.encode(row, z, own)
        else:
            assert self._part is not None
            x, correction = self._part.encode(row[:, self.target], ~free.cpu().numpy(), z)
        x = torch.where(free, z.float(), x)
        return x, share + torch.where(free, negative_log_normal(x).sum(0), correction)

    def decode(self, row: np.ndarray, x: Tensor) -> np.ndarray:
        """See `Rule`."""
        if self.rule is not None:
            codes = self.rule.decode(row, x)
        else:
            assert self._part is not None
            codes = self._part.decode(x)
        return np.where(self._absent(row), np.nan, codes)

    def broken(self, row: np.ndarray) -> np.ndarray:
        """See `Rule`."""
        absent, empty = self._absent(row), np.isnan(row[:, self.target])
        elsewhere = empty & (self.others > 0)
        if self.rule is not None:
            elsewhere |= self.rule.broken(row)
        return np.where(absent, ~empty, elsewhere)

    @property
    def phrase(self) -> str:
        """See `Rule`."""
        names = " or ".join(f'"{name}"' for name in self.beside)
        alone = ", and nowhere else" if self.others else ""
        elsewhere = f", and elsewhere {self.rule.phrase}" if self.rule is not None else ""
        return f"is missing where {names} is{alone}{elsewhere}"


RULES: Mapping[str, type[Rule]] = {
    "formula": Formula,
    "lookup": Lookup,
    "calendar": Calendar,
    "ordered": Ordered,
    "near": Near,
    "within": Within,
    "absent": Absent,
}
"""Every sort of rule, by the name it is recorded under."""

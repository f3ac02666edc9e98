"""Rules that the owner of a table states: `arrival > departure`, `price >= 0`, `day < 2025-01-01`.

Days and times are compared as whole numbers of the finer unit of the two: a day begins at midnight,
UTC where the other side has a time zone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import final

import numpy as np

from undiffuse.data.tables.columns import Column, DayColumn
from undiffuse.data.tables.days import days_of
from undiffuse.data.tables.values import Numbering, to_common
from undiffuse.errors import InputError
from undiffuse.reading import number_in

SIGNS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "<=": np.less_equal,
    ">=": np.greater_equal,
    "<": np.less,
    ">": np.greater,
}
_SIGN = re.compile("([<>]=?|=[<>])")
_MIRRORED = {"<=": ">=", ">=": "<=", "<": ">", ">": "<"}
_ADVICE = 'state it as "arrival > departure" or "price >= 0"'


@final
@dataclass(kw_only=True, eq=False)
class Stated:
    """A comparison of two columns, or of a column and a number, that every row keeps.

    A row in which either is missing keeps it.

    Args:
        text: as it was stated.
        sign: a key of `SIGNS`.
        places: the places of the columns.
        scales: theirs.
        number: what the one column is compared with: of days and times in their whole numbers.
    """

    text: str
    sign: str
    places: Sequence[int]
    scales: Sequence[Sequence[int]]
    number: float | int | None = None

    def __post_init__(self) -> None:
        self._scales = [Numbering(*scale) for scale in self.scales]

    @property
    def strict(self) -> bool:
        """Whether equal values break it."""
        return len(self.sign) == 1

    @property
    def pair(self) -> tuple[int, int] | None:
        """The places of the larger and the smaller column; None with a number."""
        if len(self.places) < 2:
            return None
        first, second = self.places
        return (second, first) if self.sign[0] == "<" else (first, second)

    def broken(self, row: np.ndarray) -> np.ndarray:
        """Return which rows (B, columns) of codes break it."""
        whole = all(scale.unit for scale in self._scales)
        if self.number is None and whole:
            factors = to_common(*self._scales)
            parts = zip(self._scales, self.places, factors)
            sides = [scale.ticks(row[:, i]) * factor for scale, i, factor in parts]
        elif self._scales[0].day:
            sides = [self._scales[0].ticks(row[:, self.places[0]]), np.asarray(self.number)]
        else:
            sides = [s.numbers(row[:, i]) for s, i in zip(self._scales, self.places)]
            if self.number is not None:
                sides.append(np.full(len(row), self.number))
        known = ~np.isnan(row[:, list(self.places)]).any(1)
        return known & ~SIGNS[self.sign](*sides)


def read_rule(
    text: str, columns: Sequence[Column], scales: Sequence[Numbering | None], where: str
) -> Stated:
    """Return a rule from its text. Raises InputError for what is none of this table's."""
    left, sign, right, *more = (*(part.strip().strip("\"'") for part in _SIGN.split(text)), "", "")
    if sign not in SIGNS or not left or not right or any(more):
        raise InputError(f'{where}: --data.rule "{text}" is not a comparison; {_ADVICE}.')
    names = [column.name for column in columns]
    if left not in names and _value(left) is not None and right in names:
        left, sign, right = right, _MIRRORED[sign], left
    number = _value(right) if right not in names else None
    for name in [left, *([right] if number is None else [])]:
        if name not in names:
            shown = ", ".join(names[:8]) + ", ..." * (len(names) > 8)
            raise InputError(
                f'{where}: --data.rule "{text}": there is no column "{name}"; the columns of '
                f"the model are {shown}."
            )
    places = [names.index(left), *([names.index(right)] if number is None else [])]
    own = [scales[place] for place in places]
    if any(scale is None for scale in own):
        raise InputError(
            f'{where}: --data.rule "{text}": only numbers, days and times can be compared; '
            f"{_ADVICE}."
        )
    found = [scale for scale in own if scale is not None]
    units = {(scale.day > 0, scale.is_clock) for scale in found}
    column = columns[places[0]]
    if isinstance(number, timedelta):
        whole, rest = divmod(number // timedelta(microseconds=1) * found[0].day, 86_400_000_000)
        number = whole + 0.5 if rest else whole  # between two of the column's
        units.add((True, 0))
    elif number is not None and isinstance(column, DayColumn):
        number = float(days_of(np.array([number]), column.written)[0][0])
    elif number is not None:
        units.add((False, 0))
    if len(set(places)) < len(places):
        raise InputError(f'{where}: --data.rule "{text}" names one column twice; {_ADVICE}.')
    if len(units) > 1:
        raise InputError(
            f'{where}: --data.rule "{text}": the two sides are not of one kind; {_ADVICE}.'
        )
    return Stated(
        text=text,
        sign=sign,
        places=places,
        scales=[[*map(int, scale)] for scale in found],
        number=number,
    )


def _value(text: str) -> float | timedelta | None:
    """Return the number that a text is, or of a day or a time what it is after 1970; else None."""
    number = number_in(text)
    if number is not None:
        return number if np.isfinite(number) else None  # inf and nan are no numbers here
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return moment - datetime(1970, 1, 1, tzinfo=UTC)


def refuse_broken(rules: Sequence[Stated], matrix: np.ndarray, where: str) -> None:
    """Raise InputError naming how many rows (N, columns) break a stated rule, and the first."""
    for rule in rules:
        broken = np.flatnonzero(rule.broken(matrix))
        if len(broken):
            rows = "1 row breaks" if len(broken) == 1 else f"{len(broken):,} rows break"
            raise InputError(
                f'{where}: {rows} the stated rule "{rule.text}", the first of them row '
                f"{broken[0] + 1:,}; correct or remove them, or leave the rule out."
            )

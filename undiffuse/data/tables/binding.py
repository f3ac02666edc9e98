"""Choose which columns of a table are bound by which rules, of those that hold in its rows.

Every column that others determine, directly or through others, is left out of the model, those with
the most values first: of a date and its month and day the date is. What is left, the base, is
modelled. Columns of the base that a lookup or a calendar needs together, and categories of which
only some occur together (`combined`), keep to these (`Within`), and a number of the base that
another is never above is modelled by the difference (`Ordered`); so is one that a number which is
left out, since others determine it, tells nearly (`Near`). A column that is missing wherever
another is has its rule, or its model, in the other rows (`Absent`): what has the fewest gaps is
restored first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from undiffuse.data.tables.columns import FloatColumn, IntegerColumn
from undiffuse.data.tables.combined import all_occur, combine, leads
from undiffuse.data.tables.finding import determinations, gaps_together
from undiffuse.data.tables.modelled import (
    EnumeratedColumn,
    LevelColumn,
    NumberColumn,
    measure_model,
)
from undiffuse.data.tables.rules import (
    Absent,
    Calendar,
    Determined,
    Formula,
    Lookup,
    Near,
    Ordered,
    Rule,
    Within,
    least_codes,
)
from undiffuse.data.tables.seen import FEWEST, SURE, Seen
from undiffuse.data.tables.stated import Stated

EXPLAINED = 0.9  # the least share of the variance of a number that a line has to tell

if TYPE_CHECKING:
    import pyarrow as pa

    from undiffuse.data.tables.columns import Column


def bind(seen: Seen, *, search: bool, stated: Sequence[Stated] = ()) -> list[Rule]:
    """Return the rules of the training rows, each after those that restore its sources.

    Args:
        seen: the training rows.
        search: whether rules are sought.
        stated: those that the owner of the data states, which are kept in any case.
    """
    kept = {place for rule in stated if rule.pair for place in rule.places}
    found = determinations(seen) if search else []
    found = [r for r in found if not isinstance(r, Formula) or r.rounded or r.is_whole]
    while True:
        chosen = _chosen(found, seen, kept)
        loose = {rule.places[0] for rule in stated if not _implied(rule, chosen, seen)} - kept
        if loose:
            kept |= loose
            continue
        bound = {rule.target for rule in chosen}
        pairs, refused = _pairs(chosen, seen, bound | kept)
        if refused is None:
            break
        found.remove(refused)
    if search:
        pairs = combine(seen, set(seen.varied) - bound - kept, pairs)
    orders, strict = _orders(seen, {*bound, *pairs}, search, stated)
    below = pairs | orders | {rule.target: list(rule.sources) for rule in chosen}
    lines = _lines(seen, {rule.target for rule in chosen}, below, kept) if search else {}
    below |= {place: [source] for place, (source, *_) in lines.items()}
    gaps = _gaps_kept(seen, below) if search else {}
    determined = {rule.target: rule for rule in chosen}
    rules: dict[int, Rule] = dict(determined)
    for place, others in below.items():
        some = seen.without_gaps(gaps.get(place, ()))
        if place in determined:
            _complete(determined[place], seen, some)
        elif place in pairs:
            rules[place] = _within(seen, place, others, some)
        elif place in lines:
            rules[place] = _near(seen, place, *lines[place], some)
        else:
            rules[place] = _ordered(seen, place, others[0], place in strict, some)
    for place, others in gaps.items():
        rules[place] = _absent(seen, place, others, rules.get(place))
    return [rules[i] for i in _in_order(_rests(below, gaps))]


def _implied(stated: Stated, chosen: Sequence[Determined], seen: Seen) -> bool:
    """Return whether what restores the first column of a stated rule gives no value that breaks it.

    Columns of the base, and lookups, only have values of the training rows. A formula is bilinear:
    its extremes are at corners of the ranges of its sources.
    """
    by = {rule.target: rule for rule in chosen}
    rule = by.get(stated.places[0])
    if rule is None or isinstance(rule, Lookup):
        return True
    if not isinstance(rule, Formula) or rule.cycle or any(rule.parts) or set(by) & {*rule.sources}:
        return False
    ranges = [(np.nanmin(seen.codes[:, i]), np.nanmax(seen.codes[:, i])) for i in rule.sources]
    corners = np.full((2 ** len(ranges), len(seen.names)), np.nan)
    corners[:, list(rule.sources)] = list(product(*ranges))
    corners[:, rule.target] = rule.predict(corners)
    return not stated.broken(corners).any()


def _rests(
    below: Mapping[int, Collection[int]], gaps: Mapping[int, Collection[int]]
) -> dict[int, list[int]]:
    """Return on what columns rest: on what restores them, and on what they are missing with."""
    return {i: [*below.get(i, ()), *gaps.get(i, ())] for i in [*below, *gaps]}


def _chosen(found: Sequence[Determined], seen: Seen, kept: Collection[int]) -> list[Determined]:
    """Return rules of as many columns as possible, in the order in which they can be restored.

    A sum is left out rather than one of its terms: as a difference that could fall below zero.
    """
    everything = set(range(len(seen.names)))
    base = set(everything)
    whole = {r.target for r in found if not (isinstance(r, Formula) and min(r.constants[1:]) < 0)}
    for place in sorted(
        everything - set(kept), key=lambda i: (i not in whole, -seen.counts[i], -i)
    ):
        smaller = base - {place}
        if len(_restored(smaller, found)) == len(everything) - len(smaller):
            base = smaller
    return _restored(base, found)


def _restored(base: Collection[int], found: Sequence[Determined]) -> list[Determined]:
    """Return the rules that restore columns from those of the base, one for each."""
    known, order = set(base), []
    while True:
        rule = next((r for r in found if r.target not in known and _can(r, known, base)), None)
        if rule is None:
            return order
        known.add(rule.target)
        order.append(rule)


def _can(rule: Determined, known: Collection[int], base: Collection[int]) -> bool:
    together = isinstance(rule, Lookup) and len(rule.sources) > 1
    return set(rule.sources) <= set(base if together else known)


def _pairs(
    chosen: Sequence[Determined], seen: Seen, taken: Collection[int]
) -> tuple[dict[int, list[int]], Determined | None]:
    """Return the parents of columns that keep to their combinations with these.

    If that cannot be done for a rule, it is returned too.
    """
    parents: dict[int, list[int]] = {}
    for rule in chosen:
        pair = _together(rule)
        if pair is None or set(pair) & set(taken) or all_occur(seen, pair):
            if isinstance(rule, Lookup) and pair and set(pair) & set(taken):
                return {}, rule
            continue
        *others, child = sorted(pair, key=lambda i: (seen.counts[i], i))
        if isinstance(rule, Calendar):
            *others, child = pair
        if parents.get(child, others) != others or any(leads(parents, i, child) for i in others):
            return {}, rule
        parents[child] = others
    return parents, None


def _in_order(below: Mapping[int, Collection[int]]) -> list[int]:
    """Return columns that depend on others, each after those that it depends on."""
    order: list[int] = []
    while len(order) < len(below):
        order += [
            i for i in below if i not in order and all(j in order for j in below[i] if j in below)
        ]
    return order


def _together(rule: Determined) -> list[int] | None:
    """Return sources of which only some combinations have a meaning: of a calendar its days."""
    if isinstance(rule, Lookup) and len(rule.sources) > 1:
        return list(rule.sources)
    if isinstance(rule, Calendar):
        place = dict(zip(rule.units, rule.sources))
        return [place[unit] for unit in ("year", "month", "day") if unit in place]
    return None


def _within(seen: Seen, child: int, others: Sequence[int], some: np.ndarray) -> Within:
    column, codes = seen.columns[child], seen.codes[some, child]
    parents, place = np.unique(seen.codes[some][:, list(others)], axis=0, return_inverse=True)
    groups = [place.ravel() == i for i in range(len(parents))]
    places = seen.places.get(child)
    columns = [LevelColumn.measure(codes[group], column, places) for group in groups]
    return Within(
        name=seen.names[child],
        of=[seen.names[i] for i in others],
        target=child,
        sources=list(others),
        parents=parents.tolist(),
        columns=[*columns, LevelColumn.measure(codes, column, places)],
    )


def _complete(rule: Determined, seen: Seen, some: np.ndarray) -> None:
    """Measure the model of a target in the rows where its sources do not determine it."""
    defined = rule.defined(seen.codes)
    left = some & ~defined
    if isinstance(rule, Formula):
        _, up, either = rule.halfway(seen.codes)
        either &= some
        if either.any():
            whole = replace(seen.columns[rule.target], missing="no")
            column, own = _difference(whole, rule.name, steps=True)
            rule.half = measure_model(column, up[either], own, seen.copies[either])
            rule.set_rest(rule.rows, rule.rest)
    if left.any():
        place = rule.target
        codes = (seen.codes[:, place] - rule.base(seen.codes))[left]
        column, own = seen.columns[place], seen.types[place]
        if isinstance(rule, Calendar):
            column, own = _difference(column, column.name, steps=True)
        rest = measure_model(column, codes, own, seen.copies[left], seen.places.get(place))
        rule.set_rest(max(min(rule.rows, int(defined.sum())), 1), rest)


# --- gaps


def _gaps_kept(seen: Seen, below: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
    """Return the columns beside which others are missing, but for those that follow from these.

    Args:
        seen: the training rows.
        below: what rules restore each column from.
    """
    found, empty = gaps_together(seen), np.isnan(seen.codes)
    follow: dict[int, set[int]] = {i: set() for i in found}
    for place, sources in below.items():
        others = [i for i in sources if seen.missing[i]]
        if place in found and others and empty[empty[:, others].any(1), place].all():
            follow[place].update(others)
    kept: dict[int, list[int]] = {}
    order = sorted(
        np.flatnonzero(seen.missing).tolist(), key=lambda i: (empty[:, i].sum(), i in below, i)
    )
    for place in order:
        rests, closest = _rests(below, kept), reversed(order[: order.index(place)])
        for other in closest:
            if other not in found.get(place, ()) or leads(rests, other, place):
                continue
            if other not in follow[place]:
                kept.setdefault(place, []).append(other)
            follow[place] |= {other} | follow.get(other, set())
    return kept


def _absent(seen: Seen, place: int, gaps: Sequence[int], rule: Rule | None) -> Absent:
    some, column = seen.without_gaps(gaps), seen.columns[place]
    codes = seen.codes[some, place]
    alone = (rule is None or isinstance(rule, Near)) and not np.isnan(codes).any()
    column = replace(column, missing="no") if alone else column
    inner = rule or measure_model(
        column, codes, seen.types[place], seen.copies[some], seen.places.get(place)
    )
    return Absent(
        name=seen.names[place],
        target=place,
        gaps=list(gaps),
        beside=[seen.names[i] for i in gaps],
        rows=int(np.count_nonzero(~some)),
        others=int(np.count_nonzero(some)) if alone else 0,
        inner=inner,
    )


# --- orders


def _orders(
    seen: Seen, taken: Collection[int], search: bool, stated: Sequence[Stated]
) -> tuple[dict[int, list[int]], set[int]]:
    """Return which numbers are modelled by the difference from another that is never above them.

    Returns:
        The other of each, and those that are never equal to it.
    """
    below: dict[int, list[int]] = {}
    strict: set[int] = set()
    for rule in stated:
        high, low = rule.pair or (0, 0)
        if high not in taken and high not in below and not leads(below, low, high):
            below[high] = [low]
            strict |= {high} if rule.strict else set()
    if search:
        free = [i for i in seen.numeric if i not in taken]
        for high in free:
            lower = [low for low in free if low != high and _never_above(seen, low, high)]
            lower = [low for low in lower if not leads(below, low, high)]
            if lower and high not in below:
                gaps = [np.nanmean(_gaps(seen, seen.codes, high, low)) for low in lower]
                below[high] = [lower[int(np.argmin(gaps))]]
    return below, strict


def _compare(seen: Seen, high: int, low: int) -> bool:
    """Return whether two columns are numbers, days or times of one kind."""
    a, b = seen.scales[high], seen.scales[low]
    return a is not None and b is not None and a.day == b.day


def _gaps(seen: Seen, rows: np.ndarray, high: int, low: int, strict: bool = False) -> np.ndarray:
    return rows[:, high] - least_codes(rows[:, low], seen.scale(low), seen.scale(high), strict)


def _never_above(seen: Seen, low: int, high: int) -> bool:
    """Return whether that holds in all rows, and would hardly hold by accident."""
    if not _compare(seen, high, low) or _stands_apart(seen, high) or _skips(seen, high):
        return False
    gaps = _gaps(seen, seen.rest, high, low)
    known = ~np.isnan(gaps)
    if known.sum() < FEWEST or gaps[known].min() < 0:
        return False
    if np.nanmin(_gaps(seen, seen.codes, high, low)) < 0:
        return False
    a, b = (seen.numbers(seen.rest[known], i) for i in (low, high))
    above = np.searchsorted(np.sort(b), a, side="left") / len(b)  # share of y below each x
    return float(above.sum()) > SURE


def _stands_apart(seen: Seen, place: int) -> bool:
    model = seen.models[place]
    return isinstance(model, NumberColumn) and len(model.atoms) > 0


def _skips(seen: Seen, place: int) -> bool:
    """Return whether a column has few values, on no grid or on less than half of its steps.

    They are kept to instead: a difference from another column would lead to what lies between.
    """
    codes = seen.codes[~np.isnan(seen.codes[:, place]), place]
    apart = not seen.scale(place).unit or 2 * len(np.unique(codes)) < np.ptp(codes) + 1
    return isinstance(seen.models[place], EnumeratedColumn) and bool(apart)


def _difference(own: Column, name: str, *, steps: bool) -> tuple[Column, pa.DataType]:
    """Return how the differences of a column's codes from others are stored, and their type."""
    import pyarrow as pa

    common: dict[str, Any] = {"name": name, "missing": own.missing}
    if steps:
        return IntegerColumn(**common, offset=0, unit=1), pa.int64()
    return FloatColumn(**common, digits=None), pa.float64()


def _ordered(seen: Seen, high: int, low: int, strict: bool, some: np.ndarray) -> Ordered:
    gaps = _gaps(seen, seen.codes, high, low, strict)
    own, missing = seen.columns[high], seen.columns[low].missing != "no"
    steps = bool(seen.scale(high).unit)
    column, kind = _difference(own, f"{own.name} - {seen.names[low]}", steps=steps)
    known = some & ~np.isnan(seen.codes[:, low])
    rest = None
    if missing:
        left = some & ~known
        left = left if left.any() else some
        rest = measure_model(own, seen.codes[left, high], seen.types[high], seen.copies[left])
    present = seen.codes[~np.isnan(seen.codes[:, high]), high]
    return Ordered(
        name=own.name,
        of=[seen.names[low]],
        target=high,
        sources=[low],
        scales=seen.scales_of(high, low),
        gap=measure_model(column, gaps[known], kind, seen.copies[known]),
        ends=[float(present.min()), float(present.max())],
        strict=strict,
        rest=rest,
    )


# --- lines


def _lines(
    seen: Seen,
    determined: Collection[int],
    below: Mapping[int, Sequence[int]],
    kept: Collection[int],
) -> dict[int, tuple[int, float, float]]:
    """Return the numbers of the base that a determined one tells nearly: by which, c_0 and c_1.

    A line through the rows used to find it explains `EXPLAINED` of the variance in the others.
    """
    found: dict[int, tuple[int, float, float]] = {}
    for place in seen.numeric:
        model = seen.models[place]
        if place in below or place in kept or not isinstance(model, NumberColumn) or model.atoms:
            continue
        best = 1 - EXPLAINED
        for source in determined:
            bound = source not in seen.numeric or seen.missing[source]
            if bound or seen.scale(source).is_clock or leads(below, source, place):
                continue
            first, rest = (
                np.stack([seen.numbers(rows, i) for i in (source, place)])
                for rows in (seen.first, seen.rest)
            )
            first, rest = (one[:, ~np.isnan(one).any(0)] for one in (first, rest))
            if rest.shape[1] < FEWEST or np.ptp(first[0]) == 0 or np.ptp(rest[1]) == 0:
                continue
            factor, constant = np.polyfit(first[0], first[1], 1).tolist()
            left = np.var(rest[1] - constant - factor * rest[0]) / np.var(rest[1])
            if left < best:
                best, found[place] = left, (source, constant, factor)
    return found


def _near(
    seen: Seen, place: int, source: int, constant: float, factor: float, some: np.ndarray
) -> Near:
    own, column = seen.scale(place), seen.columns[place]
    base = own.codes(constant + factor * seen.numbers(seen.codes, source))
    gaps = (seen.codes[:, place] - base)[some]
    column = column if np.isnan(gaps).any() else replace(column, missing="no")
    column, kind = _difference(
        column, f"{column.name} by {seen.names[source]}", steps=bool(own.unit)
    )
    present = seen.codes[~np.isnan(seen.codes[:, place]), place]
    return Near(
        name=seen.names[place],
        of=[seen.names[source]],
        target=place,
        sources=[source],
        scales=seen.scales_of(place, source),
        constants=[constant, factor],
        gap=measure_model(column, gaps, kind, seen.copies[some]),
        ends=[float(present.min()), float(present.max())],
    )

"""Find what columns of a table follow from others in every row.

Candidates are found on two thirds of the training rows, and have to hold in all of the rest, where
they have to be tested: if y were drawn from its own law, independent of X, the rest would keep the
rule by accident with a probability of at most exp(-20). Of a lookup, only rows whose key the first
part has are a test, at most fifty a key, and half of the keys have to be tested. At the end each is
held against every training row.

A lookup has no line for a key with several values: at most a twentieth of the keys, and a hundredth
of the rows, may be so (a table of distances in which one was corrected).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np

from undiffuse.data.tables.modelled import EnumeratedColumn, GivenColumn
from undiffuse.data.tables.rounded import directed, roundings
from undiffuse.data.tables.rules import Calendar, Determined, Formula, Lookup
from undiffuse.data.tables.seen import FEWEST, SURE, Seen
from undiffuse.data.tables.values import DAY_MINUTES, PARTS, Numbering, nice, parts_of

MOST_COLUMNS = 60  # of which pairs are tried
MOST_KEYS = 5_000  # of a lookup
FEWEST_GAPS = 10  # rows with a gap that test what is missing where they have it
_FITTED = 48  # rows that a formula is fitted to
_CLOSE = 1e-6  # error of a formula there, as a share of the range of its target
_SKETCH = 1_500  # rows in which most pairs of columns are refused as keys
ODD_KEYS, ODD_ROWS = 0.05, 0.01  # shares of keys with several values, and of their rows
_MOST_SHIFTS = 40  # of a time zone: two a year


def determinations(seen: Seen) -> list[Determined]:
    """Return what determines columns in all rows, the simplest sorts first."""
    found: list[Determined] = []
    if len(seen.rest) < FEWEST:
        return found
    for sort in (_sums, _roundings, _clocks, _parts, _calendars, _lookups):
        for rule in sort(seen):
            refined = _refined(seen, rule) if seen.tested(rule) else None
            if refined is not None and not refined.broken(seen.codes).any():
                found.append(refined)
    found = directed(found, seen)
    return sorted(found, key=lambda rule: len(rule.values) if isinstance(rule, Lookup) else 0)


def _refined(seen: Seen, rule: Determined) -> Determined | None:
    """Return a rule with what only all training rows tell, after some of them have tested it."""
    if isinstance(rule, Lookup):
        return next(_lookup(seen, seen.codes, rule.target, rule.sources, rule.parts[0]))
    if isinstance(rule, Calendar):
        same = {"units": rule.units, "scales": rule.scales, "year": rule.year}
        ticks = seen.scale(rule.target).ticks(seen.codes[:, rule.target])
        common = seen.common(rule.target, rule.sources)
        return _zoned({**common, **same}, seen.codes, ticks, sure=True)
    return rule


def gaps_together(seen: Seen) -> dict[int, list[int]]:
    """Return, for columns that are missing where others are, the places of those others.

    That holds in all rows, and would hold by accident in those that were not used to find it with a
    probability of at most exp(-20), if gaps were independent.
    """
    places = [
        i
        for i, model in enumerate(seen.models)
        if seen.missing[i] and seen.counts[i] and not isinstance(model, GivenColumn)
    ]
    first, rest, every = (np.isnan(rows[:, places]) for rows in (seen.first, seen.rest, seen.codes))
    tests, surprise = rest.sum(0), -np.log(np.maximum(rest.mean(0), 1e-300))
    holds = (every.T.astype(float) @ ~every == 0) & (
        first.sum(0)[:, None] > 0
    )  # a gap here, one there
    holds &= (tests[:, None] >= FEWEST_GAPS) & (tests[:, None] * surprise > SURE)
    np.fill_diagonal(holds, False)
    found = {b: [places[i] for i in np.flatnonzero(column)] for b, column in zip(places, holds.T)}
    return {b: others for b, others in found.items() if others}


# --- formulas


def _sums(seen: Seen) -> Iterator[Formula]:
    """Yield y = c_0 + c_1 u, and then y = c_0 + c_1 u + c_2 v + c_12 u v."""
    sources = seen.numeric
    images: set[int] = set()
    for u in sources:
        for formula in _fitted(seen, [u], sources):
            if formula.target > u:
                images.add(formula.target)
            yield formula
    sources = [i for i in sources if i not in images]
    if len(sources) <= MOST_COLUMNS:
        for pair in combinations(sources, 2):
            yield from _fitted(seen, pair, sources)


def _roundings(seen: Seen) -> Iterator[Formula]:
    return roundings(seen, MOST_COLUMNS)


def _fitted(seen: Seen, sources: Sequence[int], targets: Sequence[int]) -> Iterator[Formula]:
    """Yield a formula for each target that these sources fit up to rounding."""
    known = np.flatnonzero(~np.isnan(seen.first[:, sources]).any(1))[:_FITTED]
    rows = seen.first[known]
    targets = [i for i in targets if i not in sources and not np.isnan(rows[:, i]).any()]
    if len(rows) < _FITTED or not targets:
        return
    x = [seen.numbers(rows, i) for i in sources]
    middle, spread = [one.mean() for one in x], [np.ptp(one) for one in x]
    if min(spread) == 0:
        return
    unit = [(one - m) / s for one, m, s in zip(x, middle, spread)]
    design = np.stack([np.ones(len(rows)), *unit, *([unit[0] * unit[1]] if x[1:] else [])], 1)
    y = np.stack([seen.numbers(rows, i) for i in targets], 1)
    solution, _, rank, _ = np.linalg.lstsq(design, y - y.mean(0), rcond=1e-9)
    error = np.abs(design @ solution + y.mean(0) - y).max(0)
    if rank < design.shape[1]:
        return
    for t in np.flatnonzero((error <= _CLOSE * np.ptp(y, 0)) & (np.ptp(y, 0) > 0)).tolist():
        factors = np.where(
            np.abs(solution[1:, t]) < 10 * _CLOSE * np.ptp(y[:, t]), 0, solution[1:, t]
        )
        constants = _constants(factors, middle, spread, x, y[:, t])
        if all(constants[1:3]) or any(constants[3:]):
            yield Formula(
                **seen.common(targets[t], sources),
                parts=[""] * len(x),
                scales=seen.scales_of(targets[t], *sources),
                constants=constants,
            )


def _constants(
    factors: np.ndarray,
    middle: Sequence[float],
    spread: Sequence[float],
    x: Sequence[np.ndarray],
    y: np.ndarray,
) -> list[float]:
    """Return c_0, c_1, c_2, c_12 from the factors of standardized sources."""
    slopes = [factor / s for factor, s in zip(factors, spread)]
    if len(x) > 1:
        product = factors[2] / (spread[0] * spread[1])
        slopes = [slopes[0] - product * middle[1], slopes[1] - product * middle[0]]
        small = 10 * _CLOSE * np.ptp(y)
        slopes = [0.0 if abs(c) * s < small else c for c, s in zip(slopes, spread)]
        slopes.append(product)
    slopes = [nice(slope) for slope in slopes]
    terms = [*x, *([x[0] * x[1]] if x[1:] else [])]
    without = y - np.sum([c * term for c, term in zip(slopes, terms)], axis=0)
    return [nice(float(np.median(without))), *slopes]


def _clocks(seen: Seen) -> Iterator[Formula]:
    """Yield times of day that are others and some minutes, and minutes between two of them."""
    whole = [i for i in seen.numeric if seen.scale(i).unit and seen.scale(i).denominator == 1]
    clocks = [i for i in whole if seen.scale(i).is_clock]
    spans = [i for i in whole if not seen.scale(i).day]
    later = [(y, a, b, s) for y, a in permutations(clocks, 2) for b in spans for s in (1, -1)]
    between = [(y, a, b, -1) for a, b in permutations(clocks, 2) for y in spans]
    for y, a, b, sign in later + between:
        numbers = [seen.numbers(seen.first, i) for i in (y, a, b)]
        apart = np.mod(numbers[0] - numbers[1] - sign * numbers[2], DAY_MINUTES)
        apart = apart[~np.isnan(apart)]
        own = seen.numbers(seen.codes, y)
        low = np.nanmin(own)
        if len(apart) < FEWEST or np.ptp(apart) or np.nanmax(own) - low >= DAY_MINUTES:
            continue
        yield Formula(
            **seen.common(y, (a, b)),
            parts=["", ""],
            scales=seen.scales_of(y, a, b),
            constants=[float(apart[0]), 1.0, float(sign), 0.0],
            cycle=[float(low), float(DAY_MINUTES)],
        )


def _parts(seen: Seen) -> Iterator[Determined]:
    """Yield parts of a day, a time or a whole number, and what is looked up by such a part."""
    for x in seen.numeric:
        scale, known = seen.scale(x), ~np.isnan(seen.first[:, x])
        rows = seen.first[known]
        for part in parts_of(scale):
            values = scale.part(rows[:, x], part)
            if np.ptp(values) == 0 or np.array_equal(values, scale.numbers(rows[:, x])):
                continue
            for y in seen.varied:
                if y == x:
                    continue
                shared = {**seen.common(y, [x]), "parts": [part]}
                own = seen.scales[y]
                apart = (
                    own.numbers(rows[:, y]) - values if own and not own.day else np.array([0, 1])
                )
                if np.ptp(apart) == 0:
                    scales = seen.scales_of(y, x)
                    yield Formula(**shared, scales=scales, constants=[nice(apart[0]), 1.0])
                elif part in PARTS and _depend(values, rows[:, [y]])[0]:
                    yield from _lookup(seen, seen.first, y, [x], part)


def _calendars(seen: Seen) -> Iterator[Calendar]:
    """Yield times that their parts, in the time of some zone, determine.

    Of a day without a time it is the other way round: the day is modelled, its parts follow.
    """
    rows = seen.first
    whole = [i for i in seen.numeric if seen.scale(i).unit and not seen.missing[i]]
    for y in whole:
        own = seen.scale(y)
        if own.day <= 1 or own.is_clock:
            continue
        held = {}
        for unit in ("year", "month", "day", "hour", "minute", "second"):
            values = own.part(rows[:, y], unit)
            shares = {i: np.mean(seen.numbers(rows, i) == values) for i in whole if i != y}
            best = max(shares, key=lambda i: shares[i], default=-1)
            if best >= 0 and np.ptp(values) and shares[best] > (0.5 if unit != "hour" else 0.99):
                held[unit] = best
        hours = [i for i in whole if _is_hour(seen.numbers(rows, i)) and i not in held.values()]
        years = np.unique(own.part(rows[:, y], "year"), return_counts=True)
        year = int(years[0][years[1].argmax()])
        if "year" not in held and years[1].max() < 0.99 * len(rows):
            continue
        if not {"month", "day"} <= set(held):
            continue
        for hour in [held["hour"]] if "hour" in held else hours:
            calendar = _shifted(seen, y, {**held, "hour": hour}, year)
            if calendar is not None:
                yield calendar


def _is_hour(numbers: np.ndarray) -> bool:
    return bool(numbers.min() >= 0 and numbers.max() <= 23 and len(np.unique(numbers)) > 2)


def _shifted(seen: Seen, y: int, held: dict[str, int], year: int) -> Calendar | None:
    """Return a calendar with the shifts of a time zone, if there are few."""
    own, sources = seen.scale(y), list(held.values())
    arguments: dict[str, Any] = {
        **seen.common(y, sources),
        "units": list(held),
        "scales": seen.scales_of(y, *sources),
        "year": year,
    }
    return _zoned(arguments, seen.first, own.ticks(seen.first[:, y]), sure=False)


def _zoned(
    arguments: Mapping[str, Any], rows: np.ndarray, ticks: np.ndarray, *, sure: bool
) -> Calendar | None:
    """Return a calendar with the shifts that some rows have, None for many.

    The shift is a function of the target's own time. Between the last row before a change and the
    first after it, it is not known when that was, or two of them come with one time of the sources.

    Args:
        arguments: those of a calendar without shifts.
        rows: (N, columns).
        ticks: the target's times, (N,).
        sure: whether no other rows decide; else all of what is not known is left undefined.
    """
    order = np.argsort(ticks, kind="stable")
    ticks, naive = ticks[order], Calendar(**arguments).naive(rows)[order]
    shift = ticks - naive
    new = np.flatnonzero(np.diff(shift)) + 1
    if len(new) >= _MOST_SHIFTS or len(naive) < 20 * (len(new) + 1):
        return None
    twice = []
    for i in new.tolist():
        if not sure:
            most, least = (int(end(shift[[i - 1, i]])) for end in (np.max, np.min))
            twice.append([int(ticks[i - 1]) - most, int(ticks[i]) - least])
        elif naive[i] <= naive[i - 1]:
            twice.append([int(naive[i]), int(naive[i - 1])])
    hour = max(Numbering(*arguments["scales"][0]).day // 24, 1)
    starts = _changes(naive[new - 1], naive[new], np.diff(shift)[new - 1] > 0, hour)
    shifts = shift[[0, *new.tolist()]].tolist()
    return Calendar(**{**arguments, "starts": starts, "shifts": shifts, "twice": twice})


def _changes(before: np.ndarray, after: np.ndarray, up: np.ndarray, hour: int) -> list[int]:
    """Return when a zone changed, after times (C,) and not after others (C,).

    That is at the whole hour at which most of its changes up, or down, can have been; in the
    middle, where there is no whole hour.
    """
    hours = [range(a // hour + 1, b // hour + 1) for a, b in zip(before.tolist(), after.tolist())]
    often = Counter((way, h % 24) for way, some in zip(up.tolist(), hours) for h in some[-24:])
    return [
        max(some[-24:], key=lambda h: (often[way, h % 24], h)) * hour
        if some
        else min(b, (a + b + 1) // 2)
        for way, some, a, b in zip(up.tolist(), hours, before.tolist(), after.tolist())
    ]


# --- lookups


def _lookups(seen: Seen) -> Iterator[Lookup]:
    """Yield columns that one or two others with repeated values determine."""
    keys = [i for i in seen.varied if not seen.missing[i] and seen.counts[i] <= MOST_KEYS]
    keys = [i for i in keys if 2 * seen.counts[i] <= len(seen.first)]
    alone: dict[int, set[int]] = {}
    for x in keys:
        targets = [i for i in seen.varied if i != x]
        bound = _depend(seen.first[:, x], seen.first[:, targets])
        alone[x] = {target for target, one in zip(targets, bound) if one}
        for y in sorted(alone[x]):
            yield from _lookup(seen, seen.first, y, [x])
    levels = [i for i in keys if isinstance(seen.models[i], EnumeratedColumn)]
    if len(levels) > MOST_COLUMNS:
        return
    for pair in combinations(levels, 2):
        a, b = pair
        if a in alone[b] or b in alone[a]:
            continue
        targets = [i for i in seen.varied if i not in pair and i not in alone[a] | alone[b]]
        for rows in (seen.first[:_SKETCH], seen.first):
            key = rows[:, a] * (np.nanmax(np.abs(seen.first[:, b])) + 1) + rows[:, b]
            bound = _depend(key, rows[:, targets])
            targets = [target for target, one in zip(targets, bound) if one]
        if targets and 2 * len(np.unique(key)) <= len(key):
            for y in targets:
                yield from _lookup(seen, seen.first, y, pair)


def _depend(key: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return which columns of (N, T) are the same in nearly all rows of one key (N,)."""
    order = np.argsort(key, kind="stable")
    key, values = key[order], np.nan_to_num(targets[order], nan=-1.5e300)
    same = key[1:] == key[:-1]
    odd = ((values[1:] != values[:-1]) & same[:, None]).sum(0)
    return odd <= ODD_ROWS * len(key)


def _lookup(
    seen: Seen, rows: np.ndarray, target: int, sources: Sequence[int], part: str = ""
) -> Iterator[Lookup]:
    """Yield the lookup with a line for each key of some rows that has one value in all rows."""
    parts = [part, *[""] * (len(sources) - 1)]
    scales = seen.scales_of(*sources)

    def keys_of(rows: np.ndarray) -> np.ndarray:
        keys = [
            Numbering(*scale).part(rows[:, source], part) if part else rows[:, source]
            for scale, source, part in zip(scales, sources, parts)
        ]
        return np.stack(keys, 1)

    known = seen.codes[~np.isnan(seen.codes[:, sources]).any(1)]
    keys, line, counts = np.unique(keys_of(known), axis=0, return_inverse=True, return_counts=True)
    line = line.ravel()
    values = np.full(len(keys), -1.0)
    values[line] = known[:, target]
    differs = ~((known[:, target] == values[line]) | np.isnan(known[:, target] + values[line]))
    differs |= np.isnan(known[:, target]) != np.isnan(values[line])
    odd = np.bincount(line, weights=differs) > 0
    few = odd.sum() <= ODD_KEYS * len(keys) and counts[odd].sum() <= ODD_ROWS * len(known)
    if not few or len(keys) > MOST_KEYS:
        return
    per = 1 + int(odd.sum())  # of so many keys one has a second value, as far as the rows tell
    if rows is not seen.codes:
        some = np.unique(keys_of(rows[~np.isnan(rows[:, sources]).any(1)]), axis=0)
        some_of = {tuple(one) for one in some.tolist()}
        odd |= ~np.array([tuple(one) in some_of for one in keys.tolist()], bool)
    if odd.all():
        return
    held = [None if np.isnan(value) else value for value in values[~odd].tolist()]
    yield Lookup(
        **{**seen.common(target, sources), "rows": max(len(known) // per, 1)},
        parts=parts,
        scales=scales,
        keys=keys[~odd].T.tolist(),
        values=held,
    )

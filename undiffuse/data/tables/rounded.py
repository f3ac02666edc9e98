"""Find columns of a table that are formulas of others, rounded: a price with its tax, a discount.

    y = round(c_0 + c_1 u + c_2 v + c_12 u v),   round(c u),   round(c u/v)

The constants are fitted to two thirds of the rows by least squares, and written with as few
decimals as keep every one of these rows within half a step of y. Sums of few terms come first, as
what one column tells needs no second one.

Such a formula can often be turned round: the price is a rounded multiple of the price with its tax,
too. Of formulas that tie the same columns the one is kept that any values of its sources obey: a
step of each source makes more than one step of y, or more than in the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

import numpy as np

from undiffuse.data.tables.rules import HALFWAY, Determined, Formula
from undiffuse.data.tables.seen import Seen
from undiffuse.data.tables.values import INVERSE, Numbering, nice

FINE = 20  # steps that the numbers of a rounded column lie in, at least
HALVES = 0.75  # share of rows that may be halfway between two steps; half of them are in y = x/2
_FITTED = 64  # rows that a formula is fitted to at first
_NEAR = 1.5  # half steps, by which that may miss: both rounding and the fit are at fault
_PLACES = 9  # decimals of a constant, at most

# which of 1, u, v, u v a formula has
_ONE = ((1,), (0, 1))
_TWO = ((3,), (1, 2), (1, 3), (2, 3), (0, 3), (0, 1, 2), (1, 2, 3), (0, 1, 3), (0, 2, 3))
_RATIO = ((3,), (0, 3))


def roundings(seen: Seen, most: int) -> Iterator[Formula]:
    """Yield rounded formulas of one column, and of two if there are at most so many."""
    steps = {i: _step(seen.scale(i)) for i in seen.numeric if not seen.scale(i).day}
    targets = [i for i in steps if steps[i] and _ptp(seen, i) >= FINE * steps[i]]
    told: set[tuple[int, int]] = set()
    for u in steps:
        for formula in _fitted(seen, [u], ["", ""], targets, _ONE):
            told |= {(formula.target, u), (u, formula.target)}
            yield formula
    if len(steps) > most:
        return
    for sorts, pairs in (
        ((["", ""], _TWO), combinations(steps, 2)),
        ((["", INVERSE], _RATIO), permutations(steps, 2)),
    ):
        for u, v in pairs:
            left = [y for y in targets if (u, v) not in told and not {(y, u), (y, v)} & told]
            yield from _fitted(seen, [u, v], sorts[0], left, sorts[1])


def directed(found: Sequence[Determined], seen: Seen) -> list[Determined]:
    """Return the rules less rounded formulas that others, which tie the same columns, replace."""
    formulas = [rule for rule in found if isinstance(rule, Formula)]
    best: dict[frozenset[int], Formula] = {}
    for rule in formulas:
        tied = frozenset({rule.target, *rule.sources})
        kept = best.setdefault(tied, rule)
        if kept.rounded and (not rule.rounded or _gain(rule, seen) > _gain(kept, seen)):
            best[tied] = rule
    return [
        rule
        for rule in found
        if not (isinstance(rule, Formula) and rule.rounded)
        or best[frozenset({rule.target, *rule.sources})] is rule
    ]


def _gain(rule: Formula, seen: Seen) -> float:
    """Return how many steps of the target a step of a source makes, in the middle, at the least."""
    rows = seen.first[~np.isnan(seen.first[:, list(rule.sources)]).any(1)]
    gains, value = [], rule.value(rows)
    for source in rule.sources:
        scale, moved = seen.scale(source), rows.copy()
        moved[:, source] += scale.step or 1e-9 * np.ptp(rows[:, source])
        gains.append(np.nanmedian(np.abs(rule.value(moved) - value)))
    return float(min(gains)) / _step(seen.scale(rule.target))


def _step(scale: Numbering) -> float:
    """Return the step of a column's numbers, 0 for any numbers."""
    return (scale.unit or 1) / scale.denominator if scale.denominator else 0.0


def _ptp(seen: Seen, place: int) -> float:
    numbers = seen.numbers(seen.first, place)
    numbers = numbers[~np.isnan(numbers)]
    return float(np.ptp(numbers)) if len(numbers) else 0.0


def _fitted(
    seen: Seen,
    sources: Sequence[int],
    parts: Sequence[str],
    targets: Sequence[int],
    sums: Sequence[tuple[int, ...]],
) -> Iterator[Formula]:
    """Yield a formula for each target that some sum of terms fits up to rounding."""
    parts, targets = parts[: len(sources)], [i for i in targets if i not in sources]
    x = [seen.scale(i).part(seen.first[:, i], part) for i, part in zip(sources, parts)]
    known = np.flatnonzero(np.isfinite(np.sum(x, 0)))
    if len(known) < _FITTED or not targets:
        return
    terms = np.stack([np.ones_like(x[0]), *x, *([x[0] * x[1]] if x[1:] else [])], 1)
    whole = sorted({term for one in sums for term in one})
    some = known[:: len(known) // _FITTED][:_FITTED]
    near = _near(seen, terms[some][:, whole], some, targets)
    for y in near:
        rows = known[~np.isnan(seen.first[known, y])]
        numbers = seen.numbers(seen.first[rows], y)
        for one in sums:
            constants = _constants(terms[rows], one, numbers, _step(seen.scale(y)))
            if constants is not None:
                yield Formula(
                    **seen.common(y, sources),
                    parts=list(parts),
                    scales=seen.scales_of(y, *sources),
                    constants=constants,
                    rounded=True,
                )
                break


def _near(
    seen: Seen, design: np.ndarray, rows: np.ndarray, targets: Sequence[int]
) -> Iterator[int]:
    """Yield the targets that a design (n, terms) of some rows (n,) tells nearly to half a step."""
    size = np.abs(design).max(0)
    if not size.all():
        return
    y = np.stack([seen.numbers(seen.first[rows], i) for i in targets], 1)
    steps = np.array([_step(seen.scale(i)) for i in targets])
    gaps = np.isnan(y)
    y = np.where(gaps, 0.0, y)
    solution, _, _, _ = np.linalg.lstsq(design / size, y, rcond=None)
    error = np.abs(np.where(gaps, 0.0, design / size @ solution - y)).max(0)
    for t in np.flatnonzero((error <= _NEAR * steps / 2) & ~gaps.any(0)):
        yield targets[int(t)]


def _constants(
    terms: np.ndarray, used: tuple[int, ...], y: np.ndarray, step: float
) -> list[float] | None:
    """Return the constants of the used terms (n, 1 to 4), 0 for the others; None: no sum fits."""
    design = terms[:, list(used)]
    size = np.abs(design).max(0)
    solution, _, rank, _ = np.linalg.lstsq(design / size, y, rcond=1e-9)
    fitted = solution / size
    if rank < len(used) or np.abs(design @ fitted - y).max() > _NEAR * step / 2:
        return None
    few = [np.round(fitted, places) for places in range(_PLACES + 1)]
    for written in (*few[:4], np.array([nice(one) for one in fitted]), *few[4:]):
        error = np.abs(design @ written - y) / step
        if not written.all() or error.max() > 0.5 + HALFWAY:
            continue
        if np.mean(error > 0.5 - HALFWAY) <= HALVES:
            constants = np.zeros(terms.shape[1])
            constants[list(used)] = written
            return constants.tolist()
    return None

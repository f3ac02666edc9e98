"""Find which categories occur together: which airline flies which route.

A child keeps to the combinations with its parents (`rules.Within`) if nearly all rows that were not
used to find them have one of them, and many would not if the child did not depend on a parent.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from undiffuse.data.tables.seen import FEWEST, SURE, Seen

COVERED = 0.98  # the least share of those rows that has a combination which was found
CONFINED = 0.8  # the largest that would have one by chance
MOST_COLUMNS = 12  # of categories
MOST_PARENTS = 2
_MOST_CELLS = 2_000_000  # combinations that are looked at


def combine(
    seen: Seen, free: Collection[int], pairs: Mapping[int, Sequence[int]]
) -> dict[int, list[int]]:
    """Return the parents of columns that keep to combinations, those in `pairs` among them.

    Args:
        seen: the training rows.
        free: the columns that no rule determines.
        pairs: combinations that other rules need, the parents of each child.
    """
    parents = {child: [*others] for child, others in pairs.items()}
    names = [
        i for i in free if not (seen.columns[i].ordered or seen.missing[i]) and seen.counts[i] > 2
    ]
    if len(names) > MOST_COLUMNS:
        names = []
    for child in sorted(names, key=lambda i: (i not in pairs, -seen.counts[i], i)):
        while len(own := parents.get(child, [])) < MOST_PARENTS:
            others = [i for i in names if i not in own and seen.counts[i] <= seen.counts[child]]
            others = [i for i in others if not leads(parents, i, child)]
            chances = {i: chance for i in others if (chance := _chance(seen, child, own, i))}
            if not chances:
                break
            parents[child] = [*own, min(chances, key=lambda i: (chances[i], i))]
    for others in [*parents.values()]:  # of these too, only some occur together
        first, *more = sorted(others, key=lambda i: (seen.counts[i], i))
        for second in more:
            bound = second in parents or second not in free or leads(parents, first, second)
            if not bound and not all_occur(seen, [first, second]):
                parents[second] = [first]
    return parents


def _chance(seen: Seen, child: int, parents: Sequence[int], other: int) -> float | None:
    """Return the share of rows that would keep to combinations by chance; None: it is too large.

    That is, if the child did not depend on `other`, given its other parents.
    """
    n, rows = len(seen.first), np.concatenate([seen.first, seen.rest])
    parent, whole, code = (
        np.unique(rows[:, places], axis=0, return_inverse=True)[1].ravel()
        for places in ([*parents], [*parents, other], [child])
    )
    shape = (whole.max() + 1, code.max() + 1)
    if len(rows) - n < FEWEST or shape[0] * shape[1] > _MOST_CELLS:
        return None
    occurs, counts = np.zeros(shape, dtype=bool), np.zeros((parent.max() + 1, shape[1]))
    occurs[whole[:n], code[:n]] = True
    np.add.at(counts, (parent[:n], code[:n]), 1)
    counts /= np.maximum(counts.sum(1, keepdims=True), 1)
    of = np.zeros(shape[0], dtype=int)
    of[whole] = parent
    chance = float((counts[of] * occurs).sum(1)[whole[n:]].mean())
    kept = float(occurs[whole[n:], code[n:]].mean())
    if kept < COVERED or not 0 < chance <= CONFINED:
        return None
    nats = kept * np.log(kept / chance) + (1 - kept) * np.log(max(1 - kept, 1e-9) / (1 - chance))
    return chance if nats * (len(rows) - n) > SURE else None


def all_occur(seen: Seen, places: Sequence[int]) -> bool:
    """Return whether all combinations of the values of some columns occur."""
    combinations = len(np.unique(seen.codes[:, list(places)], axis=0))
    return combinations == math.prod(len(np.unique(seen.codes[:, i])) for i in places)


def leads(below: Mapping[int, Collection[int]], start: int, end: int) -> bool:
    """Return whether `start` is `end`, or rests on it."""
    return start == end or any(leads(below, i, end) for i in below.get(start, ()))

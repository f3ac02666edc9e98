"""Where levels without an order stand: as points (see `unordered`), and in a line.

At most `MOST_CORNERS` levels are the corners of a regular simplex. More of them have points in
`DIMENSIONS` dimensions: near each other if they go together with the same values of the other
columns, and never nearer than two `APART`. That is correspondence analysis: the principal
components of the means, over the rows of each level, of what the other columns hold (normal scores
of numbers, standardized indicators of categories). Points that are too near then push each other
apart. In a line, levels stand by the first component.

Levels are counted by falling frequency, and by the row in which each comes first, so that points do
not depend on how categories are called.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from torch.special import ndtri

from undiffuse.data.tables.columns import Column
from undiffuse.data.tables.unordered import APART

MOST_CORNERS = 16
DIMENSIONS = 8
MOST_INDICATORS = 50  # of one column
MOST_ROWS = 20_000  # in which it is seen what goes together
SHRUNK = 5.0  # rows of the mean of all that are added to those of a level
_ROUNDS = 40  # in which points push each other apart
_FORCE = 0.25
_FARTHEST = 0.15  # that a point moves in one, as a share of the least distance
_PULL = 0.05  # towards the middle, in the first of them


@final
class Places(NamedTuple):
    """The points of the levels of one column.

    Args:
        codes: of the levels, NaN for missing, (K,), by falling frequency.
        points: theirs, (K, D).
        line: the first principal component of what goes together with each, (K,).
    """

    codes: np.ndarray
    points: np.ndarray
    line: np.ndarray

    def order(self, codes: np.ndarray) -> np.ndarray:
        """Return the order of some of the levels along the line."""
        place = {str(code): i for i, code in enumerate(self.codes.tolist())}
        own = self.line[[place[str(code)] for code in codes.tolist()]]
        return np.argsort(own, kind="stable")

    def of(self, codes: np.ndarray) -> list[list[float]]:
        """Return the points of some of the levels."""
        place = {str(code): i for i, code in enumerate(self.codes.tolist())}
        return self.points[[place[str(code)] for code in codes.tolist()]].tolist()


def by_frequency(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different codes (K,), NaN among them, and how many rows have each.

    The most frequent is first; of equally frequent ones that which comes first.
    """
    values, first, counts = np.unique(codes, return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))
    return values[order], counts[order]


def corners(count: int) -> np.ndarray:
    """Return the corners (K, K - 1) of a regular simplex, two `APART` from each other."""
    centred = np.eye(count)[:, 1:] - 1 / count
    return math.sqrt(2) * APART * np.linalg.qr(centred)[0]


def place_levels(columns: Sequence[Column], rows: np.ndarray) -> dict[int, Places]:
    """Return the points of all columns of categories without an order.

    Args:
        columns: how each is stored.
        rows: (N, columns), codes of the training rows.
    """
    some = rows[np.random.default_rng(0).permutation(len(rows))[:MOST_ROWS]]
    placed = {}
    for i, column in enumerate(columns):
        if column.ordered:
            continue
        codes, _ = by_frequency(rows[:, i])
        components = _components(*_profiles(columns, some, i, codes))
        many = len(codes) > MOST_CORNERS
        points = _apart(components) if many else corners(len(codes))
        placed[i] = Places(codes, points, components[:, 0])
    return placed


def place_alone(codes: np.ndarray) -> Places:
    """Return the points of levels (K,), the most frequent first, of which nothing else is known."""
    if len(codes) <= MOST_CORNERS:
        return Places(codes, corners(len(codes)), np.arange(len(codes)))
    fixed = np.random.default_rng(0).normal(size=(len(codes), DIMENSIONS))
    return Places(codes, _apart(fixed), np.arange(len(codes)))


def _levels(codes: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the place (N,) of each code among some levels; as many as there are for none."""
    order = np.argsort(levels)
    place = np.searchsorted(levels[order], codes).clip(max=len(levels) - 1)
    found = order[place]
    same = (levels[found] == codes) | (np.isnan(levels[found]) & np.isnan(codes))
    return np.where(same, found, len(levels))


def _profiles(
    columns: Sequence[Column], rows: np.ndarray, own: int, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what goes together with each level, (K, features), and its number of rows (K,)."""
    level = _levels(rows[:, own], codes)
    counts = np.bincount(level, minlength=len(codes)).astype(float)
    sums = []
    for i, column in enumerate(columns):
        if i == own:
            continue
        if column.ordered:
            sums += [np.bincount(level, one, len(codes)) for one in _scores(rows[:, i])]
            continue
        others, often = by_frequency(rows[:, i])
        others, share = others[:MOST_INDICATORS], often[:MOST_INDICATORS] / len(rows)
        pairs = level * (len(others) + 1) + _levels(rows[:, i], others)
        table = np.bincount(pairs, minlength=len(codes) * (len(others) + 1))
        table = table.reshape(len(codes), -1)[:, :-1] - counts[:, None] * share
        sums += [*(table / np.sqrt(share)).T]
    together = np.stack(sums, 1) if sums else np.zeros((len(codes), 1))
    return together / (counts + SHRUNK)[:, None], counts


def _scores(codes: np.ndarray) -> list[np.ndarray]:
    """Return normal scores (N,) of numbers, their squares, and where there are gaps."""
    empty = np.isnan(codes)
    _, place, counts = np.unique(codes[~empty], return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - counts / 2) / max(counts.sum(), 1)
    score = np.zeros(len(codes))
    score[~empty] = ndtri(torch.from_numpy(ranks)).numpy()[place]
    square = score**2 - np.mean(score**2)
    share = empty.mean()
    gaps = [] if share in (0, 1) else [(empty - share) / math.sqrt(share * (1 - share))]
    return [score, square / math.sqrt(2), *gaps]


def _components(means: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return principal components (K, D) of the means of levels, each less by its square root."""
    centred = means - np.average(means, axis=0, weights=weights + 1e-9)
    weighted = centred * np.sqrt(weights / weights.sum())[:, None]
    _, size, axes = np.linalg.svd(weighted, full_matrices=False)
    axes = axes[size > 1e-6 * max(size[0], 1e-300)][:DIMENSIONS]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    own = centred @ axes.T / np.sqrt(size[: len(axes)])
    points = np.random.default_rng(0).normal(0, 1e-2, (len(means), DIMENSIONS))
    points[:, : len(axes)] += own
    return points


def _apart(points: np.ndarray) -> np.ndarray:
    """Return points (K, D) that have pushed each other apart, the nearest two by two `APART`.

    They are drawn together meanwhile, less and less, so that they come to lie close.
    """
    least = 2 * APART
    count, width = points.shape
    points = points / np.sqrt(np.square(points).sum(1)).mean()
    radius = APART * count ** (1 / width)
    points = points * radius / (1 + np.sqrt(np.square(points).sum(1, keepdims=True)))
    for pull in np.linspace(_PULL, 0, _ROUNDS):
        points = points * (1 - pull)
        distance = np.sqrt(_squares(points))
        push = np.clip(1.02 * least / distance - 1, 0, 3)
        move = points * push.sum(1)[:, None] - push @ points
        far = np.sqrt(np.square(move).sum(1, keepdims=True))
        points = points + move * np.minimum(_FORCE, _FARTHEST * least / np.maximum(far, 1e-9))
    return points * max(1.0, least / math.sqrt(_squares(points).min()))


def _squares(points: np.ndarray) -> np.ndarray:
    """Return the squared distances (K, K) of points, infinite of each from itself."""
    norm = np.square(points).sum(1)
    square = np.maximum(norm[:, None] + norm - 2 * points @ points.T, 1e-9)
    np.fill_diagonal(square, math.inf)
    return square

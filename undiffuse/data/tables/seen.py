"""The training rows of a table, as rules between its columns are sought in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import numpy as np

from undiffuse.data.tables.columns import Column, FloatColumn
from undiffuse.data.tables.modelled import GivenColumn, ModelledColumn, copies_of
from undiffuse.data.tables.placing import Places
from undiffuse.data.tables.rules import Determined, Lookup
from undiffuse.data.tables.values import Numbering

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 20_000  # that candidates are sought in
SURE = 20.0  # nats: how unlikely a rule that is kept would be by accident
FEWEST = 50  # rows that test a rule
PER_KEY = 50  # tests that one key of a lookup counts as, at most


@final
class Seen:
    """The training rows, as rules are sought in them.

    Args:
        columns: how each column is stored.
        types: their Arrow types.
        models: how each is modelled alone.
        codes: (N, columns), the training rows.
        places: the points of columns of categories without an order.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        types: Sequence[pa.DataType],
        models: list[ModelledColumn],
        codes: np.ndarray,
        places: Mapping[int, Places],
    ) -> None:
        self.columns, self.types, self.models, self.codes = columns, types, models, codes
        self.places = places
        self.names = [column.name for column in columns]
        self.scales = [Numbering.of(column, own) for column, own in zip(columns, types)]
        rng = np.random.default_rng(0)
        some = codes[rng.permutation(len(codes))[:MOST_ROWS]]
        if any(isinstance(column, FloatColumn) for column in columns):
            some = some[~copies_of(some)]  # no number comes twice by chance
        self.first, self.rest = np.split(some, [2 * len(some) // 3])
        self.missing = np.isnan(codes).sum(0) > 0
        self.counts = [len(np.unique(one[~np.isnan(one)])) for one in some.T]
        self.varied = [  # what conditions are, no rule binds
            i
            for i, count in enumerate(self.counts)
            if count > 1 and not isinstance(models[i], GivenColumn)
        ]
        self.numeric = [i for i in self.varied if self.scales[i] is not None]

    @cached_property
    def copies(self) -> np.ndarray:
        """Which training rows are copies of others, (N,)."""
        return copies_of(self.codes)

    def without_gaps(self, places: Sequence[int]) -> np.ndarray:
        """Return in which training rows (N,) none of these columns is missing."""
        return np.logical_not(np.isnan(self.codes[:, list(places)]).any(1))

    @cached_property
    def accident(self) -> list[float]:
        """For each column, -log of the chance that two rows hold the same value."""
        shares = [np.unique(one, return_counts=True)[1] / len(one) for one in self.rest.T]
        return [float(-np.log(min(np.square(share).sum(), 1.0))) for share in shares]

    def scale(self, place: int) -> Numbering:
        """Return that of a column of numbers."""
        scale = self.scales[place]
        assert scale is not None
        return scale

    def numbers(self, rows: np.ndarray, place: int) -> np.ndarray:
        """Return the numbers of a column (B,) in rows (B, columns)."""
        return self.scale(place).numbers(rows[:, place])

    def common(self, target: int, sources: Sequence[int]) -> dict[str, Any]:
        """Return the arguments that every rule has."""
        of = [self.names[i] for i in sources]
        common = {"name": self.names[target], "of": of, "target": target}
        return {**common, "sources": list(sources), "rows": len(self.codes)}

    def scales_of(self, *places: int) -> list[list[int]]:
        """Return the scales of columns as plain data; empty for a category."""
        return [[*map(int, self.scales[i] or ())] for i in places]

    def tested(self, rule: Determined) -> bool:
        """Return whether the rows not used to find a rule test it, and all keep it."""
        defined = rule.defined(self.rest)
        tests = int(defined.sum())
        if isinstance(rule, Lookup):
            lines = np.bincount(rule.lines(self.rest)[defined], minlength=len(rule.values))
            if 2 * np.count_nonzero(lines) < len(lines):
                return False
            tests = int(np.minimum(lines, PER_KEY).sum())
        enough = tests >= FEWEST and tests * self.accident[rule.target] > SURE
        return enough and not rule.broken(self.rest).any()

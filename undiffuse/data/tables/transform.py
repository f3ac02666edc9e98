"""Rows of a table <-> vectors whose coordinates are each close to a standard normal.

A row is encoded and decoded by all columns of one sort at once (see `batches`; `modelled` for how
each is modelled). A column that a rule binds is not among them: the rules follow, one by one, with
coordinates of their own or none.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from undiffuse.data.tables.batches import BATCHES
from undiffuse.data.tables.modelled import GivenColumn, ModelledColumn
from undiffuse.data.tables.rules import Rule
from undiffuse.data.tables.stated import Stated
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise


@final
class TableTransform:
    """Rows (B, columns) float64, NaN where missing, <-> x (B, D) float32.

    >>> from undiffuse.data.tables.modelled import LevelColumn
    >>> column = LevelColumn(name="a", values=[0, 1], masses=[3, 1, 1], unseen=2)
    >>> transform = TableTransform(columns=[column])
    >>> x, _ = transform.encode(torch.tensor([[0.0], [1.0]]), torch.zeros_like)
    >>> transform.decode(x).tolist()
    [[0.0], [1.0]]
    """

    levels = None
    bin_width = None

    def __init__(
        self,
        *,
        columns: Sequence[ModelledColumn],
        rules: Sequence[Rule] = (),
        stated: Sequence[Stated] = (),
    ) -> None:
        self.columns, self.rules, self.stated = tuple(columns), tuple(rules), tuple(stated)
        bound = {rule.target for rule in self.rules}
        self._plain = [i for i in range(len(self.columns)) if i not in bound]
        plain = [self.columns[i] for i in self._plain]
        self._widths = [column.width for column in plain]
        self._rule_widths = [rule.width for rule in self.rules]
        alike: dict[tuple[type[ModelledColumn], Hashable], list[int]] = {}
        for i, column in enumerate(plain):
            alike.setdefault((type(column), column.alike), []).append(i)
        groups = list(alike.values())
        self._batches = [
            BATCHES[sort]([plain[i] for i in group]) for (sort, _), group in alike.items()
        ]
        first = np.cumsum([0, *self._widths]).tolist()
        coordinates = [  # of a group the first of each column, then the second of those with two
            [first[i] + k for k in range(max(self._widths)) for i in group if k < self._widths[i]]
            for group in groups
        ]
        self._by_column, self._by_coordinate = _Regrouped(groups), _Regrouped(coordinates)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(columns,)."""
        return (len(self.columns),)

    @property
    def shape(self) -> tuple[int, ...]:
        """(D,): of each column as many as its `width`."""
        return (sum(self._widths) + sum(self._rule_widths),)

    @property
    def description(self) -> str:
        """One sentence on how rows are modelled."""
        given = sum(isinstance(column, GivenColumn) for column in self.columns)
        constants, bound = self._widths.count(0) - given, self._rule_widths.count(0)
        counts = {"constant": constants, "determined by others": bound}
        left_out = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
        more = f"; {left_out} left out and put back" if left_out else ""
        conditions = f"; given {given} condition{'s' * (given > 1)}" if given else ""
        columns, numbers = len(self.columns) - given, self.shape[0]
        modelled = f"{columns} column{'s' * (columns > 1)} as {numbers} number"
        modelled += f"{'s' * (numbers > 1)} of unit scale"
        return f"{modelled}{conditions}{more}"

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
        own, *others = z.split([sum(self._widths), *self._rule_widths], 1)
        codes = self._by_column.split(row[:, self._plain])
        noises = self._by_coordinate.split(own)
        encoded = [batch.encode(*given) for batch, *given in zip(self._batches, codes, noises)]
        x, corrections = zip(*encoded)
        x = [self._by_coordinate.join(x)]
        correction = self._by_column.join(corrections).T.contiguous().sum(0)
        stored = row.cpu().numpy() if self.rules else np.empty(0)
        for rule, noises in zip(self.rules, others):
            coordinates, more = rule.encode(stored, noises.T, self.columns[rule.target])
            x.append(coordinates.T)
            correction = correction + more
        return torch.cat(x, 1), correction

    def decode(self, x: Tensor) -> np.ndarray:
        """Decode x (B, D) to rows (B, columns) in which every column can hold its value."""
        x = x.detach().nan_to_num()
        own, *others = x.split([sum(self._widths), *self._rule_widths], 1)
        parts = self._by_coordinate.split(own)
        codes = [batch.decode(part) for batch, part in zip(self._batches, parts)]
        row = np.full((len(x), len(self.columns)), np.nan)
        row[:, self._plain] = self._by_column.join(codes).cpu().numpy()
        for rule, coordinates in zip(self.rules, others):
            row[:, rule.target] = rule.decode(row, coordinates.T)
        return row

    def cells(self, row: Tensor) -> None:
        """Return None: levels have intervals of probability, not bins of equal width."""

    def known(self, mask: Tensor) -> Tensor:
        """Map a mask (B, columns) of known values to one of x, (B, D)."""
        widths = torch.tensor(self._widths, device=mask.device)
        parts = [mask[:, self._plain].repeat_interleave(widths, 1)]
        for rule in self.rules:
            bound = mask[:, [rule.target, *rule.sources]].all(1, keepdim=True)
            parts.append(bound.expand(-1, rule.width))
        return torch.cat(parts, 1)

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

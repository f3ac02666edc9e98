"""Rows of a table <-> vectors whose coordinates are each close to a standard normal.

A column becomes one or two coordinates, or none. Every one of its values is put by a monotone map where a standard
normal would put its rank, so that a model meets coordinates it already knows and learns how they hang together.

*Levels* (categories, booleans, whole numbers with few values, and "missing" as one more level). Level k owns the
interval (F_k, F_k + w_k) of probabilities, w_k its smoothed share of the training rows. With u uniform,

    v = F_k + u w_k,   x = Phi^-1(v),   log P(k) = log E_u[w_k p(x)/phi(x)] >= E_u[log p(x) + log w_k - log phi(x)]

which is an equality when x is standard normal. Categories without an order stand by falling frequency: rare ones lie
in a tail, where an interval of the same probability is wider.

*Numbers* (continuous, or whole with many values k, which become y = k + u). The map x = m(y) is linear between knots
(quantiles of the training rows at normal scores) and goes on linearly beyond them: log p(y) = log p(x) + log m'(y),
exactly. Values that many rows share ("atoms", such as the zeros of a capital gain) and missing ones have no density;
they become a second coordinate of levels {ordinary, atom 1, ..., missing}, and where that is not "ordinary" the number
is filled with z ~ N(0, 1), whose log-density is subtracted.

*Constants* are left out and put back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.special import ndtr, ndtri

from undiffuse.data.whole_numbers import inside
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise

FARTHEST = 8.0  # ndtri of the largest float64 below 1 is 8.2: the outermost intervals end here


@final
class Constant:
    """A column with one value: no coordinate."""

    width = 0

    def __init__(self, *, name: str, value: float | None) -> None:
        self.name = name
        self.value = math.nan if value is None else value

    def encode(self, row: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return z.float(), torch.zeros_like(row)

    def decode(self, x: Tensor) -> Tensor:
        return torch.full(x.shape[:1], self.value, dtype=torch.float64, device=x.device)


@final
class Levels:
    """A column with few values, in the order of `values`; `masses` has one entry more if it can be missing."""

    width = 1

    def __init__(
        self, *, name: str, values: Sequence[float | int], masses: Sequence[float | int]
    ) -> None:
        self.name = name
        self.missing = len(masses) > len(values)
        listed = torch.tensor([*values, *([math.nan] if self.missing else [])], dtype=torch.float64)
        self.values = listed
        self.mass = torch.tensor(masses, dtype=torch.float64) / math.fsum(masses)
        self.below = self.mass.cumsum(0) - self.mass
        ends = torch.tensor([math.inf], dtype=torch.float64)
        self.edges = torch.cat([-ends, ndtri(self.below[1:]), ends])
        self.sorted, self.order = listed[: len(values)].sort()

    def index(self, row: Tensor) -> Tensor:
        """The level of each value. Raises InputError for a value that is none of them."""
        known, order = self.sorted.to(row.device), self.order.to(row.device)
        place = torch.searchsorted(known, row.nan_to_num()).clamp(max=len(known) - 1)
        found = known[place] == row
        empty = row.isnan()
        if not bool((found | empty).all()) or (not self.missing and bool(empty.any())):
            raise InputError(
                f'column "{self.name}": holds a value that the training data does not; remove those rows.'
            )
        return torch.where(empty, len(self.values) - 1, order[place])

    def encode(self, row: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        k = self.index(row)
        mass, below, edges = (table.to(row.device) for table in (self.mass, self.below, self.edges))
        v = below[k] + ndtr(z[:, 0]) * mass[k]
        x = inside(ndtri(v).clamp(-FARTHEST, FARTHEST), edges[k], edges[k + 1])
        return x[:, None], mass[k].log() + _negative_log_normal(x)

    def decode(self, x: Tensor) -> Tensor:
        k = torch.searchsorted(
            self.edges[1:-1].to(x.device), x[:, 0].double().contiguous(), right=True
        )
        return self.values.to(x.device)[k]


@final
class Number:
    """A column of numbers in [low, high]: `knots` in its values, `marks` in x.

    `states` are the shares of {ordinary, each of `atoms`, missing if one more}, empty where all are ordinary.
    """

    def __init__(
        self,
        *,
        name: str,
        whole: bool,
        low: float,
        high: float,
        knots: Sequence[float],
        marks: Sequence[float],
        atoms: Sequence[float] = (),
        states: Sequence[float] = (),
    ) -> None:
        self.name, self.whole, self.low, self.high = name, whole, low, high
        self.knots = torch.tensor(knots, dtype=torch.float64)
        self.marks = torch.tensor(marks, dtype=torch.float64)
        self.slopes = self.marks.diff() / self.knots.diff()
        self.atoms = torch.tensor(atoms, dtype=torch.float64)
        self.missing = len(states) > len(atoms) + 1
        self.states = (
            Levels(name=name, values=list(range(len(states))), masses=states) if states else None
        )
        self.width = 1 if self.states is None else 2

    def map(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """X = m(y) and m'(y)."""
        knots, marks, slopes = (
            table.to(y.device) for table in (self.knots, self.marks, self.slopes)
        )
        j = torch.searchsorted(knots[1:-1], y.contiguous(), right=True)
        return marks[j] + (y - knots[j]) * slopes[j], slopes[j]

    def state(self, row: Tensor) -> Tensor:
        """0 where ordinary, 1 + i at atom i, the last where missing. InputError where missing cannot be."""
        if not self.missing and bool(row.isnan().any()):
            raise InputError(
                f'column "{self.name}": a value is missing, and none was in the training data; fill it.'
            )
        state = torch.zeros_like(row)
        for i, atom in enumerate(self.atoms.tolist()):
            state = torch.where(row == atom, i + 1.0, state)
        return torch.where(row.isnan(), len(self.atoms) + 1.0, state)

    def encode(self, row: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        state = self.state(row)
        ordinary = state == 0
        value = torch.where(ordinary, row, self.low)
        if self.whole:
            exact, slope = self.map(value + ndtr(z[:, 0]))
            x = inside(exact, self.map(value)[0], self.map(value + 1)[0])
        else:
            exact, slope = self.map(value)
            x = exact.float()
        x = torch.where(ordinary, x, z[:, 0].float())
        correction = torch.where(ordinary, slope.log(), _negative_log_normal(x))
        if self.states is None:
            return x[:, None], correction
        flag, more = self.states.encode(state, z[:, 1:])
        return torch.cat([x[:, None], flag], 1), correction + more

    def decode(self, x: Tensor) -> Tensor:
        knots, marks, slopes = (
            table.to(x.device) for table in (self.knots, self.marks, self.slopes)
        )
        exact = x[:, 0].double().contiguous()
        j = torch.searchsorted(marks[1:-1], exact, right=True)
        y = knots[j] + (exact - marks[j]) / slopes[j]
        y = (y.floor() if self.whole else y).clamp(self.low, self.high)
        if self.states is None:
            return y
        special = [*self.atoms.tolist(), *([math.nan] if self.missing else [])]
        state = self.states.decode(x[:, 1:]).long()
        return torch.where(
            state == 0,
            y,
            torch.tensor([0.0, *special], dtype=torch.float64, device=x.device)[state],
        )


CODES: dict[str, type] = {"constant": Constant, "levels": Levels, "number": Number}


@final
class TableTransform:
    """Rows (B, columns) float64, NaN where missing, <-> x (B, D) float32; see the head of this module.

    `columns` are plain mappings, one per column: "code" (a key of `CODES`), and that code's arguments.

    >>> transform = TableTransform(columns=[{"code": "levels", "name": "a", "values": [0, 1], "masses": [3, 1]}])
    >>> x, correction = transform.encode(torch.tensor([[0.0], [1.0]], dtype=torch.float64), torch.zeros_like)
    >>> transform.decode(x).tolist()
    [[0.0], [1.0]]
    """

    def __init__(self, *, columns: Sequence[Mapping[str, Any]]) -> None:
        self.columns = tuple(dict(column) for column in columns)
        given = [
            {name: value for name, value in column.items() if name != "code"}
            for column in self.columns
        ]
        self._codes = [
            CODES[column["code"]](**arguments) for column, arguments in zip(self.columns, given)
        ]
        self._widths = [code.width for code in self._codes]

    @property
    def shape(self) -> tuple[int, ...]:
        """(D,): one coordinate per column, two where values can be missing or stand apart, none where constant."""
        return (sum(self._widths),)

    @property
    def description(self) -> str:
        """One sentence on how rows are modelled."""
        left_out = self._widths.count(0)
        constants = f"; {left_out} constant left out and put back" if left_out else ""
        return f"{len(self._codes)} columns as {self.shape[0]} numbers of unit scale{constants}"

    def encode(self, row: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """(B, columns) -> x (B, D) float32, log_correction (B,) float64 in nats. See `Transform.encode`.

        Raises InputError for a category or a whole number that was not in the data, naming the column.
        """
        row = row.double()
        z = noise(row.new_zeros((len(row), *self.shape)))
        encoded = [
            code.encode(column, part)
            for code, column, part in zip(self._codes, row.unbind(1), z.split(self._widths, 1))
        ]
        x = torch.cat([part for part, _ in encoded], 1)
        return x, torch.stack([correction for _, correction in encoded]).sum(0)

    bin_width = None
    levels = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(columns,)."""
        return (len(self.columns),)

    def cells(self, row: Tensor) -> None:
        """Return None: there are no bins of one width."""
        return None

    def known(self, mask: Tensor) -> Tensor:
        """Which entries of x are known where `mask` (B, columns) says it of the columns, (B, D)."""
        return mask.repeat_interleave(torch.tensor(self._widths, device=mask.device), 1)

    def decode(self, x: Tensor) -> np.ndarray:
        """(B, D) -> rows (B, columns) float64 in which every value is one that its column can hold."""
        parts = x.detach().nan_to_num().split(self._widths, 1)
        return (
            torch.stack([code.decode(part) for code, part in zip(self._codes, parts)], 1)
            .cpu()
            .numpy()
        )


def _negative_log_normal(x: Tensor) -> Tensor:
    """Return -log of the standard normal density at `x`, elementwise, in float64."""
    return 0.5 * x.double() ** 2 + 0.5 * math.log(2 * math.pi)

"""Conditions: columns of numbers and categories that samples can be asked for, as one vector a row.

    a number      (z, 1),  z = (value - mean) / deviation, both of the training rows
    a category    one entry for each category, 1 for the row's own
    not known     zeros

So a vector of zeros is a row of which nothing is known, and any of the columns can be given alone.
Codes (N, columns) float64 are what vectors are made from: the number itself, or its code in a
table; the index of a category; NaN where it is not known.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from undiffuse.declared import written
from undiffuse.errors import InputError, unknown
from undiffuse.reading import number_in, printable, read_text, said

MOST_CATEGORIES = 100  # of a condition; with more of them it is an identifier or free text
_LINES, _FIELDS = (".jsonl", ".ndjson"), (".csv", ".tsv")  # files of conditions, a line per row

Where = Any
"""What people write: "angle=30,colour=red", a CSV or JSON-lines file, a mapping, a frame, rows."""

Code = Callable[["ConditionColumn", Sequence[Any]], np.ndarray]
"""`code(column, values)`: the codes of what a person wrote. Raises InputError for no such value."""


@final
@dataclass(frozen=True, kw_only=True)
class Given:
    """A column of conditions as it was read.

    Args:
        name: its name.
        codes: (N,) float64, NaN where it is not known.
        categories: their names, by code; empty for numbers.
        place: the column of the rows that holds it; None where it stands beside them.
        said: from which value to which, in a table; else read off the codes.
    """

    name: str
    codes: np.ndarray
    categories: tuple[str, ...] = ()
    place: int | None = None
    said: str = ""

    @classmethod
    def of(cls, name: str, values: Sequence[Any] | np.ndarray, where: str) -> Given:
        """Return the column of values (N,): of numbers if all are, else of categories.

        Raises:
            InputError: for infinite values, none at all, and too many categories.
        """
        plain = [_plain(value) for value in values]
        known = [value for value in plain if value is not None]
        if not known:
            raise InputError(
                f"{where}: {name} is empty in all rows; leave it out of the conditions."
            )
        numbers = [number_in(value) for value in known]
        categories: tuple[str, ...] = ()
        if None in numbers:
            categories = tuple(sorted({str(value) for value in known}))
            if len(categories) > min(MOST_CATEGORIES, max(2, len(known) / 2)):
                raise InputError(
                    f"{where}: {name} has {len(categories):,} different values in {len(known):,} "
                    "rows, too many for a condition; give numbers or a few categories."
                )
            codes = {category: i for i, category in enumerate(categories)}
            numbers = [codes[str(value)] for value in known]
        elif not np.isfinite(np.array(numbers, float)).all():
            raise InputError(f"{where}: {name} holds infinite values; replace them.")
        coded = np.full(len(plain), np.nan)
        coded[[value is not None for value in plain]] = numbers
        return cls(name=name, codes=coded, categories=categories)


@final
@dataclass(frozen=True, kw_only=True)
class ConditionColumn:
    """A column of conditions as a run records it.

    Args:
        name: its name.
        categories: their names, by code; empty for numbers.
        mean: of the codes of the training rows, as the others.
        deviation: the standard deviation; 1 if it is 0.
        low: the least.
        high: the greatest.
        whole: whether all are whole.
        place: the column of the rows that holds it; None where it stands beside them.
        said: from which value to which, as people write them.
    """

    name: str
    categories: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    place: int | None = None
    said: str = ""

    @classmethod
    def measure(cls, given: Given, training: np.ndarray) -> ConditionColumn:
        """Return the column as its training rows (n,) measure it."""
        codes = given.codes[training]
        codes = codes[~np.isnan(codes)]
        shared: dict[str, Any] = {"name": given.name, "place": given.place}
        if given.categories or len(codes) == 0:
            return cls(categories=given.categories, **shared)
        return cls(
            mean=float(codes.mean()),
            deviation=float(codes.std()) or 1.0,
            low=float(codes.min()),
            high=float(codes.max()),
            whole=bool((codes == np.rint(codes)).all()),
            said=given.said or f"{codes.min():.6g} to {codes.max():.6g}",
            **shared,
        )

    @property
    def width(self) -> int:
        """The number of entries of the vector that are its own."""
        return len(self.categories) or 2

    def encode(self, codes: np.ndarray) -> np.ndarray:
        """Return the entries (N, width) of codes (N,)."""
        known = ~np.isnan(codes)
        filled = np.where(known, codes, 0.0)
        if self.categories:
            return (filled[:, None] == np.arange(self.width)) & known[:, None]
        return np.stack([np.where(known, (filled - self.mean) / self.deviation, 0.0), known], 1)

    def decode(self, entries: np.ndarray) -> np.ndarray:
        """Return the codes (N,) of entries (N, width)."""
        if self.categories:
            return np.where(entries.any(1), entries.argmax(1), np.nan)
        codes = self.mean + self.deviation * entries[:, 0].astype(np.float64)
        return np.where(entries[:, 1] > 0, np.rint(codes) if self.whole else codes, np.nan)


@final
class Conditions:
    """The columns of conditions of a run.

    Args:
        columns: they, in their order.

    >>> angle = ConditionColumn(name="angle", mean=10.0, deviation=5.0, low=0.0, high=20.0)
    >>> colour = ConditionColumn(name="colour", categories=("blue", "red"))
    >>> conditions = Conditions([angle, colour])
    >>> vector, _ = conditions.ask("colour=red,angle=15")
    >>> vector.tolist(), conditions.decode(vector).tolist()
    ([[1.0, 1.0, 0.0, 1.0]], [[15.0, 1.0]])
    >>> conditions.ask({"colour": "red"})[0].tolist()  # the angle is not known
    [[0.0, 0.0, 0.0, 1.0]]
    """

    def __init__(self, columns: Sequence[ConditionColumn]) -> None:
        self.columns = tuple(columns)
        self.names = tuple(column.name for column in self.columns)
        self.widths = tuple(column.width for column in self.columns)
        self._cuts = np.cumsum(self.widths)[:-1]

    @classmethod
    def measure(cls, given: Sequence[Given], training: np.ndarray) -> Conditions:
        """Return the conditions as the training rows (n,) measure them."""
        return cls([ConditionColumn.measure(one, training) for one in given])

    @classmethod
    def restore(cls, config: Mapping[str, Any]) -> Conditions | None:
        """Return those of a run's config["data"], None without any.

        Raises InputError if they are damaged.
        """
        trees = config.get("conditions") or []
        try:
            columns = [
                ConditionColumn(**{**tree, "categories": tuple(tree["categories"])})
                for tree in trees
            ]
        except (TypeError, KeyError) as problem:
            raise InputError(
                f"data: the conditions of the run are damaged ({problem}); restore its config.json."
            ) from problem
        return cls(columns) if columns else None

    def tree(self) -> list[dict[str, Any]]:
        """Return them as plain data, for `restore`."""
        return [
            {**asdict(column), "categories": list(column.categories)} for column in self.columns
        ]

    @property
    def size(self) -> int:
        """The numbers of a vector."""
        return sum(self.widths)

    # --- codes <-> vectors

    def encode(self, codes: np.ndarray) -> np.ndarray:
        """Return the vectors (N, size) float32 of codes (N, columns)."""
        parts = [column.encode(part) for column, part in zip(self.columns, codes.T)]
        return np.concatenate(parts, 1).astype(np.float32)

    def decode(self, vector: np.ndarray) -> np.ndarray:
        """Return the codes (N, columns) of vectors (N, size)."""
        parts = np.split(vector, self._cuts, 1)
        return np.stack([column.decode(part) for column, part in zip(self.columns, parts)], 1)

    def words(self, vector: np.ndarray) -> list[dict[str, Any]]:
        """Return what vectors (N, size) say, by name; None for what is not known."""
        return [
            {
                column.name: None
                if np.isnan(code)
                else column.categories[int(code)]
                if column.categories
                else float(f"{code:.7g}")  # as many digits as a float32 has
                for column, code in zip(self.columns, row)
            }
            for row in self.decode(vector)
        ]

    @property
    def of_rows(self) -> bool:
        """Whether they are columns of the rows themselves, as in a table."""
        return all(column.place is not None for column in self.columns)

    @property
    def places(self) -> list[int]:
        """The columns of the rows that hold them, where they do."""
        return [column.place for column in self.columns if column.place is not None]

    def filled(self, rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Return rows (N, ...) in which the columns that hold conditions say what vectors do."""
        if self.of_rows:
            rows = rows.copy()
            rows[:, self.places] = self.decode(vector)
        return rows

    # --- what people write

    def vector(self, given: Sequence[Given]) -> tuple[np.ndarray | None, tuple[str, ...]]:
        """Return the vectors (N, size) of other columns by name, and notes; None if none is ours.

        A category that no training row has is not known.
        """
        by_name = {one.name: one for one in given}
        if not set(by_name) & set(self.names):
            return None, ()
        rows = len(given[0].codes)
        codes, notes = np.full((rows, len(self.columns)), np.nan), []
        for i, column in enumerate(self.columns):
            if (one := by_name.get(column.name)) is None:
                continue
            if bool(one.categories) != bool(column.categories):
                what = "categories" if column.categories else "numbers"
                raise InputError(f"condition {column.name}: holds {what} in this run; correct it.")
            codes[:, i] = one.codes
            if column.categories:
                index = {name: k for k, name in enumerate(column.categories)}
                other = [index.get(name, np.nan) for name in one.categories]
                known = ~np.isnan(one.codes)
                codes[known, i] = np.array(other)[one.codes[known].astype(int)]
                strange = [name for name, k in zip(one.categories, other) if np.isnan(k)]
                if strange:
                    notes.append(
                        f"condition {column.name}: no training row has {printable(strange[0])}; "
                        "such rows are taken as if it were not known."
                    )
        return self.encode(codes), tuple(notes)

    def ask(self, where: Where, code: Code | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the vectors (m, size) of what a person asks for, and notes.

        Args:
            where: "angle=30,colour=red"; a CSV or JSON-lines file, one line a row; a mapping of
                names to a value, or to m of them; a data frame; rows (m, columns) of all columns.
                A column that is left out, and an empty value, is not known.
            code: how values are coded; by default numbers as they are, categories by name.

        Raises:
            InputError: for an unknown name or category, and text for a number.
        """
        named = _named(where, self.names)
        for name in named:
            if name not in self.names:
                raise unknown("where:", "condition", str(name), self.names)
        lengths = {len(values) for values in named.values()}
        if not named or lengths == {0}:
            raise InputError(
                f"where: it gives no conditions; the model knows {', '.join(self.names)}."
            )
        if len(lengths) > 1:
            raise InputError(
                "where: the columns have different lengths; give a value for each row."
            )
        codes = np.full((lengths.pop(), len(self.columns)), np.nan)
        notes = []
        for i, column in enumerate(self.columns):
            if column.name in named:
                codes[:, i] = (code or _code)(column, named[column.name])
                outside = (codes[:, i] < column.low) | (codes[:, i] > column.high)
                if not column.categories and outside.any():
                    value = named[column.name][int(np.flatnonzero(outside)[0])]
                    notes.append(
                        f"where: {column.name} {written(value)} is outside the range of the "
                        f"training rows, {column.said}; the model has not learned such values."
                    )
        return self.encode(codes), tuple(notes)

    def describe(self) -> dict[str, str]:
        """Return what each column holds, for people."""
        return {
            column.name: ", ".join(column.categories[:8]) + ", ..." * (len(column.categories) > 8)
            if column.categories
            else column.said
            for column in self.columns
        }


def _code(column: ConditionColumn, values: Sequence[Any]) -> np.ndarray:
    """The codes of numbers as they are, and of categories by name."""
    codes = np.full(len(values), np.nan)
    for i, value in enumerate(map(_plain, values)):
        if value is None:
            continue
        if column.categories:
            if str(value) not in column.categories:
                raise unknown("where:", column.name, str(value), column.categories)
            codes[i] = column.categories.index(str(value))
            continue
        number = number_in(value)
        if number is None or not np.isfinite(number):
            raise InputError(
                f"where: {column.name} {printable(str(value))} is not a number; in training "
                f"it went from {column.said}."
            )
        codes[i] = number
    return codes


def _plain(value: Any) -> Any:
    """A number, text or None, for what is empty."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return value.strip() if isinstance(value, str) else value


def _named(where: Where, names: Sequence[str]) -> dict[str, list[Any]]:
    """What a person asks for as values by name; see `Conditions.ask`."""
    if isinstance(where, str) and "=" in where and not Path(where).exists():
        pairs = [[part.strip() for part in piece.partition("=")] for piece in where.split(",")]
        if not all(name and value for name, _, value in pairs):
            raise InputError(
                f"where {where}: must be NAME=VALUE, separated by commas, or a CSV file of them."
            )
        given = {name: [value] for name, _, value in pairs}
        if len(given) < len(pairs):
            raise InputError(f"where {where}: names a condition twice; leave one of them out.")
        return given
    if isinstance(where, str) and not where.strip():
        return {}
    if isinstance(where, str | os.PathLike):
        return _columns_of(Path(os.path.expanduser(where)), names)
    if isinstance(where, Mapping) or hasattr(where, "columns"):
        named = {str(name): where[name] for name in getattr(where, "columns", where)}
        return {
            name: [values] if isinstance(values, str) or np.ndim(values) == 0 else list(values)
            for name, values in named.items()
        }
    rows = np.atleast_2d(np.asarray(where))
    if rows.ndim != 2 or rows.shape[1] != len(names):
        raise InputError(
            f"where: its shape is {np.shape(where)}; give rows of {len(names)} values, for "
            f"{', '.join(names)}."
        )
    return {name: list(values) for name, values in zip(names, rows.T)}


def _columns_of(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """The columns of a file of conditions."""
    if path.suffix.lower() not in (*_LINES, *_FIELDS):
        raise InputError(
            f"where {path}: must be NAME=VALUE for {' or '.join(names)}, separated by commas, or a "
            ".csv or .jsonl file of them."
        )
    try:
        rows = rows_of(path)
    except FileNotFoundError:
        raise InputError(f"where {path}: no such file; check the path.") from None
    except (OSError, ValueError, csv.Error) as problem:
        raise InputError(f"{path.name}: could not be read ({said(problem)}); correct it.") from None
    if not rows:
        raise InputError(f"{path.name}: it has no rows; give at least one row of conditions.")
    columns = dict.fromkeys(name for row in rows for name in row)
    if None in columns:
        raise InputError(f"{path.name}: a line has more fields than the first; correct it.")
    return {name: [row.get(name) for row in rows] for name in columns}


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV, TSV or JSON-lines file, by the names of its columns.

    Raises OSError, ValueError or csv.Error if it is none.
    """
    text = read_text(path).removeprefix("\ufeff")
    if path.suffix.lower() in _LINES:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is not an object")
        return rows
    head = text.partition("\n")[0]
    mark = "\t" if "\t" in head else ";" if ";" in head and "," not in head else ","
    return [dict(row) for row in csv.DictReader(io.StringIO(text), delimiter=mark)]


def labels_or_conditions(
    y: Any, names: Sequence[str] | None, name: str
) -> tuple[Any, tuple[Given, ...]]:
    """Return what stands beside rows as labels, or as conditions: one of the two, else empty.

    Args:
        y: values (N,) or (N, k), or columns by name (a mapping, a data frame); None: nothing.
        names: what the columns are called, or which of them are taken; None: not said.
        name: of the data, for messages.

    Columns by name are conditions; so are floats that are not all whole, floats (N, k), and
    whatever is named. Whole numbers and text (N,) are labels.
    """
    if y is None:
        if names:
            raise InputError(
                f"{name}: --data.condition {written(names)}: nothing stands beside its rows; give "
                "(x, y), or an .npz file with an array called conditions."
            )
        return None, ()
    if isinstance(y, Mapping) or (hasattr(y, "columns") and hasattr(y, "iloc")):
        columns = {str(key): y[key] for key in getattr(y, "columns", y)}
        for one in names or ():
            if one not in columns:
                raise unknown(f"{name}:", "condition", one, columns)
        chosen = {key: columns[key] for key in names or columns}
        return None, tuple(Given.of(key, list(values), name) for key, values in chosen.items())
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else np.zeros(0)
    if not names and not (finite.size and (values.ndim > 1 or (finite != np.rint(finite)).any())):
        return y, ()
    if values.ndim not in (1, 2):
        raise InputError(
            f"{name}: conditions of shape {values.shape}; give a number, or k numbers, a row."
        )
    table = values.reshape(len(values), -1)
    names = names or (["y"] if table.shape[1] == 1 else [f"y{i}" for i in range(table.shape[1])])
    if len(names) != table.shape[1]:
        raise InputError(
            f"{name}: --data.condition {written(tuple(names))}: {len(names)} names for "
            f"{table.shape[1]} columns; give one for each."
        )
    return None, tuple(Given.of(one, column, name) for one, column in zip(names, table.T))

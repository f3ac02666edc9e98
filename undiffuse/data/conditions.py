"""Conditions: what samples can be asked for, as one vector a row.

    a number      (z, 1),  z = (value - mean) / deviation, both of the training rows
    a category    one entry for each category, 1 for the row's own
    a map         the same at each position of the row (see `maps`); these come last
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

from undiffuse.data.given import Given, GivenMap, plain
from undiffuse.data.maps import ConditionMap
from undiffuse.declared import written
from undiffuse.errors import InputError, unknown
from undiffuse.interfaces import Rows
from undiffuse.reading import number_in, printable, read_text, said

_LINES, _FIELDS = (".jsonl", ".ndjson"), (".csv", ".tsv")  # files of conditions, a line per row

Where = Any
"""What people write: "angle=30,colour=red", a CSV or JSON-lines file, a mapping, a frame, rows."""

Code = Callable[["ConditionColumn", Sequence[Any]], np.ndarray]
"""`code(column, values)`: the codes of what a person wrote. Raises InputError for no such value."""

ReadMap = Callable[[ConditionMap, Any], tuple[np.ndarray, tuple[str, ...]]]
"""`read_map(map, value)`: the maps (m, C, *S) of what a person gives, and notes; see `Code`."""


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
    """The conditions of a run.

    Args:
        columns: numbers and categories, in their order.
        maps: those that are whole arrays.

    >>> angle = ConditionColumn(name="angle", mean=10.0, deviation=5.0, low=0.0, high=20.0)
    >>> colour = ConditionColumn(name="colour", categories=("blue", "red"))
    >>> conditions = Conditions([angle, colour])
    >>> vector, _ = conditions.ask("colour=red,angle=15")
    >>> vector.tolist(), conditions.decode(vector).tolist()
    ([[1.0, 1.0, 0.0, 1.0]], [[15.0, 1.0]])
    >>> conditions.ask({"colour": "red"})[0].tolist()  # the angle is not known
    [[0.0, 0.0, 0.0, 1.0]]
    """

    def __init__(
        self, columns: Sequence[ConditionColumn], maps: Sequence[ConditionMap] = ()
    ) -> None:
        self.columns, self.maps = tuple(columns), tuple(maps)
        self.names = tuple(column.name for column in self.columns)
        self.all_names = (*self.names, *(one.name for one in self.maps))
        self.widths = tuple(one.width for one in (*self.columns, *self.maps))
        self._cuts = np.cumsum(self.widths)[:-1]
        if len(set(self.all_names)) < len(self.all_names):
            raise InputError(
                f"conditions: two of {', '.join(self.all_names)} have the same name; rename one."
            )

    @classmethod
    def measure(
        cls, given: Sequence[Given], training: np.ndarray, maps: Sequence[GivenMap] = ()
    ) -> Conditions:
        """Return the conditions as the training rows (n,) measure them."""
        columns = [ConditionColumn.measure(one, training) for one in given]
        return cls(columns, [ConditionMap.measure(one, training) for one in maps])

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
                if "shape" not in tree
            ]
            maps = [ConditionMap.read(tree) for tree in trees if "shape" in tree]
        except (TypeError, KeyError) as problem:
            raise InputError(
                f"data: the conditions of the run are damaged ({problem}); restore its config.json."
            ) from problem
        return cls(columns, maps) if trees else None

    def tree(self) -> list[dict[str, Any]]:
        """Return them as plain data, for `restore`."""
        return [
            *({**asdict(one), "categories": list(one.categories)} for one in self.columns),
            *(one.tree() for one in self.maps),
        ]

    @property
    def size(self) -> int:
        """The numbers of a vector."""
        return sum(self.widths)

    @property
    def sizes(self) -> dict[str, int]:
        """What there is of it, as in `Source.conditions`."""
        numbers = sum(column.width for column in self.columns)
        channels = sum(one.channels for one in self.maps)
        return {name: n for name, n in (("vector", numbers), ("maps", channels)) if n}

    # --- codes <-> vectors

    def encode(
        self, codes: np.ndarray, maps: Sequence[np.ndarray | None] | None = None
    ) -> np.ndarray:
        """Return the vectors (N, size) float32 of codes (N, columns) and maps, each (N, C, *S)."""
        parts = [column.encode(part) for column, part in zip(self.columns, codes.T)]
        for one, values in zip(self.maps, maps or [None] * len(self.maps)):
            none = np.zeros((len(codes), one.width))
            parts.append(none if values is None else one.encode(values))
        return np.concatenate(parts, 1).astype(np.float32)

    def decode(self, vector: np.ndarray) -> np.ndarray:
        """Return the codes (N, columns) of vectors (N, size)."""
        parts = np.split(vector, self._cuts, 1)
        codes = [column.decode(part) for column, part in zip(self.columns, parts)]
        return np.stack(codes, 1) if codes else np.zeros((len(vector), 0))

    def decode_maps(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """Return the maps (N, C, *S) of vectors (N, size), by name."""
        parts = np.split(vector, self._cuts, 1)[len(self.columns) :]
        return {one.name: one.decode(part) for one, part in zip(self.maps, parts)}

    def words(self, vector: np.ndarray) -> list[dict[str, Any]]:
        """Return what vectors (N, size) say, by name; None for what is not known."""
        return [
            {
                column.name: None
                if np.isnan(code)
                else column.categories[int(code)]
                if column.categories
                else int(code)
                if column.whole
                else float(f"{code:.7g}")  # as many digits as a float32 has
                for column, code in zip(self.columns, row)
            }
            for row in self.decode(vector)
        ]

    @property
    def of_rows(self) -> bool:
        """Whether they are columns of the rows themselves, as in a table."""
        return not self.maps and all(column.place is not None for column in self.columns)

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

    def vector(
        self, given: Sequence[Given], maps: Sequence[GivenMap] = ()
    ) -> tuple[np.ndarray | Vectors | None, tuple[str, ...]]:
        """Return the vectors (N, size) of other columns by name, and notes; None if none is ours.

        A category that no training row has is not known.
        """
        by_name, own_maps = {one.name: one for one in given}, self._matched(maps)
        if not set(by_name) & set(self.names) and not own_maps:
            return None, ()
        rows = len(given[0].codes) if given else len(maps[0].rows)
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
        if own_maps:
            return Vectors(self, codes, own_maps), tuple(notes)
        return self.encode(codes), tuple(notes)

    def _matched(self, maps: Sequence[GivenMap]) -> list[Rows | None]:
        """The other maps that are ours, in the order of ours; [] if none is."""
        by_name = {one.name: one for one in maps}
        if len(maps) == len(self.maps) == 1:
            by_name = {self.maps[0].name: maps[0]}
        found = [by_name.get(one.name) for one in self.maps]
        for own, other in zip(self.maps, found):
            shape = own.shape if other is None else other.rows.take(np.arange(1)).shape[1:]
            if shape != own.shape:
                raise InputError(
                    f"condition {own.name}: has shape {shape} a row, and in this run {own.shape}; "
                    "give such arrays."
                )
        return [None if one is None else one.rows for one in found] if any(found) else []

    def ask(
        self, where: Where, code: Code | None = None, read_map: ReadMap | None = None
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the vectors (m, size) of what a person asks for, and notes.

        Args:
            where: "angle=30,colour=red"; a CSV or JSON-lines file, one line a row; a mapping of
                names to a value, or to m of them; a data frame; rows (m, columns) of all columns.
                A column that is left out, and an empty value, is not known. Maps are arrays, or
                files or folders of them; the only one of a run needs no name.
            code: how values are coded; by default numbers as they are, categories by name.
            read_map: how maps are read.

        Raises:
            InputError: for an unknown name or category, and text for a number.
        """
        if len(self.maps) == 1 and _is_map(where, self.maps[0], self.names):
            named = {self.maps[0].name: [where]}
        else:
            named = _named(where, self.names or self.all_names)
        for name in named:
            if name not in self.all_names:
                raise unknown("where:", "condition", str(name), self.all_names)
        asked = {one: named.pop(one.name) for one in self.maps if one.name in named}
        if asked:
            return self._ask_maps(asked, named, code, read_map)
        return self._ask(named, code)

    def _ask_maps(
        self,
        asked: Mapping[ConditionMap, Sequence[Any]],
        named: dict[str, list[Any]],
        code: Code | None,
        read_map: ReadMap | None,
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """The vectors of maps and of columns, one of which may be for all."""
        assert read_map is not None  # the kinds of data that have maps give it
        found = {one: [read_map(one, value) for value in asked[one]] for one in asked}
        maps = {one: np.concatenate([m for m, _ in parts]) for one, parts in found.items()}
        notes = [note for parts in found.values() for _, more in parts for note in more]
        columns, more = self._ask(named, code) if named else (self.encode(self._nothing()), ())
        lengths = {len(columns), *map(len, maps.values())} - {1}
        if len(lengths) > 1:
            raise InputError(
                "where: the conditions are not equally many; give a value for each row."
            )
        n = max(lengths, default=1)
        whole = [np.repeat(maps[one], n // len(maps[one]), 0) if one in maps else None
                 for one in self.maps]  # fmt: skip
        codes = self.decode(np.repeat(columns, n // len(columns), 0))
        return self.encode(codes, whole), (*notes, *more)

    def _nothing(self) -> np.ndarray:
        """The codes of one row of which nothing is known."""
        return np.full((1, len(self.columns)), np.nan)

    def _ask(
        self, named: Mapping[str, Sequence[Any]], code: Code | None
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """The vectors of columns by name, and notes."""
        lengths = {len(values) for values in named.values()}
        if not named or lengths == {0}:
            raise InputError(
                f"where: it gives no conditions; the model knows {', '.join(self.all_names)}."
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
        } | {one.name: one.said for one in self.maps}


@final
class Vectors:
    """The vectors (N, v) of rows with maps, made where they are indexed.

    Args:
        own: the conditions.
        codes: (N, columns).
        maps: each (N, C, *S); None: not known of any row.
        rows: which of the rows; None: all.
    """

    def __init__(
        self,
        own: Conditions,
        codes: np.ndarray,
        maps: Sequence[Rows | None],
        rows: np.ndarray | None = None,
    ) -> None:
        self.own, self.codes, self.maps = own, codes, maps
        self.rows = np.arange(len(codes)) if rows is None else rows

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """Return the vectors (n, v) float32 of some rows."""
        rows = self.rows[index]
        maps = [None if one is None else one.take(rows) for one in self.maps]
        return self.own.encode(self.codes[rows], maps)

    def only(self, index: np.ndarray) -> Vectors:
        """Return those of some rows."""
        return Vectors(self.own, self.codes, self.maps, self.rows[index])


@final
class VectorsByRow:
    """The vectors of rows of a table that hold their conditions, made where they are indexed.

    Args:
        own: the conditions.
        rows: the rows (N, columns) of codes.
    """

    def __init__(self, own: Conditions, rows: Rows) -> None:
        self._own, self._rows = own, rows

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """Return the vectors (n, v) float32 of the rows at these positions (n,)."""
        return self._own.encode(self._rows.take(index)[:, self._own.places])


def _is_map(where: Where, own: ConditionMap, columns: Sequence[str]) -> bool:
    """Return whether what a person gives is the only map of a run, without its name."""
    if isinstance(where, str) and "=" in where and not Path(where).exists():
        return False
    if isinstance(where, str | os.PathLike):
        return not columns or Path(where).suffix.lower() not in (*_LINES, *_FIELDS)
    if isinstance(where, Mapping) or hasattr(where, "columns"):
        return False
    return not columns or np.ndim(where) >= len(own.shape) - 1


def _code(column: ConditionColumn, values: Sequence[Any]) -> np.ndarray:
    """The codes of numbers as they are, and of categories by name."""
    codes = np.full(len(values), np.nan)
    for i, value in enumerate(map(plain, values)):
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
            name: [values] if isinstance(values, str) or np.ndim(values) != 1 else list(values)
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
                f"{name}: --condition {written(names)}: nothing stands beside its rows; give "
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
            f"{name}: --condition {written(tuple(names))}: {len(names)} names for "
            f"{table.shape[1]} columns; give one for each."
        )
    return None, tuple(Given.of(one, column, name) for one, column in zip(names, table.T))

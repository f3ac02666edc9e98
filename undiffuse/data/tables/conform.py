"""A table as rows of a run: columns found by name, each value coded on the grid or in the categories of training.

The code of a value is fixed by the run's `Column`: the step k with value = (offset + k unit) / denominator, or the
place of a category. Steps may lie outside of the range of training; a value between two steps, or a category that
training did not meet, has probability zero under the model, and makes its row a `Problem`. So has a value of a column
that had one value in training, or few, if it is none of these.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from undiffuse.data.conformed import Conformed, Problem, Taken
from undiffuse.data.source import Data
from undiffuse.data.tables import read as tables
from undiffuse.data.tables.form import TableForm, need_pyarrow
from undiffuse.data.tables.kind import is_frame
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows, Progress

if TYPE_CHECKING:
    import pyarrow as pa

    from undiffuse.data.tables.column import Column

_FEW = 3  # columns named in a sentence


@final
class _Coded:
    """The matrix of codes, and the problems of rows by number."""

    def __init__(self, matrix: np.ndarray, problems: Mapping[int, Problem]) -> None:
        self.matrix, self.problems = matrix, problems

    def take(self, indices: np.ndarray) -> Taken:
        found = {
            i: self.problems[int(row)] for i, row in enumerate(indices) if int(row) in self.problems
        }
        return self.matrix[indices], found


def conform_table(
    source: Any, transform: Any, form: Any, progress: Progress | None = None
) -> Conformed:
    """See `conform`. Rows are called by their numbers, from 1 as in every message about tables."""
    need_pyarrow("reading tables")
    import pyarrow as pa

    from undiffuse.data.tables.column import Column

    table, where = _table(source)
    notes: list[str] = []
    table = tables.checked(table, where, notes, least=1)
    schema = form.arrow_schema()
    columns = [
        Column(**{**column, "categories": tuple(column["categories"])}) for column in form.columns
    ]
    _check_names([column.name for column in columns], table.column_names, where)
    matrix = np.empty((table.num_rows, len(columns)))
    problems: dict[int, Problem] = {}
    for i, (column, support, field) in enumerate(zip(columns, transform.columns, schema)):
        chunks = table.column(column.name)
        array = chunks.chunk(0) if chunks.num_chunks == 1 else pa.concat_arrays(chunks.chunks)
        codes, impossible = code(column, array, field.type, f'{where}: column "{column.name}"')
        impossible |= _outside(support, codes)
        for row in np.flatnonzero(impossible):
            reason = (
                f'column "{column.name}": the training data have no {array[int(row)].as_py()!r}'
            )
            problems.setdefault(int(row), Problem.impossible(reason))
        codes[impossible] = _possible(support)
        matrix[:, i] = codes
        if progress is not None:
            progress(i + 1, len(columns), "columns")
    return Conformed(
        _Coded(matrix, problems),
        range(1, len(matrix) + 1),
        name=where,
        fingerprint=tables.fingerprint(tables.schema_text(table), columns, matrix),
        notes=tuple(notes),
    )


def _table(source: Any) -> tuple[pa.Table, str]:
    """The Arrow table of a file, a frame, or a `Data`. Raises InputError for a source that is no table."""
    if isinstance(source, Data) and isinstance(source.form, TableForm):
        return source.form.table(
            source.loaded.rows.take(np.arange(len(source.loaded.rows)))
        ), source.name
    if isinstance(source, str | Path):
        table, _, _, where = tables.from_file(Path(os.path.expanduser(source)).resolve())
        return table, where
    if is_frame(source):
        table, _, _, where = tables.from_object(source)
        return table, where
    raise InputError(
        f"data: the run was trained on a table, and this is a {type(source).__name__}; give a table."
    )


def _check_names(needed: list[str], found: list[str], where: str) -> None:
    for one, other, verb, advice in (
        (needed, found, "is missing", "the run was trained with it"),
        (found, needed, "is one that the run was not trained with", "remove it"),
    ):
        lacking = [name for name in one if name not in other]
        if lacking:
            shown = ", ".join(f'"{name}"' for name in lacking[:_FEW]) + (
                ", ..." if len(lacking) > _FEW else ""
            )
            more = f" ({len(lacking)} such columns)" if len(lacking) > 1 else ""
            raise InputError(f"{where}: column {shown} {verb}{more}; {advice}.")


def _outside(support: Mapping[str, Any], codes: np.ndarray) -> np.ndarray:
    """Which codes are none of those the column has in the run; numbers may lie anywhere."""
    known = {"levels": lambda: support["values"], "constant": lambda: [support["value"]]}
    if support["code"] not in known:
        return np.zeros(len(codes), dtype=bool)
    return ~np.isin(codes, np.array(known[support["code"]](), dtype=np.float64)) & ~np.isnan(codes)


def _possible(support: Mapping[str, Any]) -> float:
    """A code that the column has in the run."""
    return {"constant": lambda: support["value"], "levels": lambda: support["values"][0]}.get(
        support["code"], lambda: support["low"]
    )()


def code(
    column: Column, array: pa.Array, kind: pa.DataType, here: str
) -> tuple[np.ndarray, np.ndarray]:
    """(codes (N,) float64, NaN where missing; which values (N,) have no code) of an Arrow array; `kind` is the type
    that the column had in training.

    Raises InputError for another type, for infinite values, and for missing ones where training had none.
    """
    array = _plain(array)
    empty = np.asarray(array.is_null(nan_is_null=True))
    if empty.any() and column.missing == "no":
        count, first = int(empty.sum()), int(np.flatnonzero(empty)[0]) + 1
        values = "value is" if count == 1 else "values are"
        raise InputError(
            f"{here}: {count:,} {values} missing, the first in row {first:,}, and none was in training; "
            "fill them or remove those rows."
        )
    if empty.all():
        return np.full(len(array), np.nan), np.zeros(len(array), dtype=bool)
    codes, impossible = _CODE[column.sort](column, array, empty, kind, here)
    codes[empty] = np.nan
    return codes, impossible & ~empty


def _plain(array: pa.Array) -> pa.Array:
    """Without a dictionary, and strings of whichever type as one type."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        return _plain(array.dictionary).take(array.indices)
    return array.cast(_plain_type(array.type))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.large_string() if pa.types.is_string(kind) or pa.types.is_string_view(kind) else kind


Coded = tuple[np.ndarray, np.ndarray]


def _cast(array: pa.Array, empty: np.ndarray, kind: pa.DataType, here: str) -> pa.Array:
    """The array as the type of training, or the refusal that names a value which cannot be one."""
    import pyarrow as pa

    try:
        return array.cast(kind)
    except (pa.ArrowException, NotImplementedError):
        pass
    for row in np.flatnonzero(~empty):
        try:
            array[int(row) : int(row) + 1].cast(kind)
        except (pa.ArrowException, NotImplementedError):
            where = f"{array[int(row)].as_py()!r} in row {row + 1:,}"
            raise InputError(
                f"{here} holds {where}, and in training it held {kind}; correct it."
            ) from None
    raise InputError(f"{here} is of type {array.type}, and in training was {kind}; convert it.")


def _numbers(array: pa.Array, empty: np.ndarray, kind: pa.DataType, here: str) -> np.ndarray:
    """Whole numbers as they are, all others as float64."""
    import pyarrow as pa

    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    if pa.types.is_integer(array.type):
        whole = array.fill_null(0).to_numpy(zero_copy_only=False)
        return whole if whole.dtype == np.uint64 else whole.astype(np.int64)
    if pa.types.is_temporal(array.type):
        raise InputError(f"{here} holds dates or times, and in training was {kind}; convert it.")
    values = np.where(
        empty, 0, _cast(array, empty, pa.float64(), here).to_numpy(zero_copy_only=False)
    )
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise InputError(
            f"{here} holds {len(infinite):,} infinite values, the first in row {infinite[0] + 1:,}; "
            "replace them or remove those rows."
        )
    return values


def _steps(column: Column, whole: np.ndarray) -> Coded:
    """K of offset + k unit for whole numbers (int64 or uint64), by differences modulo 2**64; which lie between."""
    apart = (whole.astype(np.uint64) - np.uint64(column.offset % 2**64)).view(np.int64)
    unit = np.int64(column.unit)
    steps = apart // unit
    return steps.astype(np.float64), steps * unit != apart


def _code_integer(
    column: Column, array: pa.Array, empty: np.ndarray, kind: pa.DataType, here: str
) -> Coded:
    values = _numbers(array, empty, kind, here)
    if values.dtype.kind != "f":
        return _steps(column, values)
    whole = np.clip(np.rint(values), -(2.0**62), 2.0**62)
    codes, between = _steps(column, whole.astype(np.int64))
    return codes, between | (whole != values)


def _code_float(
    column: Column, array: pa.Array, empty: np.ndarray, kind: pa.DataType, here: str
) -> Coded:
    values = _numbers(array, empty, kind, here).astype(np.float64)
    if not column.unit:
        return values, np.zeros(len(values), dtype=bool)
    own = kind.to_pandas_dtype()
    whole = np.clip(np.rint(values * column.denominator), -(2.0**53), 2.0**53)
    codes, between = _steps(column, whole.astype(np.int64))
    return codes, between | ((whole / column.denominator).astype(own) != values.astype(own))


def _code_decimal(
    column: Column, array: pa.Array, empty: np.ndarray, kind: pa.DataType, here: str
) -> Coded:
    numbers = _cast(array, empty, kind, here).to_pylist()
    unscaled = [0 if number is None else int(number.scaleb(kind.scale)) for number in numbers]
    return _steps(column, np.clip(np.array(unscaled, object), -(2**62), 2**62).astype(np.int64))


def _code_time(
    column: Column, array: pa.Array, empty: np.ndarray, kind: pa.DataType, here: str
) -> Coded:
    import pyarrow as pa

    whole = _cast(array, empty, kind, here).view({32: pa.int32(), 64: pa.int64()}[kind.bit_width])
    return _steps(column, whole.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64))


def _code_boolean(
    column: Column, array: pa.Array, empty: np.ndarray, kind: pa.DataType, here: str
) -> Coded:
    import pyarrow as pa

    if not pa.types.is_large_string(array.type):
        values = _numbers(array, empty, kind, here).astype(np.float64)
        return values, (values != 0) & (values != 1)
    values = _cast(array, empty, kind, here).fill_null(False).to_numpy(zero_copy_only=False)
    return values.astype(np.float64), np.zeros(len(values), dtype=bool)


def _code_category(
    column: Column, array: pa.Array, empty: np.ndarray, kind: pa.DataType, here: str
) -> Coded:
    import pyarrow as pa
    import pyarrow.compute as pc

    own = _plain_type(kind)
    place = pc.index_in(_cast(array, empty, own, here), value_set=pa.array(column.categories, own))  # type: ignore[attr-defined]
    codes = place.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.float64)
    return codes, codes < 0


_CODE: dict[str, Callable[[Any, Any, np.ndarray, Any, str], Coded]] = {
    "integer": _code_integer,
    "time": _code_time,
    "decimal": _code_decimal,
    "float": _code_float,
    "boolean": _code_boolean,
    "category": _code_category,
}


def complete_table(source: Any, transform: Any, form: Any) -> PartialRows:
    """Columns by name, coded as the run's are; see `conform_table.py`."""
    import pyarrow as pa

    from undiffuse.data.tables.column import Column

    table, where = _table(source)
    table = tables.checked(table, where, [], least=1)
    names = [column["name"] for column in form.columns]
    strange = [name for name in table.column_names if name not in names]
    if strange:
        raise InputError(
            f'{where}: column "{strange[0]}" is one that the run was not trained with; remove it.'
        )
    rows, known = (
        np.empty((table.num_rows, len(names))),
        np.zeros((table.num_rows, len(names)), bool),
    )
    for i, (column, support, field) in enumerate(
        zip(form.columns, transform.columns, form.arrow_schema())
    ):
        rows[:, i] = _possible(support)
        if column["name"] not in table.column_names:
            continue
        chunks = table.column(column["name"])
        array = chunks.chunk(0) if chunks.num_chunks == 1 else pa.concat_arrays(chunks.chunks)
        here = f'{where}: column "{column["name"]}"'
        lenient = replace(
            Column(**{**column, "categories": tuple(column["categories"])}), missing="null"
        )
        codes, strange_value = code(lenient, array, field.type, here)
        known[:, i] = ~np.isnan(codes)
        strange_value |= known[:, i] & ~_can_hold(support, codes)
        if strange_value.any():
            row = int(np.flatnonzero(strange_value)[0])
            raise InputError(
                f"{here} holds {array[row].as_py()!r} in row {row + 1:,}, which is none of the values that the run's "
                "data can have; correct it, or leave the cell empty."
            )
        rows[known[:, i], i] = codes[known[:, i]]
    return PartialRows(rows, known)


def _can_hold(support: Mapping[str, Any], codes: np.ndarray) -> np.ndarray:
    """Which codes the column can hold: its levels, or any number in its range."""
    if support["code"] == "number":
        low, high = (
            min([support["low"], *support["atoms"]]),
            max([support["high"], *support["atoms"]]),
        )
        return (codes >= low) & (codes <= high)
    return np.isin(codes, np.array(support.get("values", [support.get("value")]), dtype=np.float64))

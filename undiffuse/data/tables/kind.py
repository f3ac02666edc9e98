"""Tables: files of many formats, folders of parts of one, and data frames.

A row is a vector of float64 codes, one per column; see `columns` for the codes and `transform` for
how they are modelled. New rows, and rows to be completed, are coded by the same columns as those of
training.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from undiffuse.data.cells import need_pyarrow
from undiffuse.data.conditions import ConditionColumn, Conditions
from undiffuse.data.conformed import CheckedRows, Conformed, Problem
from undiffuse.data.folder import Folder
from undiffuse.data.given import MOST_CATEGORIES, Given
from undiffuse.data.kind import Kind
from undiffuse.data.maps import refuse_maps
from undiffuse.data.paths import TEXT_SUFFIXES, WORKBOOK_SUFFIXES, suffix_of
from undiffuse.data.rows import ArrayRows, Loaded
from undiffuse.data.source import Data
from undiffuse.data.tables.binding import bind
from undiffuse.data.tables.breaches import fill_by_rules, note_breaches
from undiffuse.data.tables.columns import (
    COLUMNS,
    Column,
    DayColumn,
    IntegerColumn,
    LeftOut,
    TimeColumn,
    measure_column,
    text_to,
)
from undiffuse.data.tables.days import CLOCK, PLACES
from undiffuse.data.tables.finding import determinations
from undiffuse.data.tables.form import TableForm, schema_to_text
from undiffuse.data.tables.identifier import Identifier
from undiffuse.data.tables.modelled import (
    MODELLED,
    GivenColumn,
    ModelledColumn,
    copies_of,
    measure_model,
    phrase_of,
)
from undiffuse.data.tables.placing import Places, place_levels
from undiffuse.data.tables.rules import RULES, Rule
from undiffuse.data.tables.seen import Seen
from undiffuse.data.tables.stated import Stated, read_rule, refuse_broken
from undiffuse.data.tables.transform import TableTransform
from undiffuse.data.tables.unique import Key, unique_keys
from undiffuse.data.tables.values import Numbering
from undiffuse.errors import InputError, unknown
from undiffuse.interfaces import PartialRows, Progress
from undiffuse.options import AS_IT_IS, ReadingOptions

if TYPE_CHECKING:
    import pyarrow as pa

    from undiffuse.data.tables.opened import TableSource

_FEW = 3  # columns named in a sentence
_NOT_KEPT = "conditions take no part in rules: what holds between them and other columns is learned"
_PARTS = {"y": "year", "m": "month", "d": "day"}
_WRITTEN = {
    **{written: f"days, {', '.join(map(_PARTS.__getitem__, written))}" for written in PLACES},
    CLOCK: "times of day, hours and minutes",
}


@final
class TableKind(Kind):
    """Tables: see `Kind`. pyarrow is imported only when a table is read or presented."""

    name = "tables"
    file_suffixes = (*TEXT_SUFFIXES, ".parquet", ".pq", *WORKBOOK_SUFFIXES)
    accompanies = True
    takes = ("drop", "keep", "types", "rules", "rule", "condition")
    parts: ClassVar[Mapping[str, type]] = {
        "transform": TableTransform,
        "form": TableForm,
        "stated": Stated,
        "identifier": Identifier,
        "key": Key,
        **MODELLED,
        **COLUMNS,
        **RULES,
    }

    @property
    def folder_suffixes(self) -> Collection[str]:
        """Those of its files: a folder of them is one table in parts."""
        return self.file_suffixes

    def reads(self, source: Any) -> bool:
        """Return True for files by their suffix, for what speaks Arrow, and for pandas' objects."""
        if isinstance(source, Path):
            return suffix_of(source) in self.file_suffixes
        return _is_frame(source)

    def read(
        self,
        source: Any,
        *,
        reading: ReadingOptions = AS_IT_IS,
        progress: Progress | None = None,
        whole: bool = True,
    ) -> Loaded:
        """Read a table; see `Kind.read`. Refusals name the table and the column.

        In some rows of a larger one, which is not `whole`, no columns that name each are sought.
        """
        need_pyarrow("reading tables")
        from undiffuse.data.tables.identified import find_identifiers, placed
        from undiffuse.data.tables.read import open_table

        opened = open_table(source, reading=reading, progress=progress)
        read = opened.table.column_names
        opened, identifiers = find_identifiers(opened, reading.wanted.items())
        opened, columns, matrix = _measured(opened, progress)
        schema = opened.table.schema
        facts = _facts(columns, matrix, schema)
        keys = unique_keys(columns, matrix) if whole else ()
        scales = [Numbering.of(column, field.type) for column, field in zip(columns, schema)]
        stated = [read_rule(text, columns, scales, opened.name) for text in reading.rule or ()]
        refuse_broken(stated, matrix, opened.name)
        refuse_maps(opened.name, reading.condition)
        given = _given(opened, columns, matrix, reading.condition or (), stated)
        tree: dict[str, Any] = {"rows": len(matrix), "columns": facts, **_keys(keys, columns)}
        notes = [*opened.notes, *_remarks(opened, columns, matrix)]

        def make_transform(chunks: Callable[[], Iterator[np.ndarray]]) -> TableTransform:
            rows = np.concatenate(list(chunks()))
            places = place_levels(columns, rows)
            models = _models(opened, columns, rows, {one.name for one in given}, places)
            seen = Seen(columns, [field.type for field in schema], models, rows, places)
            rules = bind(seen, search=reading.rules is not False, stated=stated)
            for fact, model, column, field in zip(facts, models, columns, schema):
                fact["modelled as"] = phrase_of(model, column, field.type)
            if given and reading.rules is not False:
                notes.append(_unkept(opened, seen, {one.name for one in given}))
            _tell_rules(rules, tree, notes, opened.name)
            return TableTransform(columns=models, rules=rules, stated=stated)

        return Loaded(
            kind=self.name,
            rows=ArrayRows(matrix),
            names=range(1, len(matrix) + 1),
            form=TableForm(
                library=opened.library,
                schema=schema_to_text(schema),
                columns=columns,
                delimiter=opened.delimiter,
                left_out=opened.left_out,
                identifiers=placed(identifiers, read, opened.table.column_names),
                keys=[Key.of(matrix, key) for key in keys],
            ),
            make_transform=make_transform,
            name=opened.name,
            path=_path_of(source),
            fingerprint=_fingerprint(opened, columns, matrix, given=given),
            given=given,
            notes=notes,
            facts=tree,
        )

    def conform(
        self, source: Any, config: Mapping[str, Any], *, progress: Progress | None = None
    ) -> Conformed:
        """Code each column as in training; see `Kind.conform`.

        A category or a level that no training row has, and a value between two steps of their grid,
        has a small probability, and its row a note. A cell that no value of its column is, or that
        is empty where none was in training, makes its row a `Problem`. Rows are called by their
        numbers, from 1 as in all messages.
        """
        transform, form, _ = self.restore(config)
        opened, own = open_for_run(source, form), Conditions.restore(config)
        _check_names(form, own, opened)
        matrix = np.empty((opened.table.num_rows, len(form.columns)))
        problems = {row: Problem(math.nan, reason) for row, reason in opened.odd.items()}
        columns = list(zip(form.columns, transform.columns, form.arrow_schema()))
        for i, (column, model, field) in enumerate(columns):
            if column.name not in opened.table.column_names:
                matrix[:, i] = np.nan  # a condition that is not known
                continue
            array = opened.column(column.name)
            where = opened.where(column.name)
            some = opened.part or array.null_count < len(array)  # a row may lack what others have
            codes, unlike = column.encode(array, field.type, where, gaps=some)
            if own and column.name in own.names:
                matrix[:, i] = np.where(unlike, np.nan, codes)
                for row in np.flatnonzero(unlike).tolist():
                    reason = f'condition "{column.name}": the model knows no {array[row].as_py()!r}'
                    problems.setdefault(row, Problem(math.nan, reason))
                continue
            codes[unlike] += 0.5  # between two codes, whatever the sort of column
            empty = np.isnan(codes)
            if column.missing == "no":
                lacks = f'column "{column.name}": is empty, and in training it never was'
                for row in np.flatnonzero(empty).tolist():
                    problems.setdefault(row, Problem(math.nan, lacks))
                codes[empty] = model.some_code
            for row in np.flatnonzero(~model.expects(codes) & ~empty).tolist():
                reason = f'column "{column.name}": the training rows hold no {array[row].as_py()!r}'
                problems.setdefault(row, Problem.unseen(reason))
            matrix[:, i] = codes
            if progress is not None:
                progress(i + 1, len(columns), "columns")
        note_breaches(transform, matrix, problems)
        return Conformed(
            CheckedRows(ArrayRows(matrix), problems),
            range(1, len(matrix) + 1),
            name=opened.name,
            fingerprint=_fingerprint(opened, form.columns, matrix, problems),
            vector=_vectors(own, opened, matrix),
            notes=opened.notes,
        )

    def complete(self, source: Any, config: Mapping[str, Any]) -> PartialRows:
        """Return rows known where a cell is filled; see `Kind.complete`."""
        transform, form, _ = self.restore(config)
        opened = open_for_run(source, form, drawn=True)
        if opened.odd:
            row, reason = next(iter(opened.odd.items()))
            raise InputError(f"{opened.name}: {reason}, in row {row + 1:,}; correct it.")
        names = [column.name for column in form.columns]
        _refuse_others(opened.table.column_names, names, opened.name)
        rows = np.empty((opened.table.num_rows, len(names)))
        known = np.zeros(rows.shape, dtype=bool)
        notes = [*opened.notes]
        columns = zip(form.columns, transform.columns, form.arrow_schema())
        for i, (column, model, field) in enumerate(columns):
            rows[:, i] = model.some_code
            if column.name not in opened.table.column_names:
                continue
            array, where = opened.column(column.name), opened.where(column.name)
            codes, impossible = column.encode(array, field.type, where, gaps=True)
            known[:, i] = ~np.isnan(codes)
            if impossible.any():
                row = int(np.flatnonzero(impossible)[0])
                raise InputError(
                    f"{where} holds {array[row].as_py()!r} in row {row + 1:,}, which is none of "
                    "the values that the run's data can have; correct it, or leave the cell empty."
                )
            rows[known[:, i], i] = codes[known[:, i]]
            notes += _rounding(column, array, codes, field.type, where)
            beyond = known[:, i] & (model.nearest(codes) != codes)
            odd = known[:, i] & (beyond | ~model.expects(codes))
            notes += [
                f"{where} holds {array[row].as_py()} in row {row + 1:,}, and no training row has "
                "such a value; it is kept, and the others are drawn as for "
                + ("the nearest that one has." if beyond[row] else "a rare one.")
                for row in np.flatnonzero(odd)[:1].tolist()
            ]
        notes += fill_by_rules(transform, rows, known, opened.name)
        own, near = Conditions.restore(config), rows.copy()
        for i, model in enumerate(transform.columns):
            near[known[:, i], i] = model.nearest(rows[known[:, i], i])
        shared = {"vector": _vectors(own, opened, rows), "exact": rows}
        return PartialRows(near, known, tuple(notes), **shared)

    def ask(self, where: Any, config: Mapping[str, Any]) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the conditions in `where` as vectors; each column reads text as it does cells."""
        _, form, _ = self.restore(config)
        need_pyarrow("conditions of a table")
        import pyarrow as pa

        from undiffuse.data.tables.text import cells_to, is_text

        by_name = {c.name: (c, field) for c, field in zip(form.columns, form.arrow_schema())}

        def code(condition: ConditionColumn, values: Sequence[Any]) -> np.ndarray:
            column, field = by_name[condition.name]
            cells = [None if value is None or value != value else value for value in values]
            place = f'where: column "{condition.name}"'
            try:
                array = pa.array(cells)
            except pa.ArrowException:  # of several types
                array = pa.array([None if one is None else str(one) for one in cells])
            if is_text(array.type):
                read = cells_to(array, field, column.categories)
                array = array if read.odd else read.values
            if array.null_count == len(array):
                return np.full(len(array), np.nan)
            codes, unlike = column.encode(array, field.type, place, gaps=True)
            if not unlike.any():
                return codes
            strange = array[int(np.flatnonzero(unlike)[0])].as_py()
            if column.size:
                known = column.texts(np.arange(float(column.size)), field.type)
                raise unknown("where:", condition.name, str(strange), known)
            raise InputError(
                f"{place} holds {strange!r}, which lies between the steps of its values, from "
                f"{condition.said}; round it."
            )

        own = Conditions.restore(config)
        assert own is not None
        return own.ask(where, code)


def codes_in(source: TableSource, form: TableForm) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (n, columns) in the codes of a form's columns, and which cannot be used, (n,).

    Those have an infinite number, a missing value where none was in what was measured, or text that
    is no value of its column. A category that is none of a column, and a value between two steps of
    its grid, have a code between two others, which is that of a value not seen.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    opened = open_for_run(source, form)
    rows = np.empty((opened.table.num_rows, len(form.columns)))
    bad = np.zeros(len(rows), dtype=bool)
    bad[list(opened.odd)] = True
    for i, (column, field) in enumerate(zip(form.columns, form.arrow_schema())):
        array = opened.column(column.name)
        if pa.types.is_floating(array.type):
            infinite = pc.is_inf(array).fill_null(False)  # type: ignore[attr-defined]
            array = pc.if_else(infinite, None, array)  # type: ignore[attr-defined]
            bad |= np.asarray(infinite)
        codes, unlike = column.encode(array, field.type, opened.where(column.name), gaps=True)
        codes[unlike] += 0.5
        if column.missing == "no":
            bad |= np.isnan(codes)
        rows[:, i] = codes
    return rows, bad


def _models(
    opened: TableSource,
    columns: Sequence[Column],
    rows: np.ndarray,
    given: Collection[str],
    places: Mapping[int, Places],
) -> list[ModelledColumn]:
    """Return how each column of training rows is modelled; some are given."""
    copies = copies_of(rows)
    models = [
        GivenColumn(name=column.name)
        if column.name in given
        else measure_model(column, codes, field.type, copies, places.get(i))
        for i, (column, codes, field) in enumerate(zip(columns, rows.T, opened.table.schema))
    ]
    if not any(model.width for model in models):
        raise InputError(
            f"{opened.name}: every column holds one value in all training rows; there is nothing "
            "to learn from."
        )
    return models


def _given(
    opened: TableSource,
    columns: Sequence[Column],
    matrix: np.ndarray,
    names: Sequence[str],
    stated: Sequence[Stated],
) -> tuple[Given, ...]:
    """Return the columns of these names as conditions."""
    known = [column.name for column in columns]
    for name in names:
        if name in opened.left_out:
            raise InputError(
                f"{opened.where(name)} is left out of the data, so it cannot be a condition; "
                "undiffuse info says why."
            )
        if name not in known:
            raise unknown(f"{opened.name}: --condition", "column", name, known)
    if names and set(names) == set(known):
        raise InputError(
            f"{opened.name}: --condition names all columns; leave at least one to be drawn."
        )
    given = []
    for name in dict.fromkeys(names):
        column, field = columns[known.index(name)], opened.table.schema.field(name)
        if column.size > MOST_CATEGORIES:
            raise InputError(
                f"{opened.where(name)} has {column.size:,} categories, too many for a condition; "
                f"give at most {MOST_CATEGORIES}."
            )
        texts = tuple(column.texts(np.arange(float(column.size)), field.type))
        codes, place = matrix[:, known.index(name)], known.index(name)
        if any(place in rule.places for rule in stated):
            raise InputError(
                f"{opened.name}: --data.rule compares {name}, which is a condition; leave it out "
                "of one of the two."
            )
        said = "" if column.size else column.summary(codes, field.type)
        given.append(Given(name=name, codes=codes, categories=texts, place=place, said=said))
    return tuple(given)


def _unkept(opened: TableSource, seen: Seen, given: set[str]) -> str:
    """Return a note on the rules that conditions are part of, of which some are named."""
    models = [
        measure_model(column, codes, own) if column.name in given else model
        for column, codes, own, model in zip(seen.columns, seen.codes.T, seen.types, seen.models)
    ]
    every = Seen(seen.columns, seen.types, models, seen.codes, seen.places)
    found = {  # what conditions determine; else what determines them
        rule.name: f'that "{rule.name}" {rule.phrase}'
        for rule in determinations(every)
        if given & {rule.name, *rule.of}
    }
    found = {name: told for name, told in found.items() if name not in given} or found
    shown = "; ".join([*found.values()][:_FEW])
    shown += f"; and {len(found) - _FEW} more" if len(found) > _FEW else ""
    return f"{opened.name}: {_NOT_KEPT}, and not kept exactly{': ' * bool(found)}{shown}."


def _vectors(own: Conditions | None, opened: TableSource, matrix: np.ndarray) -> np.ndarray | None:
    """Return the condition vectors of rows; None where the table has no column of conditions."""
    if own is None or not set(own.names) & set(opened.table.column_names):
        return None
    return own.encode(matrix[:, own.places])


def _tell_rules(rules: Sequence[Rule], tree: dict[str, Any], notes: list[str], name: str) -> None:
    """Write rules into the facts on a table, and a note on how many columns they bind."""
    for fact in tree["columns"]:
        phrases = [rule.phrase for rule in rules if rule.name == fact["name"]]
        fact["modelled as"] = phrases[0] if phrases else fact["modelled as"]
    told = {rule.name: rule.phrase for rule in rules if rule.holds}
    if not told:
        return
    tree["rules"] = [{"column": name, "rule": phrase} for name, phrase in told.items()]
    shown = "; ".join(f'"{name}" {phrase}' for name, phrase in [*told.items()][:_FEW])
    more = f"; and {len(told) - _FEW} more (see undiffuse info)" if len(told) > _FEW else ""
    notes.append(
        f"{name}: rules that hold in all training rows are kept in samples: {shown}{more}; "
        "--data.rules false turns this off."
    )


def _rounding(
    column: Column, array: pa.Array, codes: np.ndarray, own: pa.DataType, where: str
) -> list[str]:
    """Return a note if values of a column come back as others, such as of fewer decimals."""
    if column.size:
        return []
    import pyarrow.compute as pc

    back, values = column.decode(codes, own), text_to(array, own)
    same = pc.equal(back, values) if values is not None else None  # type: ignore[attr-defined]
    changed = (
        [] if same is None else np.flatnonzero(~np.isnan(codes) & ~np.asarray(same.fill_null(True)))
    )
    have, are = ("value has", "is") if len(changed) == 1 else ("values have", "are")
    return [
        f"{where}: {len(changed):,} {have} more digits than the run's data and {are} rounded: in "
        f"row {row + 1:,}, {array[row].as_py()} becomes {back[row].as_py()}."
        for row in map(int, changed[:1])
    ]


def _is_frame(source: Any) -> bool:
    """Return whether this is a data frame or an Arrow table, without importing its library."""
    return (
        hasattr(source, "__arrow_c_stream__")  # how any library offers its tables to Arrow
        or type(source).__module__.partition(".")[0] == "pandas"
    )


def _facts(
    columns: Sequence[Column], matrix: np.ndarray, schema: pa.Schema
) -> list[dict[str, Any]]:
    """Return what `info` says of each column."""
    return [
        {
            "name": column.name,
            "type": _type_name(field.type),
            "missing": int(np.isnan(codes).sum()),
            "values": column.summary(codes, field.type),
        }
        for column, codes, field in zip(columns, matrix.T, schema)
    ]


def _keys(keys: Sequence[Sequence[int]], columns: Sequence[Column]) -> dict[str, Any]:
    """Return what `info` says of columns that name the rows together; nothing of none."""
    named = [" + ".join(columns[i].name for i in key) for key in keys]
    return {"unique_keys": named} if named else {}


def _type_name(arrow_type: pa.DataType) -> str:
    """Return what a type is called; of a dictionary, by its values."""
    values = getattr(arrow_type, "value_type", None)  # lists have one too, and are not modelled
    return str(arrow_type) if values is None else f"category of {values}"


def _path_of(source: Any) -> str | None:
    """Return what `load` takes to read a source again, if it is no frame."""
    place = source.path if isinstance(source, Folder) else source
    return str(place) if isinstance(place, Path) else None


def _measured(
    opened: TableSource, progress: Progress | None
) -> tuple[TableSource, list[Column], np.ndarray]:
    """Return the table of what is modelled, its columns, and their codes."""
    names = opened.table.column_names
    columns, codes, left_out = [], [], {}
    for i, name in enumerate(names):
        array, where = opened.column(name), opened.where(name)
        try:
            column = measure_column(name, array, where)
            code, _ = column.encode(array, array.type, where)
            if not name.strip() and _counts_rows(column, code):
                raise LeftOut(f"{where} counts the rows and has no name")
        except LeftOut as problem:
            left_out[name] = problem
        else:
            columns.append(column)
            codes.append(code)
        if progress is not None:
            progress(i + 1, len(names), "columns")
    if not columns and left_out:
        raise next(iter(left_out.values()))
    if not columns:
        raise InputError(f"{opened.name}: every column names the rows; there is nothing to learn.")
    if all(np.all(code == code[0]) for code in codes):
        raise InputError(
            f"{opened.name}: every column holds one value in all rows; there is nothing to learn "
            "from."
        )
    notes = [f"{problem.reason}; it is left out." for problem in left_out.values()]
    return opened.without(left_out, *notes), columns, np.stack(codes, 1)


def _counts_rows(column: Column, codes: np.ndarray) -> bool:
    """Return whether a column of whole numbers holds each of as many as there are rows."""
    counts = isinstance(column, IntegerColumn) and len(codes) >= 20
    return counts and np.array_equal(np.sort(codes), np.arange(len(codes)))


def _remarks(opened: TableSource, columns: Sequence[Column], matrix: np.ndarray) -> list[str]:
    """Return notes on columns that count the rows, are days, or are rounded."""
    remarks = [
        (_counts_rows, "counts the rows; remove it unless that is meant"),
        *(
            (
                lambda column, _, written=written: (
                    isinstance(column, DayColumn) and column.written == written
                ),
                f"is read as {meaning}",
            )
            for written, meaning in _WRITTEN.items()
        ),
        (
            lambda column, _: isinstance(column, TimeColumn) and column.rounded,
            "has more steps than float64 tells apart; its last three or more digits are rounded",
        ),
    ]
    return [
        f"{opened.where(column.name)} {remark}."
        for applies, remark in remarks
        for column, codes in zip(columns, matrix.T)
        if applies(column, codes)
    ]


def _fingerprint(
    opened: TableSource,
    columns: Sequence[Column],
    matrix: np.ndarray,
    problems: Mapping[int, Problem] | None = None,
    given: Sequence[Given] = (),
) -> str:
    """Return a name for the content of a table, whatever file it came from, and its conditions."""
    digest = hashlib.sha256(schema_to_text(opened.table.schema).encode())
    digest.update(
        repr([*columns, *sorted((problems or {}).items()), *(g.name for g in given)]).encode()
    )
    digest.update(matrix.data)
    return digest.hexdigest()[:16]


def open_for_run(source: Any, form: TableForm, *, drawn: bool = False) -> TableSource:
    """Return the table of a file, a frame, or a `Data` of a table, without what the run left out.

    Text is read as the run's columns were. Where rows are `drawn` for these, a note says which of
    their columns samples get other values in.
    """
    need_pyarrow("reading tables")
    from undiffuse.data.tables.opened import TableSource
    from undiffuse.data.tables.read import open_table

    if isinstance(source, Data) and isinstance(source.form, TableForm):
        rows = source.loaded.rows.take(np.arange(len(source.loaded.rows)))
        return TableSource(source.form.table(rows), source.name)
    if isinstance(source, str | os.PathLike):
        source = Path(source)
    elif not _is_frame(source) and not isinstance(source, TableSource):
        raise InputError(
            f"data: the run was trained on a table, and this is a {type(source).__name__}; give a "
            "table."
        )
    fields = zip(form.columns, form.arrow_schema())
    like = {column.name: (field, column.categories) for column, field in fields}
    opened = open_table(source, like=like)
    others = [name for name in form.left_out if name in opened.table.column_names]
    anew = [one for one in form.identifiers if one.name in others]
    notes = [f"{opened.where(one.name)} names the rows: samples get new values." for one in anew]
    table = opened.table.drop_columns(others)
    return replace(opened, table=table, notes=(*opened.notes, *(notes if drawn else ())))


def _check_names(form: TableForm, own: Conditions | None, opened: TableSource) -> None:
    """Refuse a table that lacks columns of the run other than conditions, or has others."""
    names, found = [column.name for column in form.columns], opened.table.column_names
    conditions = () if own is None else own.names
    lacking = [name for name in names if name not in (*found, *conditions)]
    if lacking:
        verb = "is missing"
        raise InputError(f"{opened.name}: {_named(lacking, verb)}; the run was trained with it.")
    _refuse_others(found, names, opened.name)


def _refuse_others(found: list[str], needed: list[str], where: str) -> None:
    others = [name for name in found if name not in needed]
    if others:
        verb = "is one that the run was not trained with"
        raise InputError(f"{where}: {_named(others, verb)}; remove it.")


def _named(names: list[str], verb: str) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:_FEW]) + ", ..." * (len(names) > _FEW)
    return f"column {shown} {verb}" + (f" ({len(names)} such columns)" if len(names) > 1 else "")

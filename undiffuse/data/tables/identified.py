"""Find identifiers: columns that name the rows.

No value of an identifier is missing or repeats. Whole numbers are taken for identifiers only if the
column has a name such as id or key, and texts only if they are UUIDs or counters such as ID00017.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as _compute

from undiffuse.data.tables.identifier import Identifier
from undiffuse.data.tables.opened import TableSource
from undiffuse.data.tables.text import IDENTIFIER, is_text
from undiffuse.errors import InputError

pc: Any = _compute  # its functions are made at run time

FEWEST = 20  # rows, in which that no value repeats means something
_UUID = r"^(?:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12})$"
_COUNTER = re.compile(r"(\D*)(0|[1-9]\d{0,17}|0\d{1,17})(\D*)")
_WORDS = {"id", "ids", "uid", "uuid", "guid", "pk", "identifier"}  # of which one is in the name
_NAMES = {"index", "idx", "key", "row", "rowid", "rownum", "row number", "row nr", "record number"}
_WHOSE = "user|customer|client|account|patient|subject|person|member|employee|student|passenger"
_WHAT = "order|item|product|record|row|case|sample|transaction|session|device|event|house|store"
_JOINED = re.compile(rf"({_WHOSE}|{_WHAT})ids?")


def find_identifiers(
    source: TableSource, wanted: Iterable[tuple[str, str]]
) -> tuple[TableSource, list[Identifier]]:
    """Return the table without its identifiers, and these.

    Args:
        source: the table.
        wanted: pairs of a column and the type that its owner says it has.

    Raises:
        InputError: a column that is said to be an identifier repeats a value, or cannot be one.
    """
    types, found = dict(wanted), []
    for name in source.table.column_names:
        if name in types and types[name] != IDENTIFIER:
            continue
        array, said = source.column(name), name in types
        identifier = None
        if said or (len(array) >= FEWEST and (is_text(array.type) or _is_called_one(name))):
            identifier = _identifier(name, array)
        if identifier is not None:
            found.append(identifier)
        elif said:
            raise InputError(
                f"{source.where(name)} is not an identifier: it repeats or lacks values, or is "
                "not of whole numbers, counters (ID0017) or UUIDs; give text to leave it out."
            )
    notes = [_note(source, one) for one in found if one.name not in types]
    return source.without([one.name for one in found], *notes), found


def _note(source: TableSource, one: Identifier) -> str:
    text = one.arrow_type.endswith("string")
    advice = "text leaves it out" if text else "number models it"
    return (
        f"{source.where(one.name)} names the rows: it is left out of the model, and samples get "
        f"new values, {one.meaning}, in their order; --data.types {one.name}={advice}."
    )


def placed(identifiers: Iterable[Identifier], read: list[str], modelled: list[str]) -> list[Any]:
    """Return identifiers with their places among the columns that were read and are presented."""
    identifiers = list(identifiers)
    shown = {*modelled, *(one.name for one in identifiers)}
    order = [name for name in read if name in shown]
    return [replace(one, place=order.index(one.name)) for one in identifiers]


def _is_called_one(name: str) -> bool:
    """Return whether the name of a column says that it names rows.

    >>> [*map(_is_called_one, ("PassengerId", "user_id", "orderid", "paid", "grid"))]
    [True, True, True, False, False]
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    joined = any(_JOINED.fullmatch(word) for word in words)
    return joined or bool(_WORDS.intersection(words)) or " ".join(words) in _NAMES


def _identifier(name: str, array: pa.Array) -> Identifier | None:
    """Return how new values of a column are made, if no value repeats or is missing."""
    whole = pa.types.is_integer(array.type)
    if not (whole or is_text(array.type)) or array.null_count or len(array) < 2:
        return None
    if pc.count_distinct(array).as_py() < len(array):
        return None
    kind = str(array.type)
    if whole:
        return _counting(Identifier(name=name, arrow_type=kind), array.to_pylist())
    if pc.all(pc.match_substring_regex(array, _UUID)).as_py():
        digest = hashlib.sha256("\n".join(sorted(array.to_pylist())).encode()).hexdigest()
        upper = array[0].as_py() != array[0].as_py().lower()
        return Identifier(name=name, arrow_type=kind, salt=digest[:32], upper=upper)
    parts = [_COUNTER.fullmatch(text) for text in array.to_pylist()]
    matches = [part.groups() for part in parts if part]
    if len(matches) < len(parts) or len({(before, after) for before, _, after in matches}) > 1:
        return None
    (before, _, after), digits = matches[0], [number for _, number, _ in matches]
    widths, padded = {len(number) for number in digits}, any(n[0] == "0" != n for n in digits)
    if (padded and len(widths) > 1) or not (before.strip() or _is_called_one(name)):
        return None
    width = min(widths) if padded else 1
    texts = Identifier(name=name, arrow_type=kind, before=before, after=after, digits=width)
    return _counting(texts, map(int, digits))


def _counting(one: Identifier, numbers: Iterable[int]) -> Identifier:
    """Return it with the number after the largest, and the step."""
    ordered = np.array(sorted(numbers), dtype=object)
    unit = int(np.gcd.reduce(np.diff(ordered)))
    return replace(one, first=int(ordered[-1]) + unit, unit=unit)

"""Conditions as they are read: columns of values, and maps, one of each for each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from undiffuse.errors import InputError
from undiffuse.interfaces import Rows
from undiffuse.reading import number_in

MOST_CATEGORIES = 100  # of a condition; with more of them it is an identifier or free text


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

    @property
    def note(self) -> str:
        """What is not known of it, in a sentence; empty if all is."""
        empty = int(np.isnan(self.codes).sum())
        return (
            f"condition {self.name}: is missing in {empty:,} of {len(self.codes):,} rows, which "
            "the model learns as not known."
            if empty
            else ""
        )

    @classmethod
    def of(cls, name: str, values: Sequence[Any] | np.ndarray, where: str) -> Given:
        """Return the column of values (N,): of numbers if all are, else of categories.

        Raises:
            InputError: for infinite values, none at all, and too many categories.
        """
        found = [plain(value) for value in values]
        known = [value for value in found if value is not None]
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
        coded = np.full(len(found), np.nan)
        coded[[value is not None for value in found]] = numbers
        return cls(name=name, codes=coded, categories=categories)


@final
@dataclass(frozen=True, kw_only=True)
class GivenMap:
    """A map as it was read.

    Args:
        name: its name.
        rows: (N, C, *S), NaN where it is not known.
        contents: the arrays that hold them, for the fingerprint.
        classes: the values of classes, ascending; empty for numbers.
        note: what is not known of it, in a sentence; empty if all is.
    """

    name: str
    rows: Rows
    contents: tuple[np.ndarray | None, ...]
    classes: tuple[int, ...] = ()
    note: str = ""


def plain(value: Any) -> Any:
    """Return a number, text or None, for what is empty."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return value.strip() if isinstance(value, str) else value

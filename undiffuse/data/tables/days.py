"""Days that are written as whole numbers, such as 20241231, <-> days since 1970."""

from __future__ import annotations

import numpy as np

LAST_DAY = 9999_12_31
PLACES = {"ymd": (10_000, 100, 1), "dmy": (1_000_000, 10_000, 1), "mdy": (1_000_000, 10_000, 1)}
"""The value of a one in each part of a day that is written as a whole number, by their order."""


def days_written(whole: np.ndarray) -> str | None:
    """Return the first order in which all of several whole numbers are days from 1800 on.

    A year at the end is one from 1900 to 2100, of eight different days at the least.
    """
    if whole.min() == whole.max() or whole.min() < 0 or whole.max() > LAST_DAY:
        return None
    if whole.min() >= 1800_00_00 and not days_of(whole, "ymd")[1].any():
        return "ymd"
    years = whole % 10_000
    if years.min() < 1900 or years.max() > 2100 or len(np.unique(whole)) < 8:
        return None
    orders = (written for written in ("dmy", "mdy") if not days_of(whole, written)[1].any())
    return next(orders, None)


def days_of(whole: np.ndarray, written: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the days since 1970 of whole numbers such as yyyymmdd, and which are no days."""
    whole = whole.astype(np.int64)
    parts = {
        part: whole // place % (10_000 if part == "y" else 100)
        for part, place in zip(written, PLACES[written])
    }
    year, month, day = (parts[part] for part in "ymd")
    none = (year < 1) | (whole > 99_99_99_99) | (month < 1) | (month > 12) | (day < 1)
    months = (np.clip(year, 1, 9999) - 1970) * 12 + np.clip(month, 1, 12) - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]")
    days = first + (day - 1)
    none |= days.astype("datetime64[M]") != first.astype("datetime64[M]")
    return days.astype(np.int64), none

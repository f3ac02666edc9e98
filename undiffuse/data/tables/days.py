"""Days and times of day that are written as whole numbers <-> days since 1970, minutes.

20241231 is a day, and 1745 a time of day, as timetables write it.
"""

from __future__ import annotations

import numpy as np

LAST_DAY = 9999_12_31
CLOCK = "hm"
PLACES = {"ymd": (10_000, 100, 1), "dmy": (1_000_000, 10_000, 1), "mdy": (1_000_000, 10_000, 1)}
"""The value of a one in each part of a day that is written as a whole number, by their order."""


def days_written(whole: np.ndarray) -> str | None:
    """Return the first order in which all of several whole numbers are days from 1800 on.

    A year at the end is one from 1900 to 2100, of eight different days at the least; "hm" for
    times of day.
    """
    if whole.min() == whole.max() or whole.min() < 0 or whole.max() > LAST_DAY:
        return None
    if _are_clocks(whole):
        return CLOCK
    if whole.min() >= 1800_00_00 and not days_of(whole, "ymd")[1].any():
        return "ymd"
    years = whole % 10_000
    if years.min() < 1900 or years.max() > 2100 or len(np.unique(whole)) < 8:
        return None
    orders = (written for written in ("dmy", "mdy") if not days_of(whole, written)[1].any())
    return next(orders, None)


def _are_clocks(whole: np.ndarray) -> bool:
    """Return whether whole numbers are times of day: 30 different ones of six hours, or more.

    Their last two digits are then at least six different numbers, and all below 60: of 30 numbers
    of any other meaning that is less likely than one in a million.
    """
    if whole.max() > 2400:
        return False
    values = np.unique(whole)
    hours, minutes = np.unique(values // 100), np.unique(values % 100)
    several = len(values) >= 30 and len(hours) >= 6 and len(minutes) >= 6
    return several and not days_of(values, CLOCK)[1].any()


def days_of(whole: np.ndarray, written: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the days since 1970 of whole numbers such as yyyymmdd, and which are no days.

    Of times of day: the minutes since midnight.
    """
    whole = whole.astype(np.int64)
    if written == CLOCK:
        minutes = whole // 100 * 60 + whole % 100
        return minutes, (whole < 0) | (whole % 100 >= 60) | (whole > 2400)
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


def whole_of(days: np.ndarray, written: str) -> np.ndarray:
    """Return the whole numbers that days since 1970, or minutes since midnight, are written as."""
    if written == CLOCK:
        return days // 60 * 100 + days % 60
    day_of = days.astype("datetime64[D]")
    months, years = day_of.astype("datetime64[M]"), day_of.astype("datetime64[Y]")
    parts = {
        "y": years.astype(np.int64) + 1970,
        "m": (months - years).astype(np.int64) + 1,
        "d": (day_of - months).astype(np.int64) + 1,
    }
    placed = [parts[part] * place for part, place in zip(written, PLACES[written])]
    return np.sum(placed, axis=0)

"""Durations as text: "26:03:04.5" <-> a number of units."""

from __future__ import annotations

import re

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_CLOCK = re.compile(r"([-+]?)(?:(\d+) days? )?(\d+):([0-5]\d):([0-5]\d)(?:\.(\d{1,9}))?")


def read_duration(text: str | None, unit: str) -> int | None:
    """Return the units that "1 day 02:03:04.5", or "-26:03:04", lasts; a bare number counts them.

    Raises ValueError if it is neither, or between two units.

    >>> read_duration("1 day 02:00:00.5", "ms"), read_duration("250", "us")
    (93600500, 250)
    """
    clock = None if text is None else _CLOCK.fullmatch(text)
    if clock is None:
        return None if text is None else int(text)
    sign, days, hours, minutes, seconds, rest = (part or "0" for part in clock.groups())
    whole = ((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(seconds)
    units, between = divmod(int(rest.ljust(9, "0")) * _PER_SECOND[unit], 10**9)
    if between:
        raise ValueError(text)
    return (whole * _PER_SECOND[unit] + units) * (-1 if sign == "-" else 1)


def duration_text(count: int, unit: str) -> str:
    """Return a number of units as hours, minutes and seconds, which can be read again.

    >>> duration_text(-95_000_500_000, "us"), duration_text(90, "s")
    ('-26:23:20.5', '00:01:30')
    """
    whole, rest = divmod(abs(count), _PER_SECOND[unit])
    digits = len(str(_PER_SECOND[unit])) - 1
    decimals = f".{rest:0{digits}}".rstrip("0") if rest else ""
    clock = f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
    return "-" * (count < 0) + clock + decimals

"""Lengths of time as people write them: 90, "90s", "10m", "1.5h", "1h30m", "2d"."""

from __future__ import annotations

import math
import re

from undiffuse.errors import InputError

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "": 1.0}
_PART = r"(\d+(?:\.\d+)?|\.\d+)\s*(d|h|min|m|s|)\s*"


def parse_duration(text: str | float | int, what: str = "budget") -> float:
    """Return a duration in seconds.

    Args:
        text: a number of seconds, or text such as "90s", "10m", "1h30m".
        what: is so long, for messages.

    Raises:
        InputError: it is not a duration, or not a positive and finite one.

    >>> parse_duration("1h30m"), parse_duration("1.5h"), parse_duration("90 s"), parse_duration(90)
    (5400.0, 5400.0, 90.0, 90.0)
    >>> parse_duration("soon")
    Traceback (most recent call last):
    undiffuse.errors.InputError: budget soon: not a duration; write 90s, 10m or 1h30m.
    """
    written = str(text).strip().lower()
    if not isinstance(text, str):
        total = float(text)
    elif re.fullmatch(f"({_PART})+", written) and not re.search(r"\d\s+[\d.]", written):
        total = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, written))
    else:
        total = math.nan
    if math.isnan(total):
        raise InputError(f"{what} {text}: not a duration; write 90s, 10m or 1h30m.")
    if not 0 < total < math.inf:
        raise InputError(f"{what} {text}: must be positive and finite; write 90s, 10m or 1h30m.")
    return total


def format_duration(seconds: float | int) -> str:
    """Write a number of seconds with at most two units.

    >>> format_duration(5400), format_duration(61.2), format_duration(9), format_duration(172800)
    ('1h30m', '1m1s', '9s', '2d')
    """
    left, parts = round(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"

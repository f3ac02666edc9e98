"""Lengths of time as people write them: 90, "90s", "10m", "1.5h", "1h30m", "2d"."""

from __future__ import annotations

import math
import re

from undiffuse.errors import InputError

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "": 1.0}
_PART = r"(\d+(?:\.\d+)?|\.\d+)\s*(d|h|min|m|s|)\s*"


def seconds(text: str | float | int) -> float:
    """The duration in seconds; a bare number is seconds. Raises InputError for what is none, or not positive.

    >>> seconds("1h30m"), seconds("1.5h"), seconds("90 s"), seconds(90)
    (5400.0, 5400.0, 90.0, 90.0)
    >>> seconds("soon")
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
    if not math.isfinite(total) and not math.isinf(total):
        raise InputError(f"budget {text}: not a duration; write 90s, 10m or 1h30m.")
    if total <= 0 or math.isinf(total):
        raise InputError(
            f"budget {text}: a budget is longer than nothing; write 90s, 10m or 1h30m."
        )
    return total


def words(duration: float | int) -> str:
    """Seconds as a person would say them, in two units at most.

    >>> words(5400), words(61.2), words(9), words(172800)
    ('1h30m', '1m1s', '9s', '2d')
    """
    left, parts = round(duration), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"

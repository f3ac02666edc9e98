"""Numbers as people read them: digits by the error, thousands apart, a dash for the unknown.

A value is written to two significant digits of the half width of its interval, and so are the ends
of the interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

DASH = "–"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MOST = 6  # decimals; smaller numbers take a power of ten, and so do those from
_LARGE = 1e9  # on

FigureFacts = Mapping[str, Any]
"""value, low, high, stderr, n, floor, warning, better; any number may be None."""


def is_figure(fact: object) -> bool:
    """Return whether a fact is a figure: a number with its interval."""
    return isinstance(fact, Mapping) and {"value", "low", "high"} <= fact.keys()


def is_known(fact: object) -> TypeGuard[float]:
    """Return whether a fact is a finite number."""
    return isinstance(fact, int | float) and not isinstance(fact, bool) and math.isfinite(fact)


def known_ones(numbers: Iterable[Any]) -> list[float]:
    """Return those of some facts that are finite numbers."""
    return [float(number) for number in numbers if is_known(number)]


def decimals(figure: FigureFacts) -> int:
    """Return the number of decimals of its value and interval: two digits of the half width.

    >>> decimals({"value": 12.345, "low": 11.9, "high": 12.8})
    2
    """
    low, high, value = figure["low"], figure["high"], figure["value"]
    half = (high - low) / 2 if is_known(low) and is_known(high) else 0.0
    if half > 0:
        return max(0, 1 - math.floor(math.log10(half)))
    if not is_known(value) or value == round(value):
        return 0
    return max(0, 2 - math.floor(math.log10(abs(value))))


def number(value: object, places: int | None = None) -> str:
    """Write a number with `places` decimals, or three significant digits; a dash if there is none.

    >>> number(12345.678, 1), number(0.0), number(-0.25), number(None), number(3.2e-9)
    ('12,345.7', '0', '−0.250', '–', '3.20 × 10⁻⁹')
    """
    if not is_known(value):
        return DASH
    if places is None:
        places = decimals({"value": value, "low": None, "high": None})
    if value != 0 and (places > _MOST or abs(value) >= _LARGE):
        power = math.floor(math.log10(abs(value)))
        digits = 3 if abs(value) >= _LARGE else min(max(places + power, 0), _MOST)
        return _signed(f"{value / 10.0**power:.{digits}f} × 10{str(power).translate(_RAISED)}")
    shown = f"{value:,.{min(places, _MOST)}f}"
    return _signed(shown.removeprefix("-") if float(shown.replace(",", "")) == 0 else shown)


def _signed(text: str) -> str:
    return "−" + text[1:] if text.startswith("-") else text


def value_text(figure: FigureFacts) -> str:
    """Write the value of a figure, with the decimals of its interval."""
    return number(figure["value"], decimals(figure))


def interval_text(figure: FigureFacts) -> str:
    """Write the interval of a figure; empty if there is none.

    >>> interval_text({"value": 12.345, "low": 11.9, "high": 12.8})
    '11.90 to 12.80'
    """
    if (
        not (is_known(figure["low"]) and is_known(figure["high"]))
        or figure["low"] == figure["high"]
    ):
        return ""
    places = decimals(figure)
    return f"{number(figure['low'], places)} to {number(figure['high'], places)}"


def duration(seconds: object) -> str:
    """Write a length of time in its natural unit.

    >>> [duration(s) for s in (0.0021, 12.34, 150, 9000.0, None)]
    ['2.1 ms', '12.3 s', '2 min 30 s', '2 h 30 min', '–']
    """
    if not is_known(seconds):
        return DASH
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms" if seconds * 1000 >= 10 else f"{seconds * 1000:.2g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    large, small = ((3600, 60), ("h", "min")) if seconds >= 7200 else ((60, 1), ("min", "s"))
    whole, rest = divmod(round(seconds / large[1]), large[0] // large[1])
    return f"{whole:,} {small[0]}" + (f" {rest} {small[1]}" if rest else "")


def size(count: object) -> str:
    """Write a number of bytes.

    >>> size(1_500_000_000), size(None)
    ('1.50 GB', '–')
    """
    if not is_known(count):
        return DASH
    amount, unit = next(
        ((count / 10**p, u) for p, u in ((9, "GB"), (6, "MB"), (3, "kB")) if count >= 10**p),
        (count, "B"),
    )
    return f"{amount:.3g} {unit}" if amount >= 100 or unit == "B" else f"{amount:#.3g} {unit}"

"""A figure as a bar: its interval, its value as a dot, its floor as a dashed line, on a scale with its ends written.

Places are percentages of the width, so that a bar is as wide as there is room, on a phone and on paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from undiffuse.evaluation.report.markup import Html, tag
from undiffuse.evaluation.report.numbers import (
    Figure,
    interval_text,
    is_known,
    known_ones,
    number,
    value_text,
)
from undiffuse.evaluation.report.scales import Scale, fit, spans_decades, tick_text
from undiffuse.evaluation.report.words import Meaning


def scale_of(figures: Iterable[Figure], what: Meaning) -> Scale:
    """One scale for all of these figures, their intervals and floors.

    For a single figure whose scale has no end of its own it is three times as wide as the figure.
    """
    figures = list(figures)
    known = sorted(
        known_ones(
            figure.get(end) for figure in figures for end in ("value", "low", "high", "floor")
        )
    )
    if what.log and len(figures) > 1 and spans_decades(positive := [v for v in known if v > 0]):
        return fit(positive, log=True)
    if what.low is None and what.high is None and len(figures) == 1 and known:
        width = known[-1] - known[0]
        known = [known[0] - width, *known, known[-1] + width]
    return fit(known, low=what.low, high=what.high)


def bar(figure: Figure, scale: Scale, *, ends: bool = True, color: int | None = None) -> Html:
    """The bar of one figure; `ends`: with the ends of the scale written below."""
    low, high, value, floor = (figure.get(key) for key in ("low", "high", "value", "floor"))
    drawn: list[Html] = [_line("track", 0.0, 100.0, 12, 12)]
    if is_known(low) and is_known(high):
        left, right = _percent(scale, low), _percent(scale, high)
        width = f"{max(right - left, 0.6):.2f}%"
        drawn.append(
            tag("rect", x=f"{left:.2f}%", width=width, y=7, height=10, rx=3, class_="interval")
        )
    if is_known(floor):
        at = _percent(scale, floor)
        drawn.append(_line("floor", at, at, 1, 23))
    if is_known(value):
        drawn.append(tag("circle", cx=f"{_percent(scale, value):.2f}%", cy=12, r=4.5, class_="dot"))
    tone = None if color is None else f"--tone: var(--c{color})"
    drawing = tag("svg", *drawn, class_="bar", role="img", aria_label=spoken(figure), style=tone)
    if not ends:
        return drawing
    places = 1 - math.floor(math.log10(scale.high - scale.low))
    shown = [
        float(f"{end:.2g}") if scale.log else round(end, places) for end in (scale.low, scale.high)
    ]
    low_end, high_end = (tick_text(end) for end in shown)
    names = [
        tag("span", low_end),
        tag("span", "log scale") if scale.log else None,
        tag("span", high_end),
    ]
    return tag("div", drawing, tag("div", names, class_="ends", aria_hidden="true"), class_="gauge")


def share_bar(share: Figure, real: float | None, scale: Scale) -> Html:
    """A share as a filled bar with its interval, and the real share as a dashed line."""
    value, low, high = (share.get(key) for key in ("value", "low", "high"))
    drawn: list[Html] = []
    if is_known(value):
        drawn.append(
            tag(
                "rect",
                x="0",
                width=f"{_percent(scale, value):.2f}%",
                y=4,
                height=16,
                rx=2,
                class_="fill",
            )
        )
    if is_known(low) and is_known(high):
        drawn.append(_line("whisker", _percent(scale, low), _percent(scale, high), 12, 12))
    if is_known(real):
        drawn.append(_line("floor", _percent(scale, real), _percent(scale, real), 0, 24))
    said = spoken(share) + (f"; real rows {number(real, 3)}" if is_known(real) else "")
    return tag("svg", *drawn, class_="bar", role="img", aria_label=said)


def spoken(figure: Mapping[str, Any]) -> str:
    """What a bar shows, for those who hear it."""
    said = value_text(figure)
    if interval_text(figure):
        said += f", 95 % interval {interval_text(figure)}"
    return said + (f", floor {number(figure['floor'])}" if is_known(figure.get("floor")) else "")


def _percent(scale: Scale, value: Any) -> float:
    if scale.log and value <= 0:
        return 0.0
    return 100 * min(max(scale.at(float(value)), 0.0), 1.0)


def _line(kind: str, x1: float, x2: float, y1: int, y2: int) -> Html:
    return tag("line", x1=f"{x1:.2f}%", x2=f"{x2:.2f}%", y1=y1, y2=y2, class_=kind)

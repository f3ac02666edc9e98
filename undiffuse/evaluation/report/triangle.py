"""The measured triangle: quality, coverage and speed of each preset, two at a time and all three at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from undiffuse.evaluation.report.charts import Axis, Point, Series, plot
from undiffuse.evaluation.report.curves import chart
from undiffuse.evaluation.report.markup import Child, Html, tag
from undiffuse.evaluation.report.numbers import interval_text, is_known, number
from undiffuse.evaluation.report.page import section, sentence, table

Facts = Mapping[str, Any]

LOW, HIGH = -0.04, 1.04  # of the axes: a dot at 0 or 1 stands inside
CORNERS = (("quality", "coverage"), ("quality", "speed"), ("coverage", "speed"))


def triangle(facts: Facts, tones: Mapping[str, int]) -> Html | None:
    """Each two of quality, coverage and speed against each other: up and to the right is better in both."""
    corners = facts.get("triangle") or []
    if not corners:
        return None
    charts = []
    for across, up in CORNERS:
        series = [
            Series(
                str(each["preset"]),
                [Point(float(x["value"]), float(y["value"]), _ends(x), _ends(y))],
                tones.get(each["preset"], 7),
            )
            for each in corners
            if is_known((x := each[across])["value"]) and is_known((y := each[up])["value"])
        ]
        alt = f"{up.capitalize()} against {across} of {', '.join(each.name for each in series)}."
        drawing = plot(
            series,
            Axis(f"{across} →", low=LOW, high=HIGH),
            Axis(f"{up} →", low=LOW, high=HIGH),
            alt=alt,
            labels=True,
        )
        charts.append(chart(drawing, f"{across.capitalize()} and {up}"))
    charts.append(_at_once(corners, tones))
    rows = [
        [
            str(each["preset"]),
            *(_scaled(each[corner]) for corner in ("quality", "coverage", "speed")),
        ]
        for each in corners
    ]
    listed = table(
        ["preset", "quality", "coverage", "speed"], rows, label="The triangle in numbers"
    )
    return section(
        "The measured triangle",
        tag("p", sentence(str(facts["triangle_words"])), class_="features")
        if facts.get("triangle_words")
        else None,
        tag("div", charts, class_="charts"),
        tag("details", tag("summary", "The triangle in numbers"), listed),
        about="The textbook says: of quality, coverage and speed a family has two. Up and to the right has both.",
    )


def _at_once(corners: Sequence[Facts], tones: Mapping[str, int]) -> Html:
    """A line for each preset over the three yardsticks: the textbook's families have two high points and a low one."""
    names = ("quality", "coverage", "speed")
    series = [
        Series(
            str(each["preset"]),
            [
                Point(float(i), float(each[name]["value"]))
                for i, name in enumerate(names)
                if is_known(each[name]["value"])
            ],
            tones.get(each["preset"], 7),
            dots=True,
        )
        for each in corners
    ]
    drawing = plot(
        series,
        Axis("", low=-0.15, high=2.15, ticks=(0.0, 1.0, 2.0), names=names),
        Axis("better →", low=LOW, high=HIGH),
        alt="Quality, coverage and speed of each preset.",
    )
    return chart(drawing, "All three at once")


def _scaled(corner: Facts) -> list[Child]:
    fact = {"value": corner.get("value"), "low": corner.get("low"), "high": corner.get("high")}
    return [number(fact["value"], 3), tag("small", interval_text(fact))]


def _ends(corner: Facts) -> tuple[float, float] | None:
    low, high = corner.get("low"), corner.get("high")
    return (float(low), float(high)) if is_known(low) and is_known(high) else None  # pyright: ignore

"""A figure with all that is needed to trust it: value, interval, floor, number of rows, warning, and what it means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from undiffuse.evaluation.report.bars import bar, scale_of
from undiffuse.evaluation.report.markup import Html, tag
from undiffuse.evaluation.report.numbers import (
    Figure,
    decimals,
    interval_text,
    is_figure,
    is_known,
    number,
    value_text,
)
from undiffuse.evaluation.report.page import closed, sentence
from undiffuse.evaluation.report.words import DIRECTION, Meaning, meaning


def figures(facts: Mapping[str, Any], prefix: str, *, what: Meaning | None = None) -> Html | None:
    """A row for each figure among these facts; `what` they mean, if they are all of one kind and named by their key.

    A warning that several of them share is said once, above them.
    """
    found = {key: fact for key, fact in facts.items() if is_figure(fact)}
    own = {key: str(fact.get("warning") or "") for key, fact in found.items()}
    shared = [text for text, count in Counter(own.values()).items() if text and count > 1]
    above = []
    for text in shared:  # alone, or after another
        warned = [key for key in own if own[key] == text or own[key].endswith(f"; {text}")]
        own |= {key: own[key].removesuffix(text).removesuffix("; ") for key in warned}
        above.append(tag("p", f"{_of(len(warned), len(found))}: {closed(text)}", class_="warning"))
    rows = [
        figure_row(
            {**fact, "warning": own[key]},
            f"{prefix}.{key}",
            what or meaning(key),
            title=key if what else "",
        )
        for key, fact in found.items()
    ]
    return tag("div", above, tag("div", rows, class_="figures")) if rows else None


def _of(count: int, total: int) -> str:
    return (
        "Both figures"
        if count == total == 2
        else f"All {count} figures"
        if count == total
        else f"{count} of the {total} figures"
    )


def figure_row(figure: Figure, anchor: str, what: Meaning, *, title: str = "") -> Html:
    """One figure: its name and meaning on one side, its number and bar on the other."""
    interval = interval_text(figure)
    rows = figure.get("n")
    small = [tag("span", f"95 %: {interval}", class_="interval-text")] if interval else []
    if is_known(rows):
        small.append(tag("span", f"n = {number(rows)}"))
    return tag(
        "div",
        tag(
            "div",
            tag("h3", title or what.title),
            tag("p", _explained(figure, what)),
            tag("p", sentence(str(figure["warning"])), class_="warning")
            if figure.get("warning")
            else None,
            class_="meaning",
        ),
        tag(
            "div",
            tag("p", tag("b", value_text(figure), class_="value"), _unit(what), class_="number"),
            bar(figure, scale_of([figure], what)) if is_known(figure["value"]) else None,
            tag("p", small, class_="small"),
            class_="measure",
        ),
        class_="figure",
        id=anchor,
    )


def _unit(what: Meaning) -> Html | None:
    return tag("span", " " + what.unit, class_="unit") if what.unit else None


def _explained(figure: Figure, what: Meaning) -> list[str | Html]:
    """The meaning, which direction is better, and the floor."""
    said: list[str | Html] = [what.says] if what.says else []
    direction = DIRECTION.get(str(figure.get("better") or ""), "")
    floor = figure.get("floor")
    if is_known(floor):
        text = what.floor.format(number(floor, decimals(figure)))
        direction = f"{direction}; {text}" if direction else text
    elif figure.get("better") == "floor":
        direction = ""
    if direction:
        said += [" " if said else "", tag("span", sentence(direction), class_="direction")]
    return said


def tile(name: str, figure: Figure, what: Meaning, href: str) -> Html:
    """The figure of one yardstick at a glance, that leads to the rest of it."""
    interval = interval_text(figure)
    return tag(
        "a",
        tag("span", name, class_="name"),
        tag("b", value_text(figure), class_="value"),
        tag("span", what.title, tag("br"), interval or "", class_="small"),
        class_="tile",
        href=href,
    )

"""The charts of one run: losses against steps, loss per noise level, quality against evaluations, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from undiffuse.evaluation.report.bars import share_bar
from undiffuse.evaluation.report.charts import Axis, Point, Series, plot
from undiffuse.evaluation.report.markup import Html, tag
from undiffuse.evaluation.report.numbers import (
    DASH,
    Figure,
    interval_text,
    is_figure,
    is_known,
    known_ones,
    number,
    value_text,
)
from undiffuse.evaluation.report.scales import fit
from undiffuse.evaluation.report.words import meaning

MOST = 150  # points of a curve; more are averaged over windows
TRAINING, HELD_OUT = 1, 0  # colours


def chart(drawing: Html, title: str, note: str = "") -> Html:
    """A chart with its title above and its note below."""
    below = tag("figcaption", note) if note else None
    return tag("figure", tag("h3", title), drawing, below, class_="drawing")


def losses(curves: Mapping[str, Any]) -> Html | None:
    """Training and held-out loss against steps."""
    training, window = thin(_points(curves.get("training") or [], "step", "loss"))
    held_out, _ = thin(_points(curves.get("held_out") or [], "step", "loss"))
    series = [
        Series("training", training, TRAINING),
        Series("held out", held_out, HELD_OUT, dots=len(held_out) <= 12),
    ]
    series = [each for each in series if each.points]
    if not series:
        return None
    ends = ", ".join(f"{each.name} {number(each.points[-1].y)}" for each in series)
    note = f"Last: {ends}." + (f" Training: means of {window} records." if window > 1 else "")
    drawing = plot(
        series,
        Axis("step", low=0.0),
        Axis("loss", log=True),
        alt=f"Loss against step. Last: {ends}.",
    )
    return chart(drawing, "Loss while training", note)


def levels(facts: Mapping[str, Any] | None) -> Html | None:
    """Held-out and training loss for each noise level."""
    facts = facts or {}
    at = facts.get("log_snr") or []
    series = []
    for name, key, color in (
        ("training", "training", TRAINING),
        ("held out", "held_out", HELD_OUT),
    ):
        errors = (facts.get("stderr") or []) if key == "held_out" else []
        points = [
            Point(float(x), float(y), y_ends=_around(y, error) if is_known(error) else None)
            for x, y, error in zip_longest(at, facts.get(key) or [], errors)
            if is_known(x) and is_known(y)
        ]
        if points:
            series.append(Series(name, sorted(points, key=lambda p: p.x), color, dots=True))
    if not series:
        return None
    drawing = plot(
        series,
        Axis("log-SNR: noise on the left, data on the right"),
        Axis("loss", log=True),
        alt="Loss of training and held-out rows at each noise level.",
    )
    note = "Where the held-out curve lies above the training curve, the model knows its training rows too well."
    if facts.get("stderr"):
        note += " Bars: the 95 % error of the difference between the two."
    return chart(drawing, "Loss per noise level", note)


def by_evaluations(entries: Sequence[Mapping[str, Any]]) -> list[Html]:
    """Each figure that was measured against the number of network evaluations, in a chart of its own."""
    names = list(dict.fromkeys(key for entry in entries for key in entry if is_figure(entry[key])))
    charts = []
    for color, name in enumerate(names):
        measured = [
            (float(entry["evaluations"]), figure)
            for entry in sorted(entries, key=lambda entry: entry["evaluations"])
            if is_known((figure := entry.get(name) or {}).get("value"))
        ]
        if not measured:
            continue
        at, what = [n for n, _ in measured], meaning(name)
        points = [Point(n, float(figure["value"]), y_ends=_ends(figure)) for n, figure in measured]
        floors = known_ones(figure.get("floor") for _, figure in measured)
        drawing = plot(
            [Series(what.title, points, color, dots=True)],
            Axis("network evaluations per sample", log=True, ticks=at if len(at) <= 7 else ()),
            Axis(what.title, low=what.low, high=what.high),
            alt=f"{what.title} against evaluations per sample.",
            floor=floors[-1] if floors else None,
        )
        said = (
            ", ".join(number(n) for n in at),
            ", ".join(value_text(figure) for _, figure in measured),
        )
        charts.append(
            chart(
                drawing,
                f"{what.title} against evaluations",
                f"At {said[0]} evaluations: {said[1]}.",
            )
        )
    return charts


def classes(entries: Sequence[Mapping[str, Any]]) -> Html | None:
    """The share of each class among the samples, beside its share among real rows."""
    if not entries:
        return None
    shares = [
        v
        for e in entries
        for v in (e["share"]["value"], e["share"]["high"], e["real"])
        if is_known(v)
    ]
    scale = fit([0.0, *shares], low=0.0)
    rows = [
        tag(
            "div",
            tag("span", str(entry["name"]), class_="name"),
            share_bar(entry["share"], entry["real"], scale),
            tag(
                "span",
                _percent(entry["share"]["value"]),
                tag("small", f" / {_percent(entry['real'])}"),
                class_="of",
            ),
            class_="class",
            id=f"classes.{i}",
            title=f"{entry['name']}, 95 %: {interval_text(entry['share'])}",
        )
        for i, entry in enumerate(entries)
    ]
    name = f"--name: {min(12, max(len(str(entry['name'])) for entry in entries))}ch"
    legend = tag(
        "div",
        tag("span", tag("i", class_="key-fill"), "samples, with 95 % interval"),
        tag("span", tag("i", class_="key-floor"), "real rows"),
        class_="legend",
    )
    return tag(
        "figure",
        tag("h3", "Classes: samples / real rows"),
        legend,
        tag("div", rows, class_="classes", style=name),
    )


def thin(points: Sequence[Point]) -> tuple[list[Point], int]:
    """At most `MOST` points, each the mean of as many neighbours as the second number says.

    >>> points, window = thin([Point(float(i), 1.0) for i in range(600)])
    >>> len(points), window, points[0].x
    (150, 4, 1.5)
    """
    window = -(-len(points) // MOST)
    if window <= 1:
        return list(points), 1
    groups = [points[i : i + window] for i in range(0, len(points), window)]
    return [
        Point(sum(p.x for p in g) / len(g), sum(p.y for p in g) / len(g)) for g in groups
    ], window


def _points(entries: Sequence[Mapping[str, Any]], x: str, y: str) -> list[Point]:
    return [
        Point(float(e[x]), float(e[y]))
        for e in entries
        if is_known(e.get(x)) and is_known(e.get(y))
    ]


def _around(value: float, stderr: float) -> tuple[float, float]:
    return value - 1.96 * stderr, value + 1.96 * stderr


def _ends(figure: Figure) -> tuple[float, float] | None:
    low, high = figure["low"], figure["high"]
    return (float(low), float(high)) if is_known(low) and is_known(high) else None


def _percent(share: object) -> str:
    return f"{number(100 * share, 1)} %" if isinstance(share, int | float) else DASH

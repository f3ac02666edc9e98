"""Where everything in a chart or a bar stands; the templates draw it as SVG.

A chart is 360 units wide, so that its letters keep their size on a phone, and holds no ids, so that
any number of charts fits in a page. The places in a bar are percentages of its width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any, final

from undiffuse.evaluation.report.numbers import (
    FigureFacts,
    is_figure,
    is_known,
    known_ones,
    number,
    value_text,
)
from undiffuse.evaluation.report.scales import Scale, scale_for, spans_decades, tick_text
from undiffuse.evaluation.report.words import Meaning, meaning

WIDTH, HEIGHT = 360, 236
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 40
INNER_W, INNER_H = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
_LETTER = 6.9  # units of width
_MOST = 150  # points of a curve; more are averaged over windows
_TRAINING, _HELD_OUT = 1, 0  # colours
_CORNERS = ("quality", "coverage", "speed")
_UNIT = (-0.04, 1.04)  # ends of the triangle's axes: a dot at 0 or 1 stands inside

Ends = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


@final
@dataclass(frozen=True)
class Dot:
    """A point, and the ends of its intervals where it has any."""

    x: float
    y: float
    x_ends: Ends | None = None
    y_ends: Ends | None = None


@final
@dataclass(frozen=True)
class Series:
    """Points of one name and colour (0 to 7); a line joins them, `dots` marks each.

    With `band` their intervals are one area.
    """

    name: str
    points: Sequence[Dot]
    color: int = 0
    dots: bool = False
    band: bool = False


@final
@dataclass(frozen=True)
class Axis:
    """What an axis shows; its ends and ticks may be fixed, `log` allows a logarithmic scale."""

    label: str
    log: bool = False
    low: float | None = None
    high: float | None = None
    ticks: Sequence[float] = ()
    names: Sequence[str] = ()  # of the ticks

    def scale(self, values: Sequence[float]) -> Scale:
        """Return the scale that holds these values."""
        log = self.log and spans_decades(values)
        return scale_for(values, low=self.low, high=self.high, log=log)


@final
@dataclass(frozen=True)
class Chart:
    """Series in one frame.

    `labelled`: the name of each stands beside its first point; otherwise a legend lists them.
    `floor` is a dashed line across; `alt` says what the picture shows, `note` stands below it.
    """

    title: str
    series: Sequence[Series]
    x: Axis
    y: Axis
    alt: str
    note: str = ""
    floor: float | None = None
    labelled: bool = False

    width, height = WIDTH, HEIGHT
    left, right, bottom = LEFT, WIDTH - RIGHT, TOP + INNER_H

    @cached_property
    def scales(self) -> tuple[Scale, Scale]:
        """The scales of both axes."""
        points = [point for each in self.series for point in each.points]
        floors = [] if self.floor is None else [self.floor]
        return (
            self.x.scale([v for p in points for v in (p.x, *(p.x_ends or ()))]),
            self.y.scale([*floors, *(v for p in points for v in (p.y, *(p.y_ends or ())))]),
        )

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where (x, y) stands in the picture."""
        across, up = self.scales
        return LEFT + INNER_W * across.at(x), TOP + INNER_H * (1 - up.at(y))

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """(place, text) of each tick of the horizontal axis."""
        across = self.scales[0]
        ticks = self.x.ticks or across.ticks(6)
        names = self.x.names or [tick_text(tick) for tick in ticks]
        return [(LEFT + INNER_W * across.at(tick), name) for tick, name in zip(ticks, names)]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """(place, text) of each tick of the vertical axis."""
        up = self.scales[1]
        ticks = self.y.ticks or up.ticks(5)
        return [(TOP + INNER_H * (1 - up.at(tick)), tick_text(tick)) for tick in ticks]

    @property
    def floor_at(self) -> float | None:
        """The height of the dashed line."""
        return None if self.floor is None else self.place(self.scales[0].low, self.floor)[1]

    def drawn(self, series: Series) -> dict[str, Any]:
        """Return a series as places: its line, its lines of error or its band, its dots."""
        places = [self.place(p.x, p.y) for p in series.points]
        errors = [line for point in series.points for line in self._errors(point)]
        around = [(a, low) for a, _, _, low in errors] + [
            (a, high) for a, high, _, _ in errors[::-1]
        ]
        return {
            "band": " ".join(f"{a:.1f},{b:.1f}" for a, b in around) if series.band else "",
            "line": " ".join(f"{a:.1f},{b:.1f}" for a, b in places) if len(places) > 1 else "",
            "errors": [] if series.band else errors,
            "dots": places if series.dots or len(places) == 1 else [],
        }

    def _errors(self, point: Dot) -> list[Box]:
        a, b = self.place(point.x, point.y)
        lines: list[Box] = []
        if point.x_ends:
            left, right = (self.place(end, point.y)[0] for end in point.x_ends)
            lines.append((left, b, right, b))
        if point.y_ends:
            low, high = (self.place(point.x, end)[1] for end in point.y_ends)
            lines.append((a, high, a, low))
        return lines

    @property
    def labels(self) -> list[tuple[float, float, Series]]:
        """(left, base, series): names beside first points, each where it meets the least else."""
        taken: list[Box] = []
        for point in (point for each in self.series for point in each.points[:1]):
            a, b = self.place(point.x, point.y)
            taken.append((a - 5, b - 5, a + 5, b + 5))
            taken += [(p - 1.5, q - 1.5, r + 1.5, s + 1.5) for p, q, r, s in self._errors(point)]
        placed = []
        for each in self.series if self.labelled else ():
            if not each.points:
                continue
            a, b = self.place(each.points[0].x, each.points[0].y)
            wide = _LETTER * len(each.name)
            spots = [(a + 7, b - 5), (a - 7 - wide, b - 5), (a + 7, b + 14), (a - 7 - wide, b + 14)]
            spots += [(a - wide / 2, b - 12), (a - wide / 2, b + 20)]
            spots += [(a + 12, b - 20), (a - 12 - wide, b + 30)]
            boxes = [(left, base - 10, left + wide, base + 3) for left, base in spots]
            best = min(range(len(boxes)), key=lambda i: (_overlap(boxes[i], taken), i))
            taken.append(boxes[best])
            placed.append((*spots[best], each))
        return placed


def _overlap(box: Box, taken: Sequence[Box]) -> float:
    """The area that a box shares with others, and a lot for what leaves the chart."""
    outside = max(0.0, 2 - box[0]) + max(0.0, box[2] - WIDTH + RIGHT)
    outside += max(0.0, 2 - box[1]) + max(0.0, box[3] - HEIGHT)
    shared = sum(
        max(0.0, min(box[2], b[2]) - max(box[0], b[0]))
        * max(0.0, min(box[3], b[3]) - max(box[1], b[1]))
        for b in taken
    )
    return shared + 100 * outside


# --- bars


@final
@dataclass(frozen=True)
class Bar:
    """A figure on a scale, in per cent of the width.

    `interval` is (left, width); `ends` are the ends of the scale, in words.
    """

    figure: FigureFacts
    value: float | None
    interval: Ends | None
    floor: float | None
    ends: tuple[str, str]
    log: bool


def bar(figure: FigureFacts, scale: Scale) -> Bar:
    """Place a figure on a scale."""
    low, high, value, floor = (figure.get(key) for key in ("low", "high", "value", "floor"))
    interval = None
    if is_known(low) and is_known(high):
        left = scale.percent(low)
        interval = (left, max(scale.percent(high) - left, 0.6))
    places = 1 - math.floor(math.log10(scale.high - scale.low))
    shown = [float(f"{v:.2g}") if scale.log else round(v, places) for v in (scale.low, scale.high)]
    return Bar(
        figure=figure,
        value=scale.percent(value) if is_known(value) else None,
        interval=interval,
        floor=scale.percent(floor) if is_known(floor) else None,
        ends=(tick_text(shown[0]), tick_text(shown[1])),
        log=scale.log,
    )


def scale_of(figures: Iterable[FigureFacts], what: Meaning) -> Scale:
    """Return one scale for all of these figures, their intervals and floors.

    For a single figure whose scale has no fixed end it is three times as wide as the figure.
    """
    figures = list(figures)
    every = (figure.get(end) for figure in figures for end in ("value", "low", "high", "floor"))
    known = sorted(known_ones(every))
    if what.log and len(figures) > 1 and spans_decades(positive := [v for v in known if v > 0]):
        return scale_for(positive, log=True)
    if what.low is None and what.high is None and len(figures) == 1 and known:
        width = known[-1] - known[0]
        known = [known[0] - width, *known, known[-1] + width]
    return scale_for(known, low=what.low, high=what.high)


# --- the charts of one run


def losses(curves: Mapping[str, Any]) -> Chart | None:
    """Training and held-out loss against steps."""
    training, window = thin(_points(curves.get("training") or []))
    held_out, _ = thin(_points(curves.get("held_out") or []))
    both = [
        Series("training", training, _TRAINING),
        Series("held out", held_out, _HELD_OUT, dots=len(held_out) <= 12),
    ]
    series = [each for each in both if each.points]
    if not series:
        return None
    ends = ", ".join(f"{each.name} {number(each.points[-1].y)}" for each in series)
    note = f"Last: {ends}." + (f" Training: means of {window} records." if window > 1 else "")
    axes = Axis("step", low=0.0), Axis("loss", log=True)
    alt = f"Loss against step. Last: {ends}."
    return Chart("Loss during training", series, *axes, alt=alt, note=note)


def level_losses(facts: Mapping[str, Any] | None) -> Chart | None:
    """Held-out and training loss for each noise level."""
    facts = facts or {}
    at, stderr = facts.get("log_snr") or [], facts.get("stderr") or []
    series = []
    for name, key, color, errors in (
        ("training", "training", _TRAINING, []),
        ("held out", "held_out", _HELD_OUT, stderr),
    ):
        points = [
            Dot(float(x), float(y), y_ends=_around(y, error) if is_known(error) else None)
            for x, y, error in zip_longest(at, facts.get(key) or [], errors)
            if is_known(x) and is_known(y)
        ]
        if points:
            series.append(Series(name, sorted(points, key=lambda p: p.x), color, dots=True))
    if not series:
        return None
    note = "Where the held-out curve lies above the training curve, the model overfits."
    if stderr:
        note += " Bars: the 95 % error of the difference between the two."
    return Chart(
        "Loss per noise level",
        series,
        Axis("log-SNR: noise on the left, data on the right"),
        Axis("loss", log=True),
        alt="Loss of training and held-out rows at each noise level.",
        note=note,
    )


def against_evaluations(entries: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Each figure measured at several numbers of network evaluations, in a chart of its own."""
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
        points = [Dot(n, float(f["value"]), y_ends=_ends(f)) for n, f in measured]
        floors = known_ones(figure.get("floor") for _, figure in measured)
        said = ", ".join(number(n) for n in at), ", ".join(value_text(f) for _, f in measured)
        chart = Chart(
            f"{what.title} against evaluations",
            [Series(what.title, points, color, dots=True)],
            Axis("network evaluations per sample", log=True, ticks=at if len(at) <= 7 else ()),
            Axis(what.title, low=what.low, high=what.high),
            alt=f"{what.title} against evaluations per sample.",
            note=f"At {said[0]} evaluations: {said[1]}.",
            floor=floors[-1] if floors else None,
        )
        charts.append(chart)
    return charts


def overlay_charts(entries: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Autocorrelation and spectrum of each channel: the data with a band, and the samples."""
    return [
        _overlay(name, entry[name], f", channel {entry['channel']}" if len(entries) > 1 else "")
        for entry in entries
        for name in ("autocorrelation", "spectrum")
    ]


def _overlay(name: str, curves: Mapping[str, Any], which: str) -> Chart:
    at, log = [float(x) for x in curves["at"]], name == "spectrum"
    least = min(v for v in curves["data"] if v > 0) / 10 if log else -math.inf
    ends = zip(curves["low"], curves["high"])
    data = [
        Dot(x, max(y, least), y_ends=(max(low, least), max(high, least)))
        for x, y, (low, high) in zip(at, curves["data"], ends)
    ]
    samples = [Dot(x, max(y, least)) for x, y in zip(at, curves["samples"])]
    outside = sum(not p.y_ends[0] <= q.y <= p.y_ends[1] for p, q in zip(data, samples) if p.y_ends)
    return Chart(
        f"{name.capitalize()}{which}",
        [Series("data", data, _HELD_OUT, band=True), Series("samples", samples, _TRAINING)],
        Axis(str(curves["unit"]), low=0.0),
        Axis("variance per frequency" if log else "correlation", log=log),
        alt=f"{name.capitalize()} of data and samples{which}.",
        note=f"Band: where 95 of 100 values of a perfect model lie; {outside} of {len(at)} of the "
        "samples' lie outside.",
    )


def class_scale(entries: Sequence[Mapping[str, Any]]) -> Scale:
    """Return one scale for the shares of all classes, from zero."""
    shares = (v for e in entries for v in (e["share"]["value"], e["share"]["high"], e["real"]))
    return scale_for([0.0, *known_ones(shares)], low=0.0)


def thin(points: Sequence[Dot]) -> tuple[list[Dot], int]:
    """Return fewer points, each the mean of as many neighbours as the second number says.

    >>> points, window = thin([Dot(float(i), 1.0) for i in range(600)])
    >>> len(points), window, points[0].x
    (150, 4, 1.5)
    """
    window = -(-len(points) // _MOST)
    if window <= 1:
        return list(points), 1
    groups = [points[i : i + window] for i in range(0, len(points), window)]
    means = [Dot(sum(p.x for p in g) / len(g), sum(p.y for p in g) / len(g)) for g in groups]
    return means, window


def _points(entries: Sequence[Mapping[str, Any]]) -> list[Dot]:
    pairs = [(entry.get("step"), entry.get("loss")) for entry in entries]
    return [Dot(float(x), float(y)) for x, y in pairs if is_known(x) and is_known(y)]


def _around(value: float, stderr: float) -> Ends:
    return value - 1.96 * stderr, value + 1.96 * stderr


def _ends(figure: FigureFacts) -> Ends | None:
    low, high = figure.get("low"), figure.get("high")
    return (float(low), float(high)) if is_known(low) and is_known(high) else None


# --- the triangle of a comparison


def triangle_charts(corners: Sequence[Mapping[str, Any]], tones: Mapping[str, int]) -> list[Chart]:
    """Quality, coverage and speed of each preset: two at a time, then all three at once."""
    charts = []
    for across, up in (_CORNERS[:2], _CORNERS[::2], _CORNERS[1:]):
        series = [
            Series(str(each["preset"]), [point], tones.get(each["preset"], 7))
            for each in corners
            if (point := _both(each[across], each[up]))
        ]
        names = ", ".join(each.name for each in series)
        chart = Chart(
            f"{across.capitalize()} and {up}",
            series,
            Axis(f"{across} →", False, *_UNIT),
            Axis(f"{up} →", False, *_UNIT),
            alt=f"{up.capitalize()} against {across} of {names}.",
            labelled=True,
        )
        charts.append(chart)
    together = [
        Series(
            str(each["preset"]),
            [
                Dot(float(i), float(each[name]["value"]))
                for i, name in enumerate(_CORNERS)
                if is_known(each[name]["value"])
            ],
            tones.get(each["preset"], 7),
            dots=True,
        )
        for each in corners
    ]
    across = Axis("", low=-0.15, high=2.15, ticks=(0.0, 1.0, 2.0), names=_CORNERS)
    alt = "Quality, coverage and speed of each preset."
    return [
        *charts,
        Chart("All three at once", together, across, Axis("better →", False, *_UNIT), alt=alt),
    ]


def _both(x: FigureFacts, y: FigureFacts) -> Dot | None:
    if not (is_known(x["value"]) and is_known(y["value"])):
        return None
    return Dot(float(x["value"]), float(y["value"]), _ends(x), _ends(y))

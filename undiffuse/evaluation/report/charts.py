"""Curves and points as SVG: text stays text, colours follow the page, light or dark, and ink suffices on paper.

A chart is drawn small, 360 units wide, and set beside others where there is room: so its letters keep their size on a
phone. It holds no ids, so that any number of charts can stand in one page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from undiffuse.evaluation.report.markup import Html, tag
from undiffuse.evaluation.report.scales import Scale, fit, spans_decades, tick_text

WIDTH, HEIGHT = 360, 236
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 40
INNER_W, INNER_H = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
_LETTER = 6.9  # units of width


@final
@dataclass(frozen=True)
class Point:
    """A point, and the ends of its intervals where it has any."""

    x: float
    y: float
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None


@final
@dataclass(frozen=True)
class Series:
    """Points of one name and colour (0 to 7); `line` joins them, `dots` marks each."""

    name: str
    points: Sequence[Point]
    color: int = 0
    line: bool = True
    dots: bool = False


@final
@dataclass(frozen=True)
class Axis:
    """What an axis shows; its scale is logarithmic where that serves (`log`), and its ends and ticks may be fixed."""

    label: str
    log: bool = False
    low: float | None = None
    high: float | None = None
    ticks: Sequence[float] = ()
    names: Sequence[str] = ()  # of the ticks

    def scale(self, values: Sequence[float]) -> Scale:
        """The scale that holds these values."""
        log = self.log and spans_decades(values)
        return fit(values, low=self.low, high=self.high, log=log)


@final
@dataclass(frozen=True)
class Frame:
    """Two scales, and the places of points on them."""

    x: Scale
    y: Scale

    def place(self, x: float, y: float) -> tuple[float, float]:
        return LEFT + INNER_W * self.x.at(x), TOP + INNER_H * (1 - self.y.at(y))


def plot(
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    alt: str,
    labels: bool = False,
    floor: float | None = None,
) -> Html:
    """Series in one frame; `labels`: the name of each beside its first point, otherwise in a legend above.

    A `floor` is a dashed line across.
    """
    points = [point for each in series for point in each.points]
    floors = [] if floor is None else [floor]
    frame = Frame(
        x.scale([v for p in points for v in (p.x, *(p.x_ends or ()))]),
        y.scale([*floors, *(v for p in points for v in (p.y, *(p.y_ends or ())))]),
    )
    drawn = [
        *_axes(frame, x, y),
        *(_level(frame, at) for at in floors),
        *(shape for each in series for shape in _series(frame, each)),
    ]
    if labels:
        drawn += _labels(frame, series)
    picture = tag(
        "svg", *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="chart", role="img", aria_label=alt
    )
    legend = None
    if not labels and len(series) > 1:
        entries = [tag("span", tag("i", style=_tone(each)), each.name) for each in series]
        legend = tag("div", entries, class_="legend")
    return tag("div", legend, picture, class_="plot")


def _tone(series: Series) -> str:
    return f"--tone: var(--c{series.color % 8})"


def _axes(frame: Frame, x: Axis, y: Axis) -> list[Html]:
    drawn = []
    for tick in y.ticks or frame.y.ticks(5):
        at = TOP + INNER_H * (1 - frame.y.at(tick))
        drawn.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
        drawn.append(tag("text", tick_text(tick), x=LEFT - 6, y=at + 3.5, text_anchor="end"))
    ticks = x.ticks or frame.x.ticks(6)
    for tick, name in zip(ticks, x.names or [tick_text(tick) for tick in ticks]):
        at = LEFT + INNER_W * frame.x.at(tick)
        drawn.append(
            tag("line", x1=at, x2=at, y1=TOP + INNER_H, y2=TOP + INNER_H + 4, class_="axis")
        )
        drawn.append(tag("text", name, x=at, y=TOP + INNER_H + 16, text_anchor="middle"))
    drawn.append(
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=TOP + INNER_H, y2=TOP + INNER_H, class_="axis")
    )
    drawn.append(
        tag(
            "text",
            x.label,
            x=LEFT + INNER_W / 2,
            y=HEIGHT - 6,
            text_anchor="middle",
            class_="label",
        )
    )
    turned = f"rotate(-90 11 {TOP + INNER_H / 2})"
    drawn.append(
        tag(
            "text",
            y.label,
            x=11,
            y=TOP + INNER_H / 2,
            text_anchor="middle",
            transform=turned,
            class_="label",
        )
    )
    return drawn


def _level(frame: Frame, at: float) -> Html:
    height = frame.place(frame.x.low, at)[1]
    line = tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=height, y2=height, class_="floor")
    return tag("g", line, tag("text", "floor", x=WIDTH - RIGHT, y=height - 4, text_anchor="end"))


def _series(frame: Frame, series: Series) -> list[Html]:
    drawn = []
    places = [frame.place(p.x, p.y) for p in series.points]
    if series.line and len(places) > 1:
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        drawn.append(tag("polyline", points=path, class_="line"))
    for point, (a, b) in zip(series.points, places):
        if point.y_ends:
            low, high = (frame.place(point.x, end)[1] for end in point.y_ends)
            drawn.append(tag("line", x1=a, x2=a, y1=low, y2=high, class_="error"))
        if point.x_ends:
            left, right = (frame.place(end, point.y)[0] for end in point.x_ends)
            drawn.append(tag("line", x1=left, x2=right, y1=b, y2=b, class_="error"))
        if series.dots or len(places) == 1:
            drawn.append(tag("circle", cx=a, cy=b, r=3.4, class_="dot"))
    return [tag("g", drawn, style=_tone(series))]


def _labels(frame: Frame, series: Sequence[Series]) -> list[Html]:
    """Names beside points, each where it meets the fewest points, lines of error and other names."""
    firsts = [point for each in series for point in each.points[:1]]
    taken = [box for point in firsts for box in _occupied(frame, point)]
    drawn = []
    for each in series:
        if not each.points:
            continue
        a, b = frame.place(each.points[0].x, each.points[0].y)
        wide = _LETTER * len(each.name)
        spots = [(a + 7, b - 5), (a - 7 - wide, b - 5), (a + 7, b + 14), (a - 7 - wide, b + 14)]
        spots += [
            (a - wide / 2, b - 12),
            (a - wide / 2, b + 20),
            (a + 12, b - 20),
            (a - 12 - wide, b + 30),
        ]
        boxes = [(left, base - 10, left + wide, base + 3) for left, base in spots]
        best = min(range(len(boxes)), key=lambda i: (_cost(boxes[i], taken), i))
        taken.append(boxes[best])
        left, base = spots[best]
        drawn.append(tag("text", each.name, x=left, y=base, class_="name", style=_tone(each)))
    return drawn


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _occupied(frame: Frame, point: Point) -> list[Box]:
    """Where the dot of a point and its lines of error are."""
    a, b = frame.place(point.x, point.y)
    boxes = [(a - 5, b - 5, a + 5, b + 5)]
    if point.x_ends:
        left, right = (frame.place(end, point.y)[0] for end in point.x_ends)
        boxes.append((left, b - 1.5, right, b + 1.5))
    if point.y_ends:
        bottom, top = (frame.place(point.x, end)[1] for end in point.y_ends)
        boxes.append((a - 1.5, top, a + 1.5, bottom))
    return boxes


def _cost(box: Box, taken: Sequence[Box]) -> float:
    """The area that a box shares with others, and a lot for what leaves the chart."""
    outside = (
        max(0.0, 2 - box[0])
        + max(0.0, box[2] - WIDTH + RIGHT)
        + max(0.0, 2 - box[1])
        + max(0.0, box[3] - HEIGHT)
    )
    shared = sum(
        max(0.0, min(box[2], b[2]) - max(box[0], b[0]))
        * max(0.0, min(box[3], b[3]) - max(box[1], b[1]))
        for b in taken
    )
    return shared + 100 * outside

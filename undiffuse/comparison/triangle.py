"""The triangle of quality, coverage and speed (Xiao et al. 2022, Fig. 1), from measured figures in place of a sketch.

    quality     precision / its floor                       samples that lie where real rows lie
    coverage    the lower of recall / its floor and         variety that is reached, and real rows that have
                coverage / its floor                        a sample nearby
    speed       log(r / slowest) / log(fastest / slowest)   r samples a second

each cut off at 0 and 1, and the ends of each interval alike. The floor is the same figure between real rows, so 1 is
what a perfect sampler gets. Frechet's distance would mix the first two. Of the second there are two figures, because
either alone is deceived: recall (Kynkaanniemi et al. 2019; used by Xiao et al.) by a few samples far off everything,
whose large balls hold every real row; coverage (Naeem et al. 2020) by samples that are all typical of where they are,
for one in each neighbourhood is enough.

Figures come as a report has them: plain data, None for what is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from undiffuse.evaluation.metrics.figure import Figure

AXES = {
    "quality": ("precision",),
    "coverage": ("recall", "coverage"),
    "speed": ("samples_per_second",),
}
WORDS = (
    "Each side is a figure of the table, scaled to lie between 0 and 1. Quality is precision, the share of samples "
    "that lie where real rows do, over its floor, which is what real rows get. Coverage is the lower of two over their "
    "floors: recall, the share of real rows that lie where samples do, and coverage, the share of real rows that have "
    "a sample nearby. Speed is samples per second on a logarithmic scale, from the slowest of the models compared (0) "
    "to the fastest (1); it says nothing about models that are not here. Bars are 95 % intervals."
)
Row = Mapping[str, Any]
Scores = dict[str, float | None]


def figure_of(tree: Mapping[str, Any] | None) -> Figure | None:
    """The figure that a report's plain data hold; None where there is none, or it has no value.

    An error that is not known is taken as infinite: such a figure ties with any other.

    >>> figure_of({"value": 0.5, "low": 0.4, "high": 0.6, "stderr": None, "n": 9, "floor": 1.0, "warning": ""}).stderr
    inf
    """
    if not tree or tree.get("value") is None:
        return None
    value = float(tree["value"])

    def known(name: str, otherwise: float) -> float:
        return otherwise if tree.get(name) is None else float(tree[name])

    return Figure(
        value=value,
        low=known("low", value),
        high=known("high", value),
        stderr=known("stderr", math.inf),
        n=int(tree.get("n") or 0),
        floor=tree.get("floor"),
        warning=str(tree.get("warning") or ""),
    )


def on_axis(row: Row, axis: str) -> tuple[str, Figure] | None:
    """The figure that decides an axis, by its name: over its floor where there is one, the lowest where there are more.

    None if a figure of the axis is missing.
    """
    found = []
    for name in AXES[axis]:
        figure = figure_of(row.get(name))
        if figure is None:
            return None
        found.append((name, _over_floor(figure)))
    return min(found, key=lambda pair: pair[1].value)


def _over_floor(figure: Figure) -> Figure:
    floor = figure.floor or 1.0
    scaled = {name: getattr(figure, name) / floor for name in ("value", "low", "high", "stderr")}
    return replace(figure, **scaled)


def triangle(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each row of the table {"preset", and for each axis {"value", "low", "high"}}, in [0, 1]; None if unknown."""
    speeds = [
        found[1].value for row in rows if (found := on_axis(row, "speed")) and found[1].value > 0
    ]
    slowest, fastest = min(speeds, default=1.0), max(speeds, default=1.0)

    def log_scale(value: float) -> float:
        return (
            math.log(max(value, 1e-300) / slowest) / math.log(fastest / slowest)
            if fastest > slowest
            else 1.0
        )

    scales = {"quality": float, "coverage": float, "speed": log_scale}
    return [
        {
            "preset": row["preset"],
            **{axis: _scores(on_axis(row, axis), scale) for axis, scale in scales.items()},
        }
        for row in rows
    ]


def _scores(found: tuple[str, Figure] | None, scale: Callable[[float], float]) -> Scores:
    if found is None:
        return {"value": None, "low": None, "high": None}
    return {
        name: min(1.0, max(0.0, scale(getattr(found[1], name))))
        for name in ("value", "low", "high")
    }


def best(rows: Sequence[Row]) -> dict[str, list[str]]:
    """For each figure with a better end: who is best at it, and who cannot be told from the best within the error.

    "higher" and "lower" are what they say; "floor" means that the nearest to the figure's floor is best.
    """
    found = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        cells = [(row["preset"], row[name]) for row in rows if _is_figure(row.get(name))]
        ends = {tree.get("better") for _, tree in cells} - {"", None}
        figures = [(preset, figure) for preset, tree in cells if (figure := figure_of(tree))]
        if len(ends) != 1 or not figures:
            continue
        distance = _FROM_BEST[ends.pop()]
        far = [replace(figure, value=distance(figure)) for _, figure in figures]
        winner = min(far, key=lambda figure: figure.value)
        found[name] = [
            preset
            for (preset, _), figure in zip(figures, far)
            if figure is winner or figure.ties(winner)
        ]
    return found


_FROM_BEST = {
    "higher": lambda figure: -figure.value,
    "lower": lambda figure: figure.value,
    "floor": lambda figure: abs(figure.value - (figure.floor or 0.0)),
}


def _is_figure(tree: Any) -> bool:
    return isinstance(tree, Mapping) and "value" in tree and "stderr" in tree

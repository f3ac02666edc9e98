"""The triangle of quality, coverage and speed (Xiao et al. 2022, Fig. 1), from measured figures.

    quality     precision / its floor                       samples that lie where real rows lie
    coverage    the lower of recall / its floor and         variety that is reached, and real rows
                coverage / its floor                        that have a sample nearby
    speed       log(r / slowest) / log(fastest / slowest)   r samples a second

Each value and the ends of its interval are clamped to [0, 1]. The floor is the same figure between
two disjoint sets of real rows, so 1 is what a perfect sampler gets. The Frechet distance would mix
quality and coverage. Coverage takes two figures, because each alone can be deceived: recall
(Kynkaanniemi et al. 2019; used by Xiao et al.) by a few distant samples, whose large balls hold
every real row; coverage (Naeem et al. 2020) by samples that are all typical of their
neighbourhood, for which one sample is enough.

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
EXPLANATION = (
    "Each axis is a figure of the table, scaled to lie between 0 and 1. Quality is precision, the "
    "share of samples that lie where real rows do, divided by its floor, the value that two "
    "disjoint sets of real rows give. Coverage is the lower of two figures divided by their "
    "floors: recall, "
    "the share of real rows that lie where samples do, and coverage, the share of real rows that "
    "have a sample nearby. Speed is samples per second on a logarithmic scale, from the slowest of "
    "the compared models (0) to the fastest (1); it says nothing about other models. Bars are 95 % "
    "intervals."
)
TableRow = Mapping[str, Any]


def figure_of(tree: Mapping[str, Any] | None) -> Figure | None:
    """Return the figure that a report's plain data hold; None if it has no value.

    An unknown error counts as infinite: such a figure ties with any other.

    >>> figure_of({"value": 0.5, "low": 0.4, "high": 0.6, "stderr": None, "n": 9}).stderr
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


def on_axis(row: TableRow, axis: str) -> tuple[str, Figure] | None:
    """Return the name and value of the figure that decides an axis.

    Figures are divided by their floors; the lowest decides. None if one of them is missing.
    """
    scaled = []
    for name in AXES[axis]:
        figure = figure_of(row.get(name))
        if figure is None:
            return None
        scaled.append((name, _over_floor(figure)))
    return min(scaled, key=lambda pair: pair[1].value)


def _over_floor(figure: Figure) -> Figure:
    floor = figure.floor or 1.0
    ends = {"low": figure.low / floor, "high": figure.high / floor}
    return replace(figure, value=figure.value / floor, stderr=figure.stderr / floor, **ends)


def triangle(rows: Sequence[TableRow]) -> list[dict[str, Any]]:
    """Return {"preset", axis: {"value", "low", "high"}} in [0, 1] for each row; None if unknown."""
    speeds = [
        speed[1].value for row in rows if (speed := on_axis(row, "speed")) and speed[1].value > 0
    ]
    slowest, fastest = min(speeds, default=1.0), max(speeds, default=1.0)

    def log_scale(value: float) -> float:
        if fastest <= slowest:
            return 1.0
        return math.log(max(value, 1e-300) / slowest) / math.log(fastest / slowest)

    scales = {"quality": float, "coverage": float, "speed": log_scale}
    return [
        {
            "preset": row["preset"],
            **{axis: _scaled(on_axis(row, axis), scale) for axis, scale in scales.items()},
        }
        for row in rows
    ]


def _scaled(
    decisive: tuple[str, Figure] | None, scale: Callable[[float], float]
) -> dict[str, float | None]:
    if decisive is None:
        return {"value": None, "low": None, "high": None}
    figure = decisive[1]
    ends = {"value": figure.value, "low": figure.low, "high": figure.high}
    return {name: min(1.0, max(0.0, scale(value))) for name, value in ends.items()}


def best(rows: Sequence[TableRow]) -> dict[str, list[str]]:
    """Return, for each figure with a better end, the best preset and those that tie with it.

    "higher" and "lower" are what they say; "floor" means that the closest to the floor is best.
    """
    winners = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        cells = [(row["preset"], row[name]) for row in rows if _is_plain_figure(row.get(name))]
        ends = {tree.get("better") for _, tree in cells} - {"", None}
        figures = [(preset, figure) for preset, tree in cells if (figure := figure_of(tree))]
        if len(ends) != 1 or not figures:
            continue
        distance = _FROM_BEST[ends.pop()]
        distances = [
            (preset, replace(figure, value=distance(figure))) for preset, figure in figures
        ]
        winner = min((figure for _, figure in distances), key=lambda figure: figure.value)
        winners[name] = [
            preset for preset, figure in distances if figure is winner or figure.ties(winner)
        ]
    return winners


_FROM_BEST: dict[str, Callable[[Figure], float]] = {
    "higher": lambda figure: -figure.value,
    "lower": lambda figure: figure.value,
    "floor": lambda figure: abs(figure.value - (figure.floor or 0.0)),
}


def _is_plain_figure(tree: Any) -> bool:
    return isinstance(tree, Mapping) and "value" in tree and "stderr" in tree

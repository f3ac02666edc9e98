"""The triangle of quality, coverage and speed (Xiao et al. 2022, Fig. 1), from measured figures in place of a sketch.

    quality     precision / its floor                       samples that lie where real rows lie
    coverage    coverage / its floor                        real rows that have a sample nearby
    speed       log(r / slowest) / log(fastest / slowest)   r samples a second

each cut off at 0 and 1, and the ends of each interval alike. The floor is the same figure between real rows, so 1 is
what a perfect sampler gets. Frechet's distance would mix the first two. Coverage (Naeem et al. 2020) in place of the
recall that Xiao et al. use: a few samples far off everything have large balls, in which recall finds every real row.

Figures come as a report has them: plain data, None for what is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from undiffuse.evaluation.metrics.figure import Figure

AXES = {"quality": "precision", "coverage": "coverage", "speed": "samples_per_second"}
WORDS = (
    "Each side is a figure of the table, scaled to lie between 0 and 1. Quality is precision, the share of samples "
    "that lie where real rows do, over its floor, which is what real rows get. Coverage is the share of real rows that "
    "have a sample nearby, over its floor. Speed is samples per second on a logarithmic scale, from the slowest of the "
    "models compared (0) to the fastest (1); it says nothing about models that are not here. Bars are 95 % intervals."
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


def triangle(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each row of the table {"preset", and for each axis {"value", "low", "high"}}, in [0, 1]; None if unknown."""
    speeds = [figure.value for row in rows if (figure := figure_of(row.get(AXES["speed"]))) and figure.value > 0]
    slowest, fastest = min(speeds, default=1.0), max(speeds, default=1.0)
    scores = []
    for row in rows:
        quality, coverage, speed = (figure_of(row.get(name)) for name in AXES.values())
        scores.append(
            {
                "preset": row["preset"],
                "quality": _of_floor(quality),
                "coverage": _of_floor(coverage),
                "speed": _on_log_scale(speed, slowest, fastest),
            }
        )
    return scores


def _of_floor(figure: Figure | None) -> Scores:
    floor = figure.floor if figure and figure.floor else 1.0
    return _scores(figure, lambda value: value / floor)


def _on_log_scale(figure: Figure | None, slowest: float, fastest: float) -> Scores:
    if fastest <= slowest:
        return _scores(figure, lambda value: 1.0)
    return _scores(figure, lambda value: math.log(max(value, 1e-300) / slowest) / math.log(fastest / slowest))


def _scores(figure: Figure | None, scale: Any) -> Scores:
    if figure is None:
        return {"value": None, "low": None, "high": None}
    return {name: min(1.0, max(0.0, scale(getattr(figure, name)))) for name in ("value", "low", "high")}


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
        winner = min(figures, key=lambda pair: distance(pair[1]))[1]
        found[name] = [preset for preset, figure in figures if figure is winner or figure.ties(winner)]
    return found


_FROM_BEST = {
    "higher": lambda figure: -figure.value,
    "lower": lambda figure: figure.value,
    "floor": lambda figure: abs(figure.value - (figure.floor or 0.0)),
}


def _is_figure(tree: Any) -> bool:
    return isinstance(tree, Mapping) and "value" in tree and "stderr" in tree

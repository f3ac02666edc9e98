"""Figures as plain data, as report.json holds them: every number with its interval, its floor, and which way is good.

    {"value", "low", "high", "stderr", "n", "floor" (or null), "warning", "better": "lower", "higher", "floor" or ""}

"floor" says that a figure is best at its floor: neither side of it is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from undiffuse.evaluation.metrics import Figure, Memorization
from undiffuse.evaluation.yardsticks import Yardsticks

BETTER = {
    "frechet": "lower",
    "kernel": "lower",
    "precision": "higher",
    "density": "floor",
    "recall": "higher",
    "coverage": "higher",
    "modes": "higher",
    "class_variation": "lower",
    "closer": "floor",
    "copies": "lower",
    "nats": "higher",
    "bits_per_dim": "lower",
    "gap": "lower",
    "samples_per_second": "higher",
    "latency": "lower",
    "columns": "higher",
    "associations": "higher",
    "detection": "lower",
    "usefulness": "higher",
}
"""Figure name, or that of a group of figures -> which way is good."""


def figures(found: Mapping[str, Figure]) -> dict[str, Any]:
    """Figures by name as plain data."""
    return {name: as_fact(figure, BETTER.get(name, "")) for name, figure in found.items()}


def as_fact(found: Any, better: str = "") -> Any:
    """A figure, or a tree of them by name, as plain data; which way is good by the name nearest to it that says so.

    >>> age = Figure(value=0.9, low=0.8, high=1.0, stderr=0.05, n=50)
    >>> as_fact({"columns": {"age": age}})["columns"]["age"]["better"]
    'higher'
    """
    if isinstance(found, Figure):
        return {**asdict(found), "better": better}
    if isinstance(found, Mapping):
        inside = better != ""  # names of columns say nothing
        return {
            name: as_fact(value, better if inside else BETTER.get(name, ""))
            for name, value in found.items()
        }
    return found


def coverage_facts(found: Yardsticks, classes: tuple[str, ...]) -> dict[str, Any]:
    """{"coverage", "classes"}: the figures, and the share of each class among samples and real rows."""
    coverage, shares = dict(found.coverage), []
    if found.modes is not None:
        coverage |= {"modes": found.modes.reached, "class_variation": found.modes.variation}
        parts = zip(classes, found.modes.shares, found.modes.real)
        shares = [
            {"name": name, "share": as_fact(share), "real": real} for name, share, real in parts
        ]
    return {"coverage": figures(coverage), "classes": shares}


def memorization_facts(found: Memorization) -> dict[str, Any]:
    """The test, its figures and the most suspicious pairs."""
    return {
        "caught": found.caught,
        "p": found.p,
        "z": found.z,
        **figures({"closer": found.closer, "copies": found.copies}),
        "pairs": [asdict(pair) for pair in found.pairs],
    }

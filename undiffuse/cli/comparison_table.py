"""The table of a comparison in the terminal: a line per figure, a column per preset; intervals are in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

FIGURES = {
    "frechet": "Frechet distance",
    "kernel": "kernel distance",
    "precision": "precision",
    "density": "density",
    "recall": "recall",
    "coverage": "coverage",
    "modes": "classes reached",
    "bits_per_dim": "bits/dimension",
    "samples_per_second": "samples/second",
    "evaluations_per_sample": "evaluations",
}
Row = Mapping[str, Any]


def print_table(console: Console, facts: Mapping[str, Any]) -> None:
    """Print the table of `facts`; a star marks the best of a line, and what its 95 % error cannot tell from it. The
    last column is what real rows get.
    """
    rows, best = facts["table"], facts["best"]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in (*(row["preset"] for row in rows), "real"):
        table.add_column(column, justify="right")
    for name, title in FIGURES.items():
        if any(row.get(name) is not None for row in rows):
            cells = [
                _shown(row.get(name)) + "*" * (row["preset"] in best.get(name, ())) for row in rows
            ]
            table.add_row(title, *cells, _floor(name, rows))
    console.print(table)
    console.print(
        "* the best of its line, and what cannot be told from it; real: what real rows get",
        markup=False,
    )


def _floor(name: str, rows: Sequence[Row]) -> str:
    """What real rows get, if that is the same for all."""
    floors = {row[name]["floor"] for row in rows if isinstance(row.get(name), Mapping)}
    return _shown(floors.pop()) if len(floors) == 1 and None not in floors else ""


def _shown(fact: Any) -> str:
    value = fact["value"] if isinstance(fact, Mapping) else fact
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

"""The table of a comparison in the terminal: a row per preset, the best of each column bold, ties bold together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from undiffuse.cli.terminal import number

COLUMNS = {
    "frechet": "Frechet",
    "precision": "precision",
    "recall": "recall",
    "coverage": "coverage",
    "bits_per_dim": "bits/dim",
    "samples_per_second": "samples/s",
    "evaluations_per_sample": "evaluations",
    "sampler": "drawn by",
}


def print_table(console: Console, facts: Mapping[str, Any]) -> None:
    """Print the table of `facts`; below a column's name stands its floor, where rows share one."""
    rows, best = facts["table"], facts["best"]
    table = Table(box=SIMPLE_HEAD, caption="± is 95 %; bold: the best, or not to be told from it; floor: real rows")
    table.add_column("")
    for name, title in COLUMNS.items():
        table.add_column(title + _floor(name, rows), justify="left" if name == "sampler" else "right")
    for row in rows:
        cells = [
            Text(_cell(row, name), style="bold" if row["preset"] in best.get(name, ()) else "") for name in COLUMNS
        ]
        table.add_row(row["preset"], *cells)
    console.print(table)


def _floor(name: str, rows: list[Mapping[str, Any]]) -> str:
    """ "\\nfloor 0.95", if the figures have one."""
    floors = {row[name]["floor"] for row in rows if isinstance(row.get(name), Mapping)}
    return f"\nfloor {number(floor)}" if len(floors) == 1 and (floor := floors.pop()) is not None else ""


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, Mapping):
        return value if isinstance(value, str) else number(value)
    if value["value"] is None:
        return "-"
    half = None if value["low"] is None or value["high"] is None else (value["high"] - value["low"]) / 2
    return f"{value['value']:.3g}" + ("" if half is None else f" ± {half:.2g}")

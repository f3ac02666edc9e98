"""The table of a comparison, as the documentation shows it: four families, four yardsticks.

    undiffuse compare fashion-mnist --budget 5m --out compared/fashion
    undiffuse compare digits --budget 1m --out compared/digits
    python benchmarks/families.py compared/fashion compared/digits

Reads comparison.json in each folder; prints Markdown. Bold is the best of a column, ties within
error included.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

COLUMNS = {
    "frechet": ("Frechet", "{:.2f}"),
    "kernel": ("kernel", "{:.3f}"),
    "precision": ("precision", "{:.2f}"),
    "recall": ("recall", "{:.2f}"),
    "coverage": ("coverage", "{:.2f}"),
    "modes": ("classes", "{:.0f}"),
    "bits_per_dim": ("bits/dim", "{:.3f}"),
    "samples_per_second": ("samples/s", "{:,.0f}"),
}


def cell(row: dict[str, Any], name: str, best: dict[str, list[str]]) -> str:
    """A figure with half its interval's width; a dash where there is none."""
    figure = row.get(name)
    if not figure or figure["value"] is None:
        return "-"
    _, form = COLUMNS[name]
    text = form.format(figure["value"])
    if None not in (figure["low"], figure["high"]) and name != "modes":
        text += " ± " + form.format((figure["high"] - figure["low"]) / 2)
    return f"**{text}**" if row["preset"] in best.get(name, ()) else text


def table(facts: dict[str, Any]) -> str:
    """The comparison as a table, and what was said of it in words."""
    heads = ["preset", *(head for head, _ in COLUMNS.values()), "drawn by"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in facts["table"]:
        cells = [cell(row, name, facts["best"]) for name in COLUMNS]
        lines.append(f"| `{row['preset']}` | {' | '.join(cells)} | {row.get('sampler', '')} |")
    real = facts["table"][0]
    floors = [row and row.get("floor") for row in (real.get(name) for name in COLUMNS)]
    shown = [
        form.format(floor) if floor is not None else ""
        for floor, (_, form) in zip(floors, COLUMNS.values(), strict=True)
    ]
    lines.append(f"| real rows | {' | '.join(shown)} | |")
    said = [
        f"- `{claim['preset']}`: {claim['claim']} {claim['measured']}"
        for claim in facts["textbook"]
    ]
    return "\n".join([*lines, "", *facts["words"], "", *said])


def main() -> None:
    """Print the table of each folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", help="of comparisons")
    for folder in parser.parse_args().folders:
        facts = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
        print(
            f"## {facts['source']}, {facts['budget']:g} s each, {facts['samples']:,} "
            f"samples\n\n{table(facts)}\n"
        )


if __name__ == "__main__":
    main()

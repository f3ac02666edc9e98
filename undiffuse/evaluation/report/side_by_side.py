"""Presets side by side: the table of the four yardsticks, and figure by figure on one scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from undiffuse.evaluation.report.bars import bar, scale_of
from undiffuse.evaluation.report.markup import Html, tag
from undiffuse.evaluation.report.numbers import (
    DASH,
    duration,
    interval_text,
    is_figure,
    is_known,
    number,
    size,
    value_text,
)
from undiffuse.evaluation.report.page import closed, section, sentence
from undiffuse.evaluation.report.words import DIRECTION, meaning

Facts = Mapping[str, Any]

LIKELIHOOD = ("bits_per_dim", "nats", "likelihood_kind")
TABLES = (  # groups of columns; two tables, since one of all columns fits no page
    {
        "Quality": ("frechet", "kernel", "precision", "density"),
        "Coverage": ("recall", "coverage", "modes", "caught"),
    },
    {
        "Likelihood": LIKELIHOOD,
        "Speed": ("samples_per_second", "latency", "evaluations_per_sample", "sampler"),
        "Cost": ("training_seconds", "parameters", "peak_memory"),
    },
)
PLAIN: dict[str, tuple[str, Callable[[Any], str]]] = {
    "caught": ("Copying", lambda caught: "caught" if caught else "none"),
    "likelihood_kind": ("Kind", str),
    "evaluations_per_sample": ("Evaluations per sample", number),
    "sampler": ("Drawn by", str),
    "training_seconds": ("Training time", duration),
    "parameters": ("Parameters", number),
    "peak_memory": ("Peak memory", size),
}


def tables(facts: Facts) -> Html | None:
    """Presets along, figures across, in groups."""
    rows, best = facts.get("table") or [], facts.get("best") or {}
    if not rows:
        return None
    without = {str(row["preset"]): str(row.get("likelihood_none") or "") for row in rows}
    note = tag(
        "p",
        tag("b", "Bold"),
        " is the best of its column; ties within error are called ties. Small: the 95 % interval. The bars of a "
        "column share one scale; dashed is what real rows get.",
        [f" No likelihood of {preset}: {closed(text)}" for preset, text in without.items() if text],
        class_="features",
    )
    return section("Four yardsticks", [_table(groups, rows, best) for groups in TABLES], note)


def _table(groups: Mapping[str, Sequence[str]], rows: Sequence[Facts], best: Facts) -> Html | None:
    """One table of groups of columns; only columns that some preset has."""
    shown = {
        name: [key for key in keys if any(row.get(key) not in (None, "") for row in rows)]
        for name, keys in groups.items()
    }
    shown = {name: keys for name, keys in shown.items() if keys}
    columns = [key for keys in shown.values() for key in keys]
    if not columns:
        return None
    top = [
        tag("th"),
        [tag("th", name, colspan=len(keys), scope="colgroup") for name, keys in shown.items()],
    ]
    names = [tag("th", "preset", scope="col"), [_heading(key, rows) for key in columns]]
    body = [
        tag(
            "tr",
            tag("th", str(row["preset"]), tag("small", str(row.get("family") or "")), scope="row"),
            [_cell(row, key, best, rows) for key in columns],
        )
        for row in rows
    ]
    inner = tag(
        "table", tag("thead", tag("tr", top, class_="group"), tag("tr", names)), tag("tbody", body)
    )
    return tag(
        "div", inner, class_="scroll pinned", role="region", aria_label=", ".join(shown), tabindex=0
    )


def _heading(key: str, rows: Sequence[Facts]) -> Html:
    title = PLAIN[key][0] if key in PLAIN else meaning(key).title
    better = next(
        (str(row[key].get("better") or "") for row in rows if is_figure(row.get(key))), ""
    )
    arrow = {"lower": "\u00a0↓", "higher": "\u00a0↑"}.get(better, "")
    return tag("th", title, arrow, scope="col", title=DIRECTION.get(better))


def _cell(row: Facts, key: str, best: Facts, rows: Sequence[Facts]) -> Html:
    fact, firsts = row.get(key), best.get(key) or []
    if fact is None or not is_figure(fact):
        unknown = "none" if row.get("likelihood_none") and key in LIKELIHOOD else DASH
        return tag("td", unknown if fact in (None, "") else PLAIN.get(key, ("", number))[1](fact))
    mark = (
        tag("span", "tie" if len(firsts) > 1 else "best", class_="mark")
        if row["preset"] in firsts
        else None
    )
    shown = tag("b", value_text(fact)) if mark else value_text(fact)
    scale = scale_of([each[key] for each in rows if is_figure(each.get(key))], meaning(key))
    drawn = bar(fact, scale, ends=False) if is_known(fact["value"]) else None
    small = tag("small", interval_text(fact) or tag("br"))
    return tag("td", mark, shown, small, drawn, title=str(fact.get("warning") or "") or None)


def side_by_side(facts: Facts, tones: Mapping[str, int]) -> Html | None:
    """One panel for each figure: a bar for each preset, on one scale."""
    rows = facts.get("table") or []
    panels = []
    for key in (key for groups in TABLES for keys in groups.values() for key in keys):
        found = [
            (str(row["preset"]), row[key])
            for row in rows
            if is_figure(row.get(key)) and is_known(row[key]["value"])
        ]
        if len(found) < 2:
            continue
        what = meaning(key)
        scale = scale_of([figure for _, figure in found], what)
        lines = [
            tag(
                "div",
                tag("span", preset, class_="name"),
                bar(figure, scale, ends=i == len(found) - 1, color=tones.get(preset, 7)),
                tag("span", value_text(figure), class_="of"),
                class_="line",
            )
            for i, (preset, figure) in enumerate(found)
        ]
        names = f"--name: {min(14, max(len(preset) for preset, _ in found)) + 1}ch"
        better = DIRECTION.get(str(found[0][1].get("better") or ""), "")
        said = sentence(better) if better else None
        panels.append(
            tag(
                "figure",
                tag("h3", what.title),
                tag("p", what.says, " ", said, class_="small"),
                lines,
                style=names,
            )
        )
    return section(
        "Figure by figure", tag("div", panels, class_="charts panels") if panels else None
    )

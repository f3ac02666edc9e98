"""The report of several runs on the same data: what came out, in words, the table, the triangle, the textbook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from undiffuse.evaluation.report.bars import bar, scale_of
from undiffuse.evaluation.report.charts import Axis, Point, Series, plot
from undiffuse.evaluation.report.curves import chart
from undiffuse.evaluation.report.markup import Child, Html, tag
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
from undiffuse.evaluation.report.page import badge, document, notes, pairs, picture, section, sentence, table
from undiffuse.evaluation.report.words import DIRECTION, STATES, meaning

Facts = Mapping[str, Any]

GROUPS = {
    "Quality": ("frechet", "kernel", "precision", "density"),
    "Coverage": ("recall", "coverage", "modes"),
    "Likelihood": ("bits_per_dim",),
    "Speed": ("samples_per_second", "latency", "evaluations_per_sample"),
    "Cost": ("training_seconds", "parameters", "peak_memory"),
}
PLAIN = {
    "evaluations_per_sample": ("Evaluations per sample", number),
    "training_seconds": ("Training time", duration),
    "parameters": ("Parameters", number),
    "peak_memory": ("Peak memory", size),
}
CORNERS = (("quality", "coverage"), ("quality", "speed"), ("coverage", "speed"))
AGREES = {True: ("agrees", "agrees"), False: ("disagrees", "disagrees"), None: ("open", "cannot be said")}


def render_comparison(facts: Facts, pictures: Mapping[str, bytes]) -> str:
    """The HTML document of a comparison, from its facts and a picture of samples for each preset.

    >>> print(render_comparison({"source": "digits", "runs": {}}, {})[:15])
    <!doctype html>
    """
    source = str(facts.get("source") or "data")
    tones = {preset: i % 8 for i, preset in enumerate(facts.get("runs") or {})}
    return document(
        f"{source}: comparison",
        _header(facts, source),
        _words(facts),
        _failures(facts),
        _table(facts),
        _triangle(facts, tones),
        _textbook(facts),
        _samples(facts, pictures),
        _side_by_side(facts, tones),
        _runs(facts),
        _made(facts),
    )


def _header(facts: Facts, source: str) -> Html:
    budget, evaluations = facts.get("budget"), facts.get("evaluations")
    counts = [
        f"{len(facts.get('runs') or {})} presets",
        f"{duration(budget)} of training each" if is_known(budget) else "",
        f"at most {number(evaluations)} evaluations per sample" if is_known(evaluations) else "",
        f"{number(facts.get('samples'))} samples each" if is_known(facts.get("samples")) else "",
    ]
    return tag(
        "header",
        tag("p", "undiffuse comparison", class_="kicker"),
        tag("h1", source),
        tag("p", " · ".join(filter(None, counts)), class_="sub"),
    )


def _words(facts: Facts) -> Html | None:
    """What came out, in sentences; the first is the headline."""
    words = [str(text) for text in facts.get("words") or []]
    if not words:
        return None
    return tag(
        "section",
        tag("p", sentence(words[0]), class_="sentence"),
        tag("ul", [tag("li", sentence(text)) for text in words[1:]], class_="evidence") if words[1:] else None,
        class_="verdict is-done",
        aria_label="What came out",
    )


def _failures(facts: Facts) -> Html | None:
    failed = [
        f"{preset}: {run.get('problem') or 'it failed'}"
        for preset, run in (facts.get("runs") or {}).items()
        if run.get("status") == "failed"
    ]
    return notes(failed, title="Without a result")


def _table(facts: Facts) -> Html | None:
    """Presets along, figures across, in groups; only columns that some preset has."""
    rows, best = facts.get("table") or [], facts.get("best") or {}
    if not rows:
        return None
    groups = {
        group: [key for key in keys if any(row.get(key) is not None for row in rows)] for group, keys in GROUPS.items()
    }
    groups = {group: keys for group, keys in groups.items() if keys}
    top = [tag("th", ""), [tag("th", group, colspan=len(keys), scope="colgroup") for group, keys in groups.items()]]
    columns = [key for keys in groups.values() for key in keys]
    names = [tag("th", "Preset", scope="col"), [_heading(key, rows) for key in columns]]
    body = [
        tag("tr", tag("th", str(row["preset"]), scope="row"), [_cell(row, key, best, rows) for key in columns])
        for row in rows
    ]
    inner = tag("table", tag("thead", tag("tr", top, class_="group"), tag("tr", names)), tag("tbody", body))
    scrolled = tag("div", inner, class_="scroll pinned", role="region", aria_label="The table", tabindex=0)
    note = tag(
        "p",
        tag("span", "Bold", class_="best"),
        " is the best of its column, or tied with it: ties within error are called ties. Small: the 95 % interval; "
        "the bars of a column share one scale, and dashed is what real rows get.",
        class_="features",
    )
    return section("Four yardsticks", scrolled, note)


def _heading(key: str, rows: Sequence[Facts]) -> Html:
    title = PLAIN[key][0] if key in PLAIN else meaning(key).title
    better = next((str(row[key].get("better") or "") for row in rows if is_figure(row.get(key))), "")
    arrow = {"lower": " ↓", "higher": " ↑"}.get(better, "")
    return tag("th", title, arrow, scope="col", title=DIRECTION.get(better))


def _cell(row: Facts, key: str, best: Facts, rows: Sequence[Facts]) -> Html:
    fact, first = row.get(key), row["preset"] in (best.get(key) or [])
    if not is_figure(fact):
        show = PLAIN.get(key, ("", number))[1]
        none = str(row.get("likelihood_none") or "") if key in GROUPS["Likelihood"] else ""
        return tag("td", tag("span", "none", title=none) if none else show(fact))
    assert fact is not None
    shown = tag("span", value_text(fact), class_="best" if first else None)
    scale = scale_of([each[key] for each in rows if is_figure(each.get(key))], meaning(key))
    drawn = bar(fact, scale, ends=False) if is_known(fact["value"]) else None
    return tag("td", shown, tag("small", interval_text(fact)), drawn, title=str(fact.get("warning") or "") or None)


def _triangle(facts: Facts, tones: Mapping[str, int]) -> Html | None:
    """Each two of quality, coverage and speed against each other: up and to the right is better in both."""
    corners = facts.get("triangle") or []
    if not corners:
        return None
    charts = []
    for across, up in CORNERS:
        series = [
            Series(
                str(each["preset"]),
                [Point(float(x["value"]), float(y["value"]), _ends(x), _ends(y))],
                tones.get(each["preset"], 7),
            )
            for each in corners
            if is_known((x := each[across])["value"]) and is_known((y := each[up])["value"])
        ]
        alt = f"{up.capitalize()} against {across} of {', '.join(each.name for each in series)}."
        drawing = plot(
            series,
            Axis(f"{across} →", low=0.0, high=1.0),
            Axis(f"{up} →", low=0.0, high=1.0),
            alt=alt,
            labels=True,
        )
        charts.append(chart(drawing, f"{across.capitalize()} and {up}"))
    rows = [
        [str(each["preset"]), *(_scaled(each[corner]) for corner in ("quality", "coverage", "speed"))]
        for each in corners
    ]
    listed = table(["preset", "quality", "coverage", "speed"], rows, label="The triangle in numbers")
    return section(
        "The measured triangle",
        tag("p", sentence(str(facts["triangle_words"])), class_="features") if facts.get("triangle_words") else None,
        tag("div", charts, class_="charts"),
        tag("details", tag("summary", "The triangle in numbers"), listed),
        about="The textbook says: of quality, coverage and speed a family has two. Up and to the right has both.",
    )


def _scaled(corner: Facts) -> list[Child]:
    fact = {"value": corner.get("value"), "low": corner.get("low"), "high": corner.get("high")}
    return [number(fact["value"], 3), tag("small", interval_text(fact))]


def _ends(corner: Facts) -> tuple[float, float] | None:
    low, high = corner.get("low"), corner.get("high")
    return (float(low), float(high)) if is_known(low) and is_known(high) else None  # pyright: ignore


def _textbook(facts: Facts) -> Html | None:
    rows = []
    for each in facts.get("textbook") or []:
        state, text = AGREES[each.get("agrees")]
        claim, measured = (tag("p", str(each.get(key) or "")) for key in ("claim", "measured"))
        rows.append(tag("div", tag("h3", str(each["preset"])), badge(state, text), claim, measured, class_="claim"))
    return section(
        "What the textbook says",
        tag("div", rows, class_="claims") if rows else None,
        about="The claim about each family, and what was measured here.",
    )


def _samples(facts: Facts, pictures: Mapping[str, bytes]) -> Html | None:
    order = [*(facts.get("runs") or {}), *pictures]
    shown = [
        picture(pictures[name], name, alt=f"Samples of {name} on {facts.get('source')}")
        for name in dict.fromkeys(order)
        if name in pictures
    ]
    return section("Samples side by side", tag("div", shown, class_="beside three") if shown else None)


def _side_by_side(facts: Facts, tones: Mapping[str, int]) -> Html | None:
    """One panel for each figure: a bar for each preset, on one scale."""
    rows = facts.get("table") or []
    panels = []
    for key in (key for keys in GROUPS.values() for key in keys):
        found = [
            (str(row["preset"]), row[key]) for row in rows if is_figure(row.get(key)) and is_known(row[key]["value"])
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
        better = DIRECTION.get(str(found[0][1].get("better") or ""), "")
        said = sentence(better) if better else None
        panels.append(tag("figure", tag("h3", what.title), tag("p", what.says, " ", said, class_="small"), lines))
    return section("Figure by figure", tag("div", panels, class_="charts panels") if panels else None)


def _runs(facts: Facts) -> Html | None:
    rows = []
    for preset, run in (facts.get("runs") or {}).items():
        report = run.get("report") or {}
        verdict = report.get("verdict") or {}
        status = str(run.get("status") or "waiting")
        state = str(verdict.get("state") or status)
        where = quote(str(run.get("folder") or preset)) + "/report.html"
        said = verdict.get("sentence") or run.get("problem") or ("not trained yet" if status == "waiting" else "")
        link = tag("a", "its report", href=where) if report else DASH
        rows.append([preset, badge(state, STATES.get(state, status)), tag("span", sentence(str(said))), link])
    listed = table(("run", "state", "in words", "more"), rows, label="The runs", class_="runs") if rows else None
    return section("The runs", listed)


def _made(facts: Facts) -> Html | None:
    data, features = facts.get("data") or {}, facts.get("features") or {}
    return section(
        "How it was made",
        pairs(
            [
                ("Data", str(data.get("name") or facts.get("source") or "")),
                ("Shape", " × ".join(str(side) for side in data.get("shape") or [])),
                ("Training rows", number(data["training_rows"]) if "training_rows" in data else ""),
                ("Held-out rows", number(data["held_out_rows"]) if "held_out_rows" in data else ""),
                ("Features", " ".join(str(features[key]) for key in ("name", "hash") if features.get(key))),
                ("undiffuse", str(facts.get("undiffuse") or "")),
            ]
        ),
    )

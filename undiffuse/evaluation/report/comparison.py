"""The report of several runs on the same data: what came out, in words, the table, the triangle, the textbook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from undiffuse.evaluation.report.markup import Html, join, tag
from undiffuse.evaluation.report.numbers import (
    duration,
    is_figure,
    is_known,
    number,
    value_text,
)
from undiffuse.evaluation.report.page import badge, closed, document, notes, pairs, picture, section
from undiffuse.evaluation.report.side_by_side import side_by_side, tables
from undiffuse.evaluation.report.triangle import triangle
from undiffuse.evaluation.report.words import STATES, meaning

Facts = Mapping[str, Any]

AGREES = {
    True: ("agrees", "agrees"),
    False: ("disagrees", "disagrees"),
    None: ("open", "cannot be said"),
}


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
        tables(facts),
        triangle(facts, tones),
        _textbook(facts),
        _samples(facts, pictures),
        side_by_side(facts, tones),
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
    words = [closed(str(text)) for text in facts.get("words") or []]
    if not words:
        return None
    return tag(
        "section",
        tag("p", words[0], class_="sentence"),
        tag("ul", [tag("li", text) for text in words[1:]], class_="evidence")
        if words[1:]
        else None,
        class_="verdict is-done",
        aria_label="What came out",
    )


def _failures(facts: Facts) -> Html | None:
    failed = [
        join(tag("b", preset), ": ", closed(str(run.get("problem") or "it failed")))
        for preset, run in (facts.get("runs") or {}).items()
        if run.get("status") == "failed"
    ]
    return notes(failed, title="Without a result")


def _textbook(facts: Facts) -> Html | None:
    rows = []
    for each in facts.get("textbook") or []:
        state, text = AGREES[each.get("agrees")]
        claim, measured = (tag("p", str(each.get(key) or "")) for key in ("claim", "measured"))
        answers = [(axis, *AGREES[answer]) for axis, answer in (each.get("axes") or {}).items()]
        axes = [tag("span", f"{axis}: {said}", class_=f"is-{kind}") for axis, kind, said in answers]
        said = tag("p", axes, class_="axes") if axes else None
        rows.append(
            tag(
                "div",
                tag("h3", str(each["preset"])),
                badge(state, text),
                claim,
                measured,
                said,
                class_="claim",
            )
        )
    return section(
        "What the textbook says",
        tag("div", rows, class_="claims") if rows else None,
        about="The claim about each family, and what was measured here.",
    )


def _samples(facts: Facts, pictures: Mapping[str, bytes]) -> Html | None:
    runs = facts.get("runs") or {}
    order = [
        *(name for name in pictures if name not in runs),
        *runs,
    ]  # what is no run, such as real rows, comes first
    rows = {row["preset"]: row for row in facts.get("table") or []}
    shown = [
        picture(
            pictures[name],
            _caption(name, rows.get(name) or {}),
            alt=f"Samples of {name} on {facts.get('source')}",
        )
        for name in order
        if name in pictures
    ]
    return section(
        "Samples side by side", tag("div", shown, class_="beside three") if shown else None
    )


def _caption(preset: str, row: Facts) -> Html:
    """The preset, and a figure of each of quality, coverage and speed."""
    said = [
        f"{meaning(key).title} {value_text(row[key])}"
        for key in ("frechet", "recall", "samples_per_second")
        if is_figure(row.get(key))
    ]
    return join(tag("b", preset), [tag("br"), " · ".join(said)] if said else None)


def _runs(facts: Facts) -> Html | None:
    shown = []
    for preset, run in (facts.get("runs") or {}).items():
        report = run.get("report") or {}
        verdict = report.get("verdict") or {}
        status = str(run.get("status") or "waiting")
        state = str(verdict.get("state") or status)
        said = str(verdict.get("sentence") or run.get("problem") or "")
        where = quote(str(run.get("folder") or preset)) + "/report.html"
        link = tag("p", tag("a", f"The report of {preset}", href=where)) if report else None
        sampler = report.get("sampler") or {}
        steps = f", {number(sampler['steps'])} steps" if is_known(sampler.get("steps")) else ""
        how = (
            tag("p", f"Sampler: {sampler['method']}{steps}.", class_="small")
            if sampler.get("method")
            else None
        )
        word = badge(state, STATES.get(state, status.capitalize()))
        shown.append(
            tag(
                "div",
                tag("h3", preset),
                word,
                tag("p", closed(said)) if said else None,
                how,
                link,
                class_="claim",
            )
        )
    return section("The runs", tag("div", shown, class_="claims") if shown else None)


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
                (
                    "Features",
                    " ".join(str(features[key]) for key in ("name", "hash") if features.get(key)),
                ),
                ("undiffuse", str(facts.get("undiffuse") or "")),
            ]
        ),
    )

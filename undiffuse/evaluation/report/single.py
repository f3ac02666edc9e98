"""The report of one run: the verdict first, in words, then what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from undiffuse.evaluation.metrics.memorization import ALARM
from undiffuse.evaluation.report import curves
from undiffuse.evaluation.report.figures import figures, tile
from undiffuse.evaluation.report.markup import Html, tag
from undiffuse.evaluation.report.numbers import duration, is_figure, is_known, number, size
from undiffuse.evaluation.report.page import (
    badge,
    document,
    notes,
    pairs,
    picture,
    section,
    sentence,
    table,
)
from undiffuse.evaluation.report.words import COLUMN, PICTURES, STATES, USE, meaning

Facts = Mapping[str, Any]
Pictures = Mapping[str, bytes]

YARDSTICKS = ("quality", "coverage", "likelihood", "speed")
PLACED = ("samples", "real", "pairs")  # pictures with a place of their own


def render(facts: Facts, pictures: Pictures) -> str:
    """The HTML document of one run, from its facts and its pictures (name -> PNG).

    >>> print(render({"preset": "edm", "data": {"name": "digits"}}, {})[:15])
    <!doctype html>
    """
    data, verdict = facts.get("data") or {}, facts.get("verdict") or {}
    preset, name = str(facts.get("preset") or "model"), str(data.get("name") or "data").rstrip("/")
    return document(
        f"{preset} on {name}: report",
        _header(facts, preset, name),
        _verdict(verdict),
        _glance(facts),
        notes(sentence(str(text)) for text in facts.get("warnings") or []),
        _samples(pictures, preset, name),
        _memorization(facts, pictures),
        _quality(facts),
        _coverage(facts),
        _likelihood(facts),
        _speed(facts),
        _table(facts.get("table") or {}),
        _training(facts.get("curves") or {}),
        _more(pictures),
        _made(facts),
        _footnotes(facts),
    )


def _header(facts: Facts, preset: str, name: str) -> Html:
    data = facts.get("data") or {}
    counts = [
        (facts.get("samples"), "samples"),
        (data.get("training_rows"), "training rows"),
        (data.get("held_out_rows"), "held-out rows"),
    ]
    said = " · ".join(f"{number(count)} {what}" for count, what in counts if is_known(count))
    run = str(facts.get("run") or "")
    return tag(
        "header",
        tag("p", "undiffuse report", class_="kicker"),
        tag("h1", name, tag("span", " / ", class_="slash"), preset),
        tag("p", tag("code", run), tag("br") if run and said else None, said, class_="sub"),
    )


def _verdict(verdict: Facts) -> Html | None:
    if not verdict:
        return None
    state = str(verdict.get("state") or "unclear")
    word, advice = STATES.get(state, state.capitalize()), verdict.get("advice")
    return tag(  # the badge says the word, so the sentence need not
        "section",
        badge(state, word),
        tag(
            "p",
            sentence(str(verdict.get("sentence") or "").removeprefix(f"{word}: ")),
            class_="sentence",
        ),
        tag(
            "ul",
            [tag("li", sentence(str(item))) for item in verdict.get("evidence") or []],
            class_="evidence",
        ),
        tag("p", tag("strong", "What to do. "), sentence(str(advice)), class_="advice")
        if advice
        else None,
        class_=f"verdict is-{state if state in STATES else 'unclear'}",
        aria_label="Verdict",
        id="verdict",
    )


def _glance(facts: Facts) -> Html | None:
    """The first figure of each yardstick."""
    tiles = []
    for name in YARDSTICKS:
        part = facts.get(name) or {}
        key = next((key for key, fact in part.items() if is_figure(fact)), "")
        if key:
            tiles.append(tile(name.capitalize(), part[key], meaning(key), f"#{name}"))
        elif part.get("none"):
            small = tag("span", "by its nature", class_="small")
            none = tag("b", "none", class_="value")
            tiles.append(
                tag(
                    "a",
                    tag("span", name.capitalize(), class_="name"),
                    none,
                    small,
                    class_="tile",
                    href=f"#{name}",
                )
            )
    return tag("nav", tiles, class_="tiles", aria_label="The four yardsticks") if tiles else None


def _samples(pictures: Pictures, preset: str, name: str) -> Html | None:
    shown = [
        picture(pictures[key], PICTURES[key], alt=f"{PICTURES[key]}: {preset} on {name}")
        for key in ("samples", "real")
        if key in pictures
    ]
    return section("Samples", tag("div", shown, class_="beside") if shown else None)


def _memorization(facts: Facts, pictures: Pictures) -> Html | None:
    memory = facts.get("memorization") or {}
    drawing = picture(pictures["pairs"], PICTURES["pairs"]) if "pairs" in pictures else None
    if not memory:
        return section("Memorization", drawing)
    tested = f"p = {number(memory.get('p'))}, z = {number(memory.get('z'), 2)}"
    state = str((facts.get("verdict") or {}).get("state") or "")
    words = _NEARNESS[
        "memorizing" if state == "memorizing" else "near" if memory.get("caught") else "none"
    ]
    said = tag(
        "p",
        tag("strong", f"{words} ({tested}). "),
        f"The alarm is at p below {ALARM:g}.",
        class_="said",
    )
    rows = [
        [
            number(p.get("sample")),
            number(p.get("training")),
            number(p.get("distance")),
            number(p.get("ratio")),
        ]
        for p in memory.get("pairs") or []
    ]
    listed = None
    if rows:
        head = ("sample", "training row", "distance", "ratio to the next")
        inner = table(head, rows, label="The most suspicious pairs")
        listed = tag(
            "details", tag("summary", f"The {len(rows)} most suspicious pairs in numbers"), inner
        )
    return section("Memorization", said, drawing, listed, figures(memory, "memorization"))


_NEARNESS = {
    "memorizing": "Caught copying: samples lie nearer to training rows than held-out rows do, by more than chance "
    "explains",
    "near": "Nearer, and no copies: samples lie nearer to training rows than held-out rows do, by more than chance "
    "explains, as blurred or unvaried ones also do",
    "none": "No sign of copying: samples lie no nearer to training rows than held-out rows do, beyond chance",
}


def _features(facts: Facts) -> Html | None:
    """Which features the distances were measured in."""
    features = facts.get("features") or {}
    if not features:
        return None
    said = [
        tag("b", str(features.get("name") or "")),
        f", {number(features.get('dimensions'))} dimensions",
    ]
    if is_known(features.get("accuracy")):
        said.append(
            f", accuracy {number(features['accuracy'], 3)} on rows that it was not fitted on"
        )
    if features.get("hash"):
        said += [", hash ", tag("code", str(features["hash"]))]
    return tag("p", "Features: ", said, ".", class_="features")


def _legend() -> Html:
    return tag(
        "div",
        tag("span", tag("i", class_="key-dot"), "value"),
        tag("span", tag("i", class_="key-interval"), "95 % interval"),
        tag("span", tag("i", class_="key-floor"), "floor: what real rows get"),
        class_="legend",
    )


def _quality(facts: Facts) -> Html | None:
    shown = figures(facts.get("quality") or {}, "quality")
    return section(
        "Quality",
        shown and [_features(facts), _legend(), shown],
        about="Do samples look like the data?",
    )


def _coverage(facts: Facts) -> Html | None:
    shown = figures(facts.get("coverage") or {}, "coverage")
    histogram = curves.classes(facts.get("classes") or [])
    return section(
        "Coverage",
        shown and [_features(facts), shown],
        histogram,
        about="Do they reach all that the data hold?",
    )


def _likelihood(facts: Facts) -> Html | None:
    part = facts.get("likelihood") or {}
    none = tag("p", sentence(str(part["none"])), class_="said") if part.get("none") else None
    words = [str(part[key]) for key in ("meaning",) if part.get(key)]
    if part.get("kind"):
        words.append(f"Kind: {part['kind']}")
    if is_known(part.get("rows")):
        words.append(f"{number(part['rows'])} held-out rows were scored")
    said = (
        tag("p", " ".join(sentence(text) for text in words), class_="features") if words else None
    )
    return section(
        "Likelihood",
        none,
        said,
        figures(part, "likelihood"),
        about="How probable does the model find rows it has not seen?",
    )


def _speed(facts: Facts) -> Html | None:
    part = facts.get("speed") or {}
    plain = pairs(
        [
            ("Evaluations per sample", _given(part, "evaluations_per_sample", number)),
            ("Training time", _given(part, "training_seconds", duration)),
            ("Training steps", _given(part, "steps", number)),
            ("Parameters", _given(part, "parameters", number)),
            ("Peak memory", _given(part, "peak_memory", size)),
        ]
    )
    return section("Speed", figures(part, "speed"), plain, about="What do samples cost?")


def _given(part: Facts, key: str, show: Any) -> str:
    return show(part[key]) if key in part else ""


def _table(part: Facts) -> Html | None:
    columns, uses = part.get("columns") or {}, part.get("usefulness") or {}
    return section(
        "Table",
        figures(part, "table"),
        [tag("h3", "Columns", class_="kind"), figures(columns, "table.columns", what=COLUMN)]
        if columns
        else None,
        [tag("h3", "Usefulness", class_="kind"), figures(uses, "table.usefulness", what=USE)]
        if uses
        else None,
        about="Columns: how alike each is, 1 is equal. Usefulness: how well a model fitted on samples predicts the "
        "column of real held-out rows: accuracy for categories, share of variance for numbers.",
    )


def _training(part: Facts) -> Html | None:
    shown = [
        curves.losses(part),
        curves.levels(part.get("levels")),
        *curves.by_evaluations(part.get("by_evaluations") or []),
    ]
    shown = [each for each in shown if each]
    return section("Curves", tag("div", shown, class_="charts") if shown else None)


def _more(pictures: Pictures) -> Html | None:
    shown = [
        picture(png, PICTURES.get(name, name.replace("_", " ").capitalize()))
        for name, png in pictures.items()
        if name not in PLACED
    ]
    return section("More pictures", tag("div", shown, class_="beside") if shown else None)


def _made(facts: Facts) -> Html | None:
    data, sampler, features = (facts.get(key) or {} for key in ("data", "sampler", "features"))
    method = str(sampler.get("method") or "")
    steps = sampler.get("steps")
    shape = data.get("shape") or []
    return section(
        "How it was made",
        pairs(
            [
                ("Run", str(facts.get("run") or "")),
                (
                    "Preset",
                    " / ".join(
                        dict.fromkeys(
                            str(facts[key]) for key in ("preset", "family") if facts.get(key)
                        )
                    ),
                ),
                ("Data", str(data.get("name") or "")),
                ("Shape", " × ".join(str(side) for side in shape)),
                ("Training rows", _given(data, "training_rows", number)),
                ("Held-out rows", _given(data, "held_out_rows", number)),
                ("Samples", _given(facts, "samples", number)),
                ("Sampler", method + (f", {number(steps)} steps" if is_known(steps) else "")),
                ("Evaluations", _given(sampler, "evaluations", number)),
                ("Seed", str(facts["seed"]) if "seed" in facts else ""),
                (
                    "Features",
                    " ".join(str(features[key]) for key in ("name", "hash") if features.get(key)),
                ),
                ("undiffuse", str(facts.get("undiffuse") or "")),
            ]
        ),
    )


FOOTNOTES = (
    "Intervals hold the truth in 95 of 100 cases. Those of the Fréchet distance and of neighbour counts come from "
    "halves of the rows drawn without replacement: a bootstrap would put copies among them and bias both.",
    "A floor is the same figure between two disjoint sets of real rows: what a perfect sampler would get. Only the "
    "distance to the floor is the model's.",
    "A figure on n samples is compared with a figure on n samples only: the Fréchet distance, above all, grows as n "
    "falls.",
    "A likelihood and the look of samples may disagree: either can be good while the other is bad.",
)


def _footnotes(facts: Facts) -> Html | None:
    return tag("footer", tag("ol", [tag("li", text) for text in FOOTNOTES]))

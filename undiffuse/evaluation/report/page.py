"""From facts to HTML: what the templates are given.

Text is escaped by Jinja wherever it comes from. The style stands in the document, pictures are
data, and a policy in its head forbids whatever else a browser could fetch or run.
"""

from __future__ import annotations

import base64
import re
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import ChainableUndefined, Environment, PackageLoader
from markupsafe import Markup

from undiffuse.evaluation.metrics.memorization import ALARM
from undiffuse.evaluation.report import charts, words
from undiffuse.evaluation.report.numbers import (
    DASH,
    FigureFacts,
    decimals,
    duration,
    interval_text,
    is_figure,
    is_known,
    number,
    size,
    value_text,
)

Facts = Mapping[str, Any]

_HEAD = b"\x89PNG\r\n\x1a\n"
_SHARP = 700  # pixels of width; smaller pictures are enlarged with sharp edges
_LIKELIHOOD = ("bits_per_dim", "nats", "likelihood_kind")
_TABLES = (  # groups of columns; two tables, since one of all columns fits no page
    {
        "Quality": ("detection", "frechet", "kernel", "precision", "density"),
        "Coverage": ("recall", "coverage", "modes", "caught"),
    },
    {
        "Likelihood": _LIKELIHOOD,
        "Speed": ("samples_per_second", "latency", "evaluations_per_sample", "sampler"),
        "Cost": ("training_seconds", "parameters", "peak_memory"),
    },
)
_PLAIN: dict[str, tuple[str, Callable[[Any], str]]] = {
    "caught": ("Copying", lambda caught: "caught" if caught else "none"),
    "likelihood_kind": ("Kind", str),
    "evaluations_per_sample": ("Evaluations per sample", number),
    "sampler": ("Sampler", str),
    "training_seconds": ("Training time", duration),
    "parameters": ("Parameters", number),
    "peak_memory": ("Peak memory", size),
}


def render(facts: Facts, pictures: Mapping[str, bytes]) -> str:
    """Return the HTML document of one run.

    Args:
        facts: plain data as report.json holds them; whatever is missing is left out of the page.
        pictures: name -> PNG.

    Raises:
        ValueError: if a picture is not a PNG.

    >>> print(render({"preset": "edm", "data": {"name": "digits"}}, {})[:15])
    <!doctype html>
    """
    shown = {name: picture(png) for name, png in pictures.items()}
    return _environment().get_template("report.html").render(facts=facts, pictures=shown)


def render_comparison(facts: Facts, pictures: Mapping[str, bytes]) -> str:
    """Return the HTML document of a comparison.

    Args:
        facts: plain data as comparison.json holds them.
        pictures: preset -> PNG of its samples; those of no preset, such as real rows, come first.

    Raises:
        ValueError: if a picture is not a PNG.

    >>> print(render_comparison({"source": "digits", "runs": {}}, {})[:15])
    <!doctype html>
    """
    runs = facts.get("runs") or {}
    tones = {preset: i % 8 for i, preset in enumerate(runs)}
    order = [*(name for name in pictures if name not in runs), *(n for n in runs if n in pictures)]
    shown = {name: picture(pictures[name]) for name in order}
    template = _environment().get_template("comparison.html")
    return template.render(facts=facts, pictures=shown, tones=tones)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("undiffuse.evaluation.report"),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = files("undiffuse.evaluation.report").joinpath("templates", "style.css")
    environment.filters |= {
        "anchor": anchor,
        "closed": closed,
        "duration": duration,
        "interval": interval_text,
        "number": number,
        "sentence": sentence,
        "share": lambda value: f"{number(100 * value, 1)} %" if is_known(value) else DASH,
        "spoken": spoken,
        "url": quote,
        "value": value_text,
    }
    environment.tests |= {"figure": is_figure, "known": is_known}
    environment.globals |= {
        "ALARM": ALARM,
        "agreement": _AGREEMENT,
        "bar": charts.bar,
        "charts": charts,
        "comparison_tables": _comparison_tables,
        "figure_rows": figure_rows,
        "panels": _panels,
        "scale_of": charts.scale_of,
        "style": Markup(style.read_text(encoding="utf-8")),
        "terms": _terms,
        "words": words,
    }
    return environment


_AGREEMENT = {
    True: ("agrees", "agrees"),
    False: ("disagrees", "disagrees"),
    None: ("open", "undecided"),
}


# --- filters


def anchor(title: str) -> str:
    """Return the name that a heading is linked by.

    >>> anchor("How it was made")
    'how-it-was-made'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def sentence(text: object) -> str:
    """Return a text with a capital first letter and a full stop.

    >>> sentence("the floor is that of 40 real rows")
    'The floor is that of 40 real rows.'
    """
    text = closed(text)
    return text[:1].upper() + text[1:]


def closed(text: object) -> str:
    """Return a text with a full stop and printed signs; its first letter stays as it is.

    >>> closed("edm is better by -3.1 +- 0.2")
    'edm is better by −3.1 ± 0.2.'
    """
    text = re.sub(r"(?<![\w.])-(?=\d)", "−", str(text or "").strip().replace("+-", "±"))
    return text if text[-1:] in ("", ".", "!", "?") else text + "."


def spoken(figure: FigureFacts) -> str:
    """Return what a bar shows, for screen readers."""
    said = value_text(figure)
    if interval_text(figure):
        said += f", 95 % interval {interval_text(figure)}"
    return said + (f", floor {number(figure['floor'])}" if is_known(figure.get("floor")) else "")


def picture(png: bytes) -> dict[str, Any]:
    """Return what an `img` element needs: source, width, height, and whether its pixels stay sharp.

    Raises:
        ValueError: if it is not a PNG.
    """
    if not png.startswith(_HEAD):
        raise ValueError("a picture of a report is a PNG")
    width, height = struct.unpack(">II", png[16:24])
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return {"source": source, "width": width, "height": height, "sharp": width < _SHARP}


# --- figures


def figure_rows(
    facts: Facts, prefix: str, what: words.Meaning | None = None
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the warnings that several figures share, and a row for each figure among the facts.

    Args:
        facts: plain data, of which only figures are shown.
        prefix: of the rows' anchors.
        what: the meaning of all of them, if they are of one kind and titled by their keys.
    """
    found = {key: fact for key, fact in facts.items() if is_figure(fact)}
    own = {key: str(fact.get("warning") or "") for key, fact in found.items()}
    shared = []
    for text in [text for text, count in Counter(own.values()).items() if text and count > 1]:
        warned = [key for key in own if own[key] == text or own[key].endswith(f"; {text}")]
        own |= {key: own[key].removesuffix(text).removesuffix("; ") for key in warned}
        count, total = len(warned), len(found)
        some = f"{count} of the {total} figures"
        named = some if count < total else "Both figures" if total == 2 else f"All {total} figures"
        shared.append(f"{named}: {closed(text)}")
    rows = []
    for key, fact in found.items():
        meaning = what or words.meaning(key)
        row = {
            "figure": fact,
            "warning": own[key],
            "anchor": f"{prefix}.{key}",
            "meaning": meaning,
            "title": key if what else meaning.title,
            "direction": _direction(fact, meaning),
        }
        rows.append(row)
    return shared, rows


def _direction(figure: FigureFacts, what: words.Meaning) -> str:
    """Which direction is better, and the floor."""
    direction = words.DIRECTION.get(str(figure.get("better") or ""), "")
    floor = figure.get("floor")
    if is_known(floor):
        text = what.floor.format(number(floor, decimals(figure)))
        return f"{direction}; {text}" if direction else text
    return "" if figure.get("better") == "floor" else direction


def _terms(facts: Facts, *names: str) -> list[tuple[str, str]]:
    """(title, text) of the facts of these names that are there."""
    every: dict[str, tuple[str, Callable[[Any], str]]] = {
        **_PLAIN,
        "steps": ("Training steps", number),
        "training_rows": ("Training rows", number),
        "held_out_rows": ("Held-out rows", number),
        "samples": ("Samples", number),
        "seed": ("Seed", str),
        "run": ("Run", str),
        "name": ("Data", str),
        "shape": ("Shape", lambda shape: " × ".join(map(str, shape or []))),
        "undiffuse": ("undiffuse", str),
    }
    return [(every[name][0], every[name][1](facts[name])) for name in names if name in facts]


# --- comparisons


def _comparison_tables(facts: Facts) -> list[dict[str, Any]]:
    """The tables of a comparison: groups of columns that some preset has, and their headings."""
    rows = facts.get("table") or []
    tables = []
    for groups in _TABLES:
        shown = {
            name: [key for key in keys if any(row.get(key) not in (None, "") for row in rows)]
            for name, keys in groups.items()
        }
        shown = {name: keys for name, keys in shown.items() if keys}
        columns = [_column(key, rows) for keys in shown.values() for key in keys]
        if columns:
            tables.append({"groups": shown, "columns": columns, "rows": rows})
    return tables


def _column(key: str, rows: Sequence[Facts]) -> dict[str, Any]:
    figures = [row[key] for row in rows if is_figure(row.get(key))]
    better = next((str(figure["better"]) for figure in figures if figure.get("better")), "")
    return {
        "key": key,
        "title": _PLAIN[key][0] if key in _PLAIN else words.meaning(key).title,
        "arrow": {"lower": "\u00a0↓", "higher": "\u00a0↑"}.get(better, ""),
        "direction": words.DIRECTION.get(better),
        "scale": charts.scale_of(figures, words.meaning(key)) if figures else None,
        "text": lambda row: _plain_text(row, key),
    }


def _plain_text(row: Facts, key: str) -> str:
    """What stands in a cell that holds no figure."""
    fact = row.get(key)
    if fact in (None, ""):
        return "none" if row.get("likelihood_none") and key in _LIKELIHOOD else DASH
    return _PLAIN.get(key, ("", number))[1](fact)


def _panels(facts: Facts) -> list[dict[str, Any]]:
    """One panel for each figure that several presets have: their figures on one scale."""
    rows = facts.get("table") or []
    panels = []
    for key in (key for groups in _TABLES for keys in groups.values() for key in keys):
        found = [
            (str(row["preset"]), row[key])
            for row in rows
            if is_figure(row.get(key)) and is_known(row[key]["value"])
        ]
        if len(found) > 1:
            what = words.meaning(key)
            panel = {
                "meaning": what,
                "lines": found,
                "scale": charts.scale_of([figure for _, figure in found], what),
                "direction": words.DIRECTION.get(str(found[0][1].get("better") or ""), ""),
                "width": min(14, max(len(preset) for preset, _ in found)) + 1,
            }
            panels.append(panel)
    return panels

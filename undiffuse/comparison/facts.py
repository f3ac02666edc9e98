"""A comparison as plain data: what the reports of several runs say, side by side.

    reports --> a table, a row per run --> the best of each column, triangle, textbook's claims,
    words

Every figure comes from a report as it is; a run without a report is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from undiffuse.comparison.textbook import conclusions, textbook
from undiffuse.comparison.triangle import EXPLANATION, best, triangle

_QUALITY = ("detection", "frechet", "kernel", "precision", "density")
_COVERAGE = ("recall", "coverage", "modes", "class_variation")
_SPEED = (
    "samples_per_second", "evaluations_per_sample", "latency", "training_seconds", "steps",
    "parameters", "peak_memory",
)  # fmt: skip


def comparison_facts(runs: Mapping[str, Mapping[str, Any]], **about: Any) -> dict[str, Any]:
    """Return the facts of a comparison.

    Args:
        runs: preset -> {"folder", "status", "problem", "report"}; "report" holds the facts of the
            run's own report, None if there is none.
        about: further facts, written as they are.
    """
    rows = [table_row(preset, run["report"]) for preset, run in runs.items() if run["report"]]
    winners, claims = best(rows), textbook(rows)
    return {
        "format": 1,
        "kind": "comparison",
        **about,
        "features": next((run["report"]["features"] for run in runs.values() if run["report"]), {}),
        "runs": {preset: dict(run) for preset, run in runs.items()},
        "table": rows,
        "best": winners,
        "triangle": triangle(rows),
        "triangle_words": EXPLANATION,
        "textbook": claims,
        "words": conclusions(rows, winners, claims) or ["No model is evaluated yet."],
    }


def table_row(preset: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row of the table: the yardsticks of a report and its sampler; None if absent."""
    likelihood, speed, sampler = report["likelihood"], report["speed"], report["sampler"]
    drawn = f"{sampler['method']}, {sampler['steps']} steps" if sampler.get("steps") else "one pass"
    return {
        "preset": preset,
        "family": report["family"].lower(),
        "sampler": drawn,
        **{name: report["quality"].get(name) for name in _QUALITY},
        **{name: report["coverage"].get(name) for name in _COVERAGE},
        "bits_per_dim": likelihood.get("bits_per_dim"),
        "nats": likelihood.get("nats"),
        "likelihood_kind": likelihood.get("kind", ""),
        "likelihood_none": likelihood.get("none", ""),
        **{name: speed.get(name) for name in _SPEED},
        "caught": (report.get("verdict") or {}).get("state") == "memorizing",
    }

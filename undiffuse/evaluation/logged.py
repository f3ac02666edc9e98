"""A report on the dashboards that training logs to."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from undiffuse.evaluation.report import render
from undiffuse.interfaces import Listener
from undiffuse.run import Run
from undiffuse.training.loggers import Logger, Relay, find_loggers


def log_report(
    facts: dict[str, Any],
    pictures: dict[str, bytes],
    run: Run,
    loggers: Iterable[str | Logger | Listener],
    *,
    say: Callable[[str], None] | None = None,
) -> None:
    """Send a report to loggers: its figures as numbers named report/..., and its page.

    A dashboard that the run was logged to in training gets them there. A logger that fails is left
    out.

    Args:
        facts: of the report.
        pictures: of the report.
        run: what was evaluated.
        loggers: as for `fit`.
        say: is told which failed, in a sentence; None: as Python warns.
    """

    def warn(sentence: str) -> None:
        warnings.warn(sentence, stacklevel=2)

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "logger":
            (say or warn)(event["said"])

    step = run.state["step"]
    config = {"preset": run.config.get("preset"), **run.config["training"]}
    folder = None if run.remote else run.path
    figures = {
        group: {name: one["value"] for name, one in facts[group].items() if _is_figure(one)}
        for group in ("quality", "coverage", "memorization", "likelihood", "speed")
        if isinstance(facts.get(group), dict)
    }
    relay = Relay(find_loggers(loggers), listen, folder=folder, config=config, every=1)
    with TemporaryDirectory() as place:
        page = Path(place) / "report.html"
        page.write_text(render(facts, pictures), encoding="utf-8")
        relay({"event": "start", "step": step})
        relay({"event": "report", "step": step, "figures": figures, "path": str(page)})
        relay.close()


def _is_figure(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("value"), int | float)

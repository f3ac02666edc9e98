"""`undiffuse evaluate`: from a run to a report on its quality, coverage, likelihood and speed.

    run -> samples -> figures against held-out rows -> report.html, report.json

What can be refused is refused before the first sample is drawn; samples that are drawn are kept.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from undiffuse.atomic import contents
from undiffuse.cli.interrupt import INTERRUPTED, Interruption
from undiffuse.cli.progress import Bar
from undiffuse.cli.verb import Asked, free_place, verb
from undiffuse.declared import options_of
from undiffuse.errors import InputError
from undiffuse.options import EvaluateOptions, EvaluationOptions, FeatureOptions
from undiffuse.reading import read_json

if TYPE_CHECKING:
    from undiffuse.cli.terminal import Terminal

FILES = ("report.html", "report.json")


@verb("RUN [OPTIONS]", example="undiffuse evaluate runs/digits")
def evaluate(
    asked: Asked[EvaluateOptions],
    run: Annotated[str, Parameter(help="Folder of the run.")],
) -> int:
    """Evaluate a run and write a report.

    Samples are compared with held-out rows: quality, coverage, likelihood and speed, summed up by a
    verdict in words. An earlier report is replaced. After an interruption the same command resumes.
    """
    options, terminal = asked.options, asked.terminal
    chosen = options.out and _free_folder(options.out, overwrite=options.overwrite)

    from undiffuse.evaluation.evaluate import evaluate as evaluate_run
    from undiffuse.evaluation.logged import log_report
    from undiffuse.run import Run
    from undiffuse.training.loggers import find_loggers

    loggers = find_loggers(options.log or ())  # refused before anything is read
    opened = Run(run)
    if chosen is None:
        opened.check_local("say where to write the report with --out")
    out = chosen or opened.path
    with Interruption(quiet=terminal.quiet) as interruption, Bar(terminal) as bar:
        report = evaluate_run(
            opened,
            features=features(options),
            progress=bar,
            stop=interruption.stopped,
            **asked.chosen("data", "samples", *options_of(EvaluationOptions)),
        )
    if report is None:
        terminal.result({"run": run, "stopped": True})
        terminal.say("stopped; the samples drawn are kept, and the same command resumes.")
        return INTERRUPTED
    places = report.write(out)
    if loggers:
        say = partial(terminal.say, style="yellow")
        log_report(report.facts, report.pictures, opened, loggers, say=say)
    terminal.result({**report.facts, "out": [str(place) for place in places], "stopped": False})
    _conclude(report.facts, places, terminal)
    return 0


def features(options: FeatureOptions) -> str | None:
    """What `--features` or `--inception-weights` asks for, as the library takes it."""
    weights = options.inception_weights
    return options.features if weights is None else f"inception:{weights}"


def _free_folder(typed: str, *, overwrite: bool) -> Path:
    """The folder of the report. Raises InputError if it holds more than an earlier report."""
    out = Path(os.path.expanduser(typed))
    ours = out.is_dir() and {*contents(out)} <= set(FILES)
    free_place(typed, overwrite=overwrite or (ours and _is_report(out)))
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {typed}: this is a file; give a folder for the report.")
    return out


def _is_report(folder: Path) -> bool:
    try:
        return read_json(folder / "report.json")["kind"] == "report"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _conclude(facts: dict[str, Any], places: tuple[Path, ...], terminal: Terminal) -> None:
    """Say the verdict, its advice, the warnings, and where the report is."""
    verdict = facts["verdict"]
    terminal.say(verdict["sentence"], "bold")
    if verdict["advice"]:
        terminal.say(verdict["advice"])
    for warning in facts["warnings"]:
        terminal.say(warning, "yellow")
    for place in places:
        terminal.say(f"wrote {place}")

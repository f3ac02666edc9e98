"""`undiffuse evaluate`: what a trained model is worth, as a report its owner can act on.

    run -> samples -> figures against held-out rows -> report.html, report.json

What can be refused is refused before the first sample is drawn; samples that are drawn are kept, whatever interrupts.
"""

from __future__ import annotations

import json as reader
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from undiffuse.cli.interrupt import INTERRUPTED, Interruption
from undiffuse.cli.place import refuse_taken
from undiffuse.cli.sample import Method
from undiffuse.cli.settings import AtLeast, check, flag, given, option
from undiffuse.errors import InputError

if TYPE_CHECKING:
    from undiffuse.cli.terminal import Terminal

# Options that a comparison has too.
Features = Annotated[
    str | None, option("What rows are compared by: trained, lite0, raw or whitened (by the data).")
]
InceptionWeights = Annotated[
    str | None, option("File of Inception's published weights: compare by these, which gives FID.")
]
Rows = Annotated[
    int | None, AtLeast(1), option("Held-out rows whose likelihood is taken, at most (500).")
]
Batch = Annotated[int | None, AtLeast(1), option("Samples drawn at a time (64).")]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"] | None,
    option("Where to compute (auto: the fastest there is)."),
]
FILES = ("report.html", "report.json")
FEWEST = 16  # samples that neighbours among halves can be counted for


@dataclass(kw_only=True)
class EvaluateOptions:
    """Everything but the run."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic reads it off the class

    data: Annotated[
        str | None, option("The run's data, where they have moved or came from Python.")
    ] = None
    n: Annotated[
        int | None,
        AtLeast(FEWEST),
        option("Samples (as many as held-out rows, within 1000 and 5000).", name="-n"),
    ] = None
    out: Annotated[str | None, option("Folder that the report is written to (the run's).")] = None
    method: Annotated[Method | None, option("How samples are drawn (the preset's own way).")] = None
    steps: Annotated[
        int | None, AtLeast(1), option("Steps from noise to data (the method's own number).")
    ] = None
    features: Features = None
    inception_weights: InceptionWeights = None
    rows: Rows = None
    seed: Annotated[int | None, AtLeast(0), option("The same seed gives the same samples (0).")] = (
        None
    )
    batch: Batch = None
    device: Device = None
    overwrite: Annotated[bool | None, flag("Write into --out even if it holds other things.")] = (
        None
    )
    quiet: Annotated[bool | None, flag("Print nothing but errors.")] = None
    json: Annotated[
        bool | None, flag("Print the report's facts as one JSON object on standard output.")
    ] = None


def evaluate(
    run: Annotated[str, Parameter(help="Folder of the run.")],
    /,
    *,
    options: Annotated[EvaluateOptions | None, Parameter(name="*")] = None,
) -> int:
    """Say what a trained model is worth: a report of quality, coverage, likelihood and speed.

    Its samples are compared with held-out rows; the report opens with a verdict in words. An earlier report is
    replaced. The same command goes on where it was interrupted.
    """
    chosen = check(EvaluateOptions, given(options))
    features = chosen_features(chosen.features, chosen.inception_weights)
    out = Path(os.path.expanduser(chosen.out or run))
    if chosen.out is not None:
        refuse_other_things(chosen.out, out, bool(chosen.overwrite))

    from undiffuse.cli.progress import Bar
    from undiffuse.cli.terminal import Terminal
    from undiffuse.device import find_device
    from undiffuse.evaluation.evaluate import evaluate as evaluate_run
    from undiffuse.run import Run

    terminal = Terminal(quiet=chosen.quiet, as_json=chosen.json)
    find_device(chosen.device or "auto")
    opened = Run(run)
    names = ("data", "n", "method", "steps", "rows", "seed", "batch", "device")
    asked = {name: value for name in names if (value := getattr(chosen, name)) is not None}
    with Interruption(quiet=terminal.quiet) as interruption, Bar(terminal) as bar:
        report = evaluate_run(
            opened, features=features, progress=bar, stop=interruption.stopped, **asked
        )
    if report is None:
        terminal.result({"run": run, "stopped": True})
        terminal.say(
            "stopped; the samples drawn so far are kept, and the same command goes on from there."
        )
        return INTERRUPTED
    places = report.write(out)
    terminal.result({**report.facts, "out": [str(place) for place in places], "stopped": False})
    _conclude(report.facts, places, terminal)
    return 0


def chosen_features(name: str | None, weights: str | None) -> str | None:
    """What `--features` and `--inception-weights` ask for, as the library takes it. Raises InputError for both."""
    if weights is None:
        return name
    if name is not None:
        raise InputError(
            "--features and --inception-weights: each says what rows are compared by; leave one out."
        )
    return f"inception:{weights}"


def refuse_other_things(typed: str, out: Path, overwrite: bool) -> None:
    """Raises InputError if `out` is a file, cannot be written to, or holds more than an earlier report."""
    ours = (
        out.is_dir() and {place.name for place in out.iterdir()} <= set(FILES) and _is_report(out)
    )
    refuse_taken(typed, out, overwrite or ours)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {typed}: this is a file; give a folder for the report.")


def _is_report(folder: Path) -> bool:
    try:
        return (
            reader.loads((folder / "report.json").read_text(encoding="utf-8"))["kind"] == "report"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _conclude(facts: dict[str, Any], places: tuple[Path, ...], terminal: Terminal) -> None:
    """Words at the end: the verdict, its advice, what to be careful with, and where the report is."""
    verdict = facts["verdict"]
    terminal.say(verdict["sentence"], "bold")
    if verdict["advice"]:
        terminal.say(verdict["advice"])
    for warning in facts["warnings"]:
        terminal.say(warning, "yellow")
    for place in places:
        terminal.say(f"wrote {place}")

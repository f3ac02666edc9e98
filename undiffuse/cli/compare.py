"""`undiffuse compare`: several presets on the same data, trained for as long and measured alike.

    SOURCE -> a run per preset -> a report per run -> comparison.html, comparison.json, a table here

Everything is kept as it is made: the same command resumes where it was interrupted.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, final

from cyclopts import Parameter

from undiffuse.cli.evaluate import features
from undiffuse.cli.info import reading_of
from undiffuse.cli.interrupt import INTERRUPTED, Interruption
from undiffuse.cli.progress import Bar, Live
from undiffuse.cli.verb import Asked, typed_as, verb
from undiffuse.declared import options_of, written
from undiffuse.errors import InputError
from undiffuse.options import CompareOptions, ComparisonOptions

if TYPE_CHECKING:
    from rich.console import Console

    from undiffuse.cli.terminal import Terminal
    from undiffuse.comparison.compare import Comparison


@verb(
    "SOURCE --out FOLDER [OPTIONS]",
    example="undiffuse compare digits --presets edm,vae,gan --out compared",
)
def compare(
    asked: Asked[CompareOptions],
    source: Annotated[
        str, Parameter(help="File, folder or name (digits, fashion-mnist, moons, ...) to train on.")
    ],
) -> int:
    """Train several presets on the same data and compare them.

    They are trained one after another for the same time, each in a run of its own. After an
    interruption the same command resumes.
    """
    from undiffuse.comparison.compare import compare as compare_presets

    options, terminal = asked.options, asked.terminal
    with (
        Interruption(quiet=terminal.quiet) as interruption,
        Bar(terminal) as bar,
        Phases(terminal, bar) as phases,
    ):
        comparison = compare_presets(
            source,
            out=options.out,
            overwrite=options.overwrite,
            features=features(options),
            reading=reading_of(asked),
            on_event=phases,
            progress=bar,
            stop=interruption.stopped,
            **asked.chosen(*options_of(ComparisonOptions)),
        )
    return _conclude(source, comparison, asked)


@final
class Phases:
    """`on_event` for `compare`: a line for each phase, the live line of each training below it."""

    def __init__(self, terminal: Terminal, bar: Bar) -> None:
        self.terminal, self.bar, self.live = terminal, bar, Live(terminal)

    def __enter__(self) -> Phases:
        return self

    def __exit__(self, *problem: object) -> None:
        self.live.__exit__(*problem)

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Show one event."""
        if event["event"] in _LINES:
            self.live.__exit__()
            self.bar.clear()
            self.live = Live(self.terminal)
            self.terminal.say(*_LINES[event["event"]](event))
        else:
            self.live(event)


_LINES = {
    "note": lambda event: (event["note"], "yellow"),
    "phase": lambda event: (
        f"{event['number']} of {event['total']}: {event['preset']}, {event['phase']}",
        "bold",
    ),
    "failed": lambda event: (
        f"{event['preset']} failed, the others go on: {event['problem']}",
        "yellow",
    ),
}


def _conclude(source: str, comparison: Comparison, asked: Asked[CompareOptions]) -> int:
    """Say what came of it, or how to resume. Returns the exit code."""
    out, terminal = asked.options.out, asked.terminal
    failed, waiting = comparison.presets("failed"), comparison.presets("waiting")
    facts, done = comparison.facts, comparison.presets("done")
    if not done and not waiting:
        reasons = " ".join(f"{preset}: {facts['runs'][preset]['problem']}" for preset in failed)
        raise InputError(f"{source}: none of the models could be compared: {reasons}")
    terminal.result({**facts, "out": out, "stopped": bool(waiting)})
    if waiting:
        terminal.say("stopped and saved; to resume:")
        terminal.say(f"  {_typed(source, asked)}", "bold")
        return INTERRUPTED
    if not terminal.quiet:
        print_table(terminal.console, facts)
    for sentence in facts["words"]:
        terminal.say(sentence)
    for preset in failed:
        terminal.say(f"{preset} failed: {facts['runs'][preset]['problem']}", "yellow")
    for name in ("comparison.html", "comparison.json"):
        terminal.say(f"wrote {out}/{name}")
    return 0


def _typed(source: str, asked: Asked[CompareOptions]) -> str:
    """The command that resumes this comparison: what was typed, without --overwrite."""
    words = ["undiffuse", "compare", source]
    for name, value in asked.given.items():
        if isinstance(value, Mapping):  # a group, whose flags are typed as true or false
            for own, each in value.items():
                words += [typed_as((name, own)), written(each)]
        elif name != "overwrite":
            words += [typed_as((name,)), *([] if value is True else [written(value)])]
    return shlex.join(words)


FIGURES = {
    "frechet": "Frechet distance",
    "kernel": "kernel distance",
    "precision": "precision",
    "density": "density",
    "recall": "recall",
    "coverage": "coverage",
    "modes": "classes reached",
    "bits_per_dim": "bits/dimension",
    "samples_per_second": "samples/second",
    "evaluations_per_sample": "evaluations",
}
Row = Mapping[str, Any]


def print_table(console: Console, facts: Mapping[str, Any]) -> None:
    """Print the table of a comparison: a line per figure, a column per preset, one for real rows.

    A star marks the best of a line and those within its 95 % interval, which the report shows.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    rows, best = facts["table"], facts["best"]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in (*(row["preset"] for row in rows), "real"):
        table.add_column(column, justify="right")
    for name, title in FIGURES.items():
        if any(row.get(name) is not None for row in rows):
            cells = [
                _shown(row.get(name)) + "*" * (row["preset"] in best.get(name, ())) for row in rows
            ]
            table.add_row(title, *cells, _floor(name, rows))
    console.print(table)
    console.print(
        "* the best of its line, and those within its 95 % interval; real: the value of real rows",
        markup=False,
    )


def _floor(name: str, rows: Sequence[Row]) -> str:
    """The value of real rows, if it is the same for all presets."""
    floors = {row[name]["floor"] for row in rows if isinstance(row.get(name), Mapping)}
    return _shown(floors.pop()) if len(floors) == 1 and None not in floors else ""


def _shown(fact: Any) -> str:
    value = fact["value"] if isinstance(fact, Mapping) else fact
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

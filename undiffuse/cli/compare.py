"""`undiffuse compare`: several presets on the same data, trained for as long and measured alike, in one report.

    SOURCE -> a run per preset -> a report per run -> comparison.html, comparison.json, a table here

Everything is kept as it is made: the same command goes on where it was interrupted.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, final

from cyclopts import Parameter

from undiffuse.cli.evaluate import (
    FEWEST,
    Batch,
    Device,
    Features,
    InceptionWeights,
    Rows,
    chosen_features,
)
from undiffuse.cli.findings import typed_as
from undiffuse.cli.interrupt import INTERRUPTED, Interruption
from undiffuse.cli.settings import AtLeast, check, flag, given, option
from undiffuse.errors import InputError

if TYPE_CHECKING:
    from undiffuse.cli.live import Live
    from undiffuse.cli.progress import Bar
    from undiffuse.cli.terminal import Terminal
    from undiffuse.comparison.compare import Comparison


@dataclass(kw_only=True)
class CompareOptions:
    """Everything but the source."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic reads it off the class

    out: Annotated[str | None, option("Folder that the runs and the report are written to.")] = None
    presets: Annotated[str | None, option("Recipes to compare (edm,ddpm,ncsn,vae,gan,flow).")] = (
        None
    )
    budget: Annotated[
        str | None, option("How long each is trained: 90s, 10m, 1h30m (5m).", hyphen=True)
    ] = None
    n: Annotated[int | None, AtLeast(FEWEST), option("Samples of each (1000).", name="-n")] = None
    evaluations: Annotated[
        int | None, AtLeast(1), option("Evaluations of the network per sample, at most (50).")
    ] = None
    features: Features = None
    inception_weights: InceptionWeights = None
    rows: Rows = None
    seed: Annotated[int | None, AtLeast(0), option("Seed of everything random (0).")] = None
    batch: Batch = None
    device: Device = None
    overwrite: Annotated[
        bool | None, flag("Replace the comparison in --out, its runs included.")
    ] = None
    quiet: Annotated[bool | None, flag("Print nothing but errors.")] = None
    json: Annotated[
        bool | None, flag("Print the comparison's facts as one JSON object on standard output.")
    ] = None


def compare(
    source: Annotated[
        str, Parameter(help="File, folder or name (digits, fashion-mnist, moons, ...) to train on.")
    ],
    /,
    *,
    options: Annotated[CompareOptions | None, Parameter(name="*")] = None,
) -> int:
    """Train several presets on the same data for as long, and compare what came of it.

    One after another, each a run of its own. The same command goes on where it was interrupted.
    """
    chosen = check(CompareOptions, given(options))
    features = chosen_features(chosen.features, chosen.inception_weights)
    if chosen.out is None:
        raise InputError(
            "--out: missing; say which folder the comparison goes to, such as --out compared."
        )

    from undiffuse.cli.live import Live
    from undiffuse.cli.progress import Bar
    from undiffuse.cli.terminal import Terminal
    from undiffuse.comparison.compare import compare as compare_presets

    terminal = Terminal(quiet=chosen.quiet, as_json=chosen.json)
    names = ("out", "budget", "n", "evaluations", "rows", "seed", "batch", "device", "overwrite")
    asked = {name: value for name in names if (value := getattr(chosen, name)) is not None}
    if chosen.presets is not None:
        asked["presets"] = [name.strip() for name in chosen.presets.split(",") if name.strip()]
    with (
        Interruption(quiet=terminal.quiet) as interruption,
        Bar(terminal) as bar,
        Phases(terminal, bar, lambda: Live(terminal)) as phases,
    ):
        comparison = compare_presets(
            source,
            features=features,
            on_event=phases,
            progress=bar,
            stop=interruption.stopped,
            **asked,
        )
    return _conclude(source, comparison, chosen, terminal)


@final
class Phases:
    """`on_event` for `compare`: a line for each phase, the live line of each training below it."""

    def __init__(self, terminal: Terminal, bar: Bar, live: Any) -> None:
        self.terminal, self.bar, self.new = terminal, bar, live
        self.live: Live = live()

    def __enter__(self) -> Phases:
        return self

    def __exit__(self, *problem: object) -> None:
        self.live.__exit__(*problem)

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take note of one event."""
        if event["event"] in ("phase", "failed"):
            self.live.__exit__()
            self.bar.clear()
            self.live = self.new()
            self.terminal.say(*_LINES[event["event"]](event))
        else:
            self.live(event)


_LINES = {
    "phase": lambda event: (
        f"{event['number']} of {event['total']}: {event['preset']}, {event['phase']}",
        "bold",
    ),
    "failed": lambda event: (
        f"{event['preset']} failed, the others go on: {event['problem']}",
        "yellow",
    ),
}


def _conclude(
    source: str, comparison: Comparison, chosen: CompareOptions, terminal: Terminal
) -> int:
    """Say what came of it, or how to go on. Returns the exit code."""
    failed, waiting = comparison.presets("failed"), comparison.presets("waiting")
    facts, done = comparison.facts, comparison.presets("done")
    if not done and not waiting:
        reasons = " ".join(f"{preset}: {facts['runs'][preset]['problem']}" for preset in failed)
        raise InputError(f"{source}: none of the models could be compared: {reasons}")
    terminal.result({**facts, "out": chosen.out, "stopped": bool(waiting)})
    if waiting:
        terminal.say("stopped and saved; to go on:")
        terminal.say(f"  {_typed(source, chosen)}", "bold")
        return INTERRUPTED
    if not terminal.quiet:
        from undiffuse.cli.comparison_table import print_table

        print_table(terminal.console, facts)
    for sentence in facts["words"]:
        terminal.say(sentence)
    for preset in failed:
        terminal.say(f"{preset} failed: {facts['runs'][preset]['problem']}", "yellow")
    for name in ("comparison.html", "comparison.json"):
        terminal.say(f"wrote {chosen.out}/{name}")
    return 0


def _typed(source: str, chosen: CompareOptions) -> str:
    """The command line that this was, less what would begin anew."""
    words = ["undiffuse", "compare", source]
    for name, value in given(chosen).items():
        if name == "overwrite":
            continue
        words += [typed_as((name,)), *([] if value is True else [str(value)])]
    return shlex.join(words)

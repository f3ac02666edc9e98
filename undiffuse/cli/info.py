"""`undiffuse info`: what a run is, or what data look like and how they would be modelled.

Both are plain data (`Run.summary`, `Data.describe`), printed as they are: a number as a number, a
mapping as its entries, a list of mappings as a table. A new kind of data needs nothing here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from undiffuse.cli.terminal import print_facts
from undiffuse.cli.verb import Asked, verb
from undiffuse.errors import InputError
from undiffuse.options import InfoOptions
from undiffuse.remote import PREFIX
from undiffuse.shown import is_table, words_for

if TYPE_CHECKING:
    from rich.table import Table

BAR = 32  # characters
Facts = list[tuple[str, Any]]


@verb("RUN_OR_SOURCE [OPTIONS]", example="undiffuse info runs/digits")
def info(
    asked: Asked[InfoOptions],
    what: Annotated[
        str, Parameter(name="RUN_OR_SOURCE", help="Folder of a run, or any data that train takes.")
    ],
) -> int:
    """Describe a run or data.

    Of a run: its data, model, held-out loss and the command that resumes it. Of data: shape, range,
    classes, missing values.
    """
    from rich.console import Console

    from undiffuse.training.checkpoint import put_right

    terminal = asked.terminal
    path = Path(os.path.expanduser(what))
    put_right(path)
    is_run = os.path.lexists(path / "config.json") or _of_hub(what)
    if is_run and (given := asked.chosen("data", "condition")):
        raise InputError(
            f"{what}: this is a run, whose data are read as they were; leave --{next(iter(given))} "
            "out."
        )
    tree, shown = _run(what) if is_run else _source(what, asked)
    terminal.result(tree)
    if not terminal.as_json and not terminal.quiet:
        console = Console(highlight=False)
        print_facts(console, ((name, value) for name, value in shown if isinstance(value, str)))
        for name, table in shown:
            if not isinstance(table, str):
                console.print(f"\n{name}", style="bold", markup=False)
                console.print(table)
    return 0


def _of_hub(what: str) -> bool:
    """Whether this names a run of the hub, not files of a data set there."""
    return what.startswith(PREFIX) and not what.startswith(f"{PREFIX}datasets/")


def _source(what: str, asked: Asked[InfoOptions]) -> tuple[Mapping[str, Any], Facts]:
    from undiffuse.cli.progress import Bar
    from undiffuse.data import load

    with Bar(asked.terminal) as bar:
        tree = load(what, progress=bar, **reading_of(asked)).describe()
    return tree, [*source_facts(tree), *(("note", note) for note in tree["notes"]), *_tables(tree)]


def reading_of(asked: Asked[Any]) -> dict[str, Any]:
    """How a source is to be read and split, as `load` takes it."""
    return {**asked.given.get("data", {}), **asked.chosen("condition")}


def source_facts(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What `Data.describe` said, in two columns: everything but its tables and its notes."""
    training, held_out = tree["training_rows"], tree["held_out_rows"]
    rows = f"{tree['rows']:,}: {training:,} to train on, {held_out:,} held out"
    facts = [("data", str(tree["name"])), ("rows", rows)]
    said = {
        "name",
        "path",
        "rows",
        "training_rows",
        "held_out_rows",
        "notes",
        "modelled_shape",
        "modelled_as",
    }
    for name, value in tree.items():
        if name not in said and not is_table(value):
            facts.append((name.replace("_", " "), words_for(value)))
    modelled, shape = tree["modelled_as"].rstrip("."), words_for(tree["modelled_shape"])
    facts.append(
        ("modelled as", modelled if shape in modelled.split() else f"{modelled} ({shape})")
    )
    return facts


def _tables(tree: Mapping[str, Any]) -> Facts:
    from rich.table import Table
    from rich.text import Text

    facts: Facts = []
    for name, value in tree.items():
        if not is_table(value):
            continue
        names = list(dict.fromkeys(key for row in value for key in row))
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in names:
            table.add_column(Text(column.replace("_", " ")))
        for row in value:
            cells = (words_for(row[one]) if row.get(one) is not None else "" for one in names)
            table.add_row(*map(Text, cells))
        facts.append((name.replace("_", " "), table))
    return facts


def _run(what: str) -> tuple[Mapping[str, Any], Facts]:
    from undiffuse.duration import format_duration
    from undiffuse.run import Run

    tree = Run(what).summary()
    asked = tree["asked"]
    goal = (
        f"{asked['steps']:,} steps"
        if asked.get("steps")
        else format_duration(asked.get("budget") or 0)
    )
    state = (
        "finished"
        if tree["finished"]
        else "not finished"
        if tree["weights"]
        else "no checkpoint yet"
    )
    data, held_out = tree["data"], tree["held_out"] or {}
    mirrored = ", half of the time mirrored" if data.get("mirrored") else ""
    facts: Facts = [
        ("run", f"{what} ({state})"),
        ("data", f"{data.get('name')} ({data.get('rows', 0):,} rows)" + mirrored),
        ("model", f"{tree['preset'] or 'made in Python'}, {tree['parameters'] or 0:,} parameters"),
        (
            "trained",
            f"{tree['steps']:,} steps in {format_duration(tree['elapsed'])} (asked for {goal})",
        ),
    ]
    if data.get("conditions"):
        from undiffuse.data import Conditions

        own = Conditions.restore(data)
        assert own is not None
        facts.insert(2, ("conditions", words_for(own.describe())))
    if tree["teacher"]:
        facts.insert(3, ("student of", str(tree["teacher"])))
    if tree["origin"]:
        facts.insert(3, ("started from", str(tree["origin"]["from"])))
    if tree["held_by"]:
        facts.append(("in training", f"by {tree['held_by']}"))
    if tree["skipped"]:
        facts.append(("skipped", f"{tree['skipped']:,} steps without a finite loss"))
    numbers = {name: value for name, value in held_out.items() if isinstance(value, int | float)}
    facts += [
        (f"held-out {name.replace('_', ' ')}", f"{value:.4g}") for name, value in numbers.items()
    ]
    if held_out.get("warning"):
        facts.append(("warning", held_out["warning"]))
    facts += [("note", note) for note in tree["notes"]]
    if tree["tunable"] and tree["sampler"] is None and tree["finished"]:
        facts.append(("sampler", f"the preset's default; undiffuse tune {what} may find a cheaper"))
    facts.append(("resume with", tree["resume"]))
    if tree["weights"]:
        facts.append(("sample with", f"undiffuse sample {what} -n 64 --out FILE"))
    return tree, [*facts, *_samplers(tree["sampler"]), *_curves(held_out)]


def _samplers(sampler: Mapping[str, Any] | None) -> Facts:
    """What was measured of each sampler, as a table."""
    rows = [
        {
            "evaluations": len(one["times"]) - 1,
            "method": one["method"],
            "end-point error": one["error"],
            "kernel distance": one["distance"],
            "more than the last": one["excess"],
            "+-": one["stderr"],
            "": "default" if number == (sampler or {})["chosen"] else None,
        }
        for number, one in enumerate(sampler["candidates"] if sampler else ())
    ]
    title = f"samplers, by {sampler['seeds']:,} samples" if sampler else ""
    facts: Facts = [(title, table) for _, table in _tables({"samplers": rows})]
    if by := (sampler or {}).get("guidance"):
        interval = f"where sigma/alpha is {by['low']:.2g} to {by['high']:.2g}"
        facts.insert(
            0, ("guidance", f"by class at scale {by['scale']:g}, {interval}: {_gains(by)}")
        )
    return facts


def _gains(by: Mapping[str, Any]) -> str:
    """What guidance changed, as a phrase."""
    return (
        f"Frechet distance {by['distance']:.3g} ({by['excess']:+.2g} ± {by['stderr']:.2g}), recall "
        f"{by['recall']:+.3f}, coverage {by['coverage']:+.3f}; scores are not guided"
    )


def _curves(held_out: Mapping[str, Any]) -> Facts:
    """Every curve among the diagnostics, a pair of lists of numbers of one length, as bars."""
    facts: Facts = []
    for name, curve in held_out.items():
        lists = list(curve.items()) if isinstance(curve, Mapping) else []
        if len(lists) == 2 and all(map(_is_curve, curve.values())):
            (x_name, x), (y_name, y) = lists
            if len(x) != len(y) or None in x:
                continue
            title = f"held-out {y_name.replace('_', ' ')} by {x_name.replace('_', ' ')} ({name})"
            facts.append((title, _bars(x, y)))
    return facts


def _is_curve(values: Any) -> bool:
    return isinstance(values, list) and all(
        one is None or isinstance(one, int | float) for one in values
    )


def _bars(x: Sequence[float], y: Sequence[float | None]) -> Table:
    from rich.table import Table

    greatest = max((value for value in y if value is not None), default=0.0) or 1.0
    table = Table.grid(padding=(0, 2))
    for justify in ("right", "right", "left"):
        table.add_column(justify=justify)
    for position, value in zip(x, y, strict=True):
        bar = "━" * round(BAR * (max(value, 0.0) / greatest)) if value is not None else "not finite"
        table.add_row(f"{position:.3g}", "" if value is None else f"{value:.4g}", bar)
    return table

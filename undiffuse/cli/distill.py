"""`undiffuse distill`: from a run to a student that draws in a handful of evaluations."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from undiffuse.cli.progress import Bar
from undiffuse.cli.train import trained
from undiffuse.cli.verb import Asked, free_place, verb
from undiffuse.declared import options_of
from undiffuse.options import DistillationOptions, DistillOptions


@verb(
    "RUN --out STUDENT [OPTIONS]",
    example="undiffuse distill runs/photos --out runs/photos-2",
)
def distill(
    asked: Asked[DistillOptions],
    run: Annotated[str, Parameter(help="Folder of the run that teaches.")],
) -> int:
    """Distill a model into one that draws in a few evaluations.

    The student is a run of its own: sample, evaluate and resume it like any other. Scores stay its
    teacher's.
    """
    options, terminal = asked.options, asked.terminal
    free_place(options.out, overwrite=options.overwrite)

    from undiffuse.duration import format_duration
    from undiffuse.evaluation.distill import lesson

    with Bar(terminal) as bar:
        student, data, training = lesson(
            run,
            out=options.out,
            progress=bar,
            **asked.chosen("data", *options_of(DistillationOptions)),
        )
    many = f"{options.steps} evaluation{'s' * (options.steps > 1)} of the network a sample"
    long = training.get("steps")
    if not terminal.quiet:
        terminal.facts(
            [
                ("teacher", run),
                ("student", f"{many}, {student.parameter_count:,} parameters"),
                ("time", f"{long:,} steps" if long else format_duration(training["budget"])),
                ("run", options.out),
            ]
        )
    return trained(
        student, data, terminal, out=options.out, overwrite=options.overwrite, **training
    )

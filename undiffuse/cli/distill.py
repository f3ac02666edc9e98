"""`undiffuse distill`: from a run to a student that draws in a handful of evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from undiffuse.cli.progress import Bar
from undiffuse.cli.train import begun_before, trained
from undiffuse.cli.verb import Asked, free_place, verb
from undiffuse.declared import options_of
from undiffuse.options import DistillationOptions, DistillOptions
from undiffuse.rank import follows, restarted

if TYPE_CHECKING:
    from undiffuse.training.ranks import Ranks


@verb(
    "RUN --out STUDENT [OPTIONS]",
    example="undiffuse distill runs/photos --out runs/photos-2",
    shared=True,
)
def distill(
    asked: Asked[DistillOptions],
    run: Annotated[str, Parameter(help="Folder of the run that teaches.")],
) -> int:
    """Distill a model into one that draws in a few evaluations.

    The student is a run of its own: sample, evaluate and resume it like any other. Scores stay its
    teacher's.
    """
    if not (follows() or restarted()):
        free_place(asked.options.out, overwrite=asked.options.overwrite)
    from undiffuse.training.ranks import joined

    with joined(asked.options.timeout) as ranks:
        return _distill(asked, run, ranks)


def _distill(asked: Asked[DistillOptions], run: str, ranks: Ranks) -> int:
    """Teach in this process, and in those beside it."""
    from undiffuse.duration import format_duration
    from undiffuse.evaluation.distill import lesson

    options, terminal = asked.options, asked.terminal
    chosen = asked.chosen("data", *options_of(DistillationOptions))
    with Bar(terminal) as bar:
        student, data, training = ranks.together(
            lambda: lesson(run, out=options.out, progress=bar, **chosen)
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
    own, saved = begun_before(options.out, ranks)
    anew = (options.overwrite or own) and not saved
    return trained(
        student, data, terminal, out=options.out, resume=saved, overwrite=anew, **training
    )

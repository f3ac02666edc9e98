"""`undiffuse score`: log-likelihoods of rows under a trained model, and anomaly alarms.

The work is `evaluation.score`; here its notes and its summary are printed.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from undiffuse.cli.interrupt import INTERRUPTED, Interruption
from undiffuse.cli.progress import Bar
from undiffuse.cli.verb import Asked, free_place, verb
from undiffuse.declared import options_of
from undiffuse.options import ScoreOptions, ScoringOptions
from undiffuse.rank import follows

if TYPE_CHECKING:
    from undiffuse.cli.terminal import Terminal
    from undiffuse.evaluation.scores.table import Summary

_TAKEN = ("out", "overwrite", "where", "held_out", "on", "workers")
_KINDS = {"bound": "a lower bound", "estimate": "an estimate", "exact": "exact"}


@verb(
    "RUN DATA --out FILE_OR_FOLDER [OPTIONS]",
    example="undiffuse score runs/table new.csv --out scores.csv --alarm 0.01",
    shared=True,
)
def score(
    asked: Asked[ScoreOptions],
    run: Annotated[str, Parameter(help="Folder of the run.")],
    data: Annotated[
        str, Parameter(help="File, folder or name of the data to score: any data that train takes.")
    ],
) -> int:
    """Score rows: log-likelihood and anomaly alarms.

    The file has a line per row: log-likelihood in nats, its standard error, bits per dimension, and
    its quantile among held-out rows. The standard error is that of the computation; --model-error
    adds an estimate of how far the model itself is from the data. After an interruption the same
    command resumes.
    """
    options, terminal = asked.options, asked.terminal
    free_place(options.out, overwrite=options.overwrite)

    from undiffuse.evaluation.score import score as score_rows

    with Interruption(quiet=terminal.quiet) as interruption, Bar(terminal) as bar:
        found = score_rows(
            run,
            data,
            on_note=lambda note: terminal.say(note, "yellow"),
            progress=bar,
            stop=interruption.stopped,
            **asked.chosen(*_TAKEN, *options_of(ScoringOptions)),
        )
    if found is None and follows() and not interruption.stopped():
        return 0  # the first process says how it ended
    if found is None:
        terminal.result({"run": run, "out": options.out, "stopped": True})
        terminal.say("stopped; what is scored is kept, and the same command resumes.")
        return INTERRUPTED
    facts = {"run": run, "out": options.out, "data": found.data, "seed": options.seed}
    facts |= {"held_out": found.held_out, **asdict(found.summary)}
    terminal.result({**facts, "stopped": False})
    _conclude(found.summary, options, terminal)
    return 0


def _conclude(summary: Summary, options: ScoreOptions, terminal: Terminal) -> None:
    """Say the mean, its error and what kind of number it is; the alarms; where the lines are."""
    kind = " and ".join(_KINDS.get(kind, kind) for kind in summary.kind.split(" and "))
    nats = _mean(summary.log_likelihood, summary.stderr, summary.finite)
    bits = _mean(summary.bits_per_dim, summary.bits_error, summary.finite)
    if summary.finite:
        terminal.say(f"mean log-likelihood {nats} nats per row ({kind}), {bits} bits per dimension")
    if summary.finite > 1:
        terminal.say(
            "± is half of the 95 % interval of the mean, by Student's t with "
            f"{summary.finite - 1:,} degrees of freedom; the column stderr is that of a row alone"
        )
    if summary.meaning:
        terminal.say(f"this is {summary.meaning}")
    if summary.model_error is not None:
        terminal.say(
            f"the model's own error: about {summary.model_error:.3g} nats per row (an estimate, "
            "column model_error: it held 9 of 10 errors on known densities, and nothing guarantees "
            "it on these data)"
        )
    terminal.say(
        f"{summary.rows:,} rows in {summary.seconds:.1f} s, "
        f"{summary.evaluations:,.0f} evaluations of the network per row"
    )
    if summary.finite < summary.rows:
        count = summary.rows - summary.finite
        terminal.say(
            f"not in the mean: {count:,} row{'s' * (count > 1)} without a finite score; "
            "see the column note",
            "yellow",
        )
    if summary.alarms is not None and summary.units and summary.realized is not None:
        low, high = summary.realized
        of = f" of {summary.units:,} recordings" if summary.units < summary.rows else ""
        terminal.say(
            f"{summary.alarms:,} alarms ({summary.alarms / summary.units:.2%}{of}); "
            f"false-alarm rate {options.alarm:.2%} on average over choices of held-out rows, "
            f"{low:.2%} to {high:.2%} with these (95 %)"
        )
    terminal.say(f"wrote {options.out}")


def _mean(value: float, error: float, rows: int) -> str:
    """A mean over rows and half of its interval, which a single row does not have."""
    from undiffuse.evaluation.metrics.figure import student

    form = ".4f" if abs(value) < 1e6 else ".4g"
    if math.isnan(error):
        return f"{value:{form}}"
    return f"{value:{form}} ± {student(rows) * error:{form}}"

"""`undiffuse score`: log-likelihoods of rows under a trained model, and anomaly alarms.

    run, data -> rows in the run's stored type -> scores of held-out rows -> scores, a line per row

What can be refused is refused before the first row is scored; scores are kept when interrupted.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from undiffuse.cli.interrupt import INTERRUPTED, Interruption
from undiffuse.cli.progress import Bar
from undiffuse.cli.verb import Asked, free_place, verb
from undiffuse.errors import InputError
from undiffuse.options import ScoreOptions

if TYPE_CHECKING:
    from undiffuse.cli.terminal import Terminal
    from undiffuse.data import Conformed
    from undiffuse.evaluation.scores import Scoring
    from undiffuse.evaluation.scores.scorer import Scorer
    from undiffuse.evaluation.scores.table import Summary
    from undiffuse.models import GenerativeModel
    from undiffuse.run import Run

_KINDS = {"bound": "a lower bound", "estimate": "an estimate", "exact": "exact"}


@verb(
    "RUN DATA --out FILE [OPTIONS]",
    example="undiffuse score runs/table new.csv --out scores.csv --alarm 0.01",
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
    out = free_place(options.out, overwrite=options.overwrite)

    from undiffuse.data import conform
    from undiffuse.device import find_device
    from undiffuse.evaluation.scores.table import check_out
    from undiffuse.run import Run

    check_out(out)
    device = find_device(options.device)
    opened = Run(run)
    config, model = opened.config["data"], opened.model(device=device)
    scoring = _scoring(model, asked)
    scorer = _with_own_error(model, opened, device) if options.model_error else model
    with Bar(terminal) as bar:
        rows = conform(data, config, progress=bar)
        held_out = _held_out(model, opened, options, bar)
    for note in rows.notes:
        terminal.say(note, "yellow")
    held_out = _given(model, rows, held_out, asked)
    if rows.fingerprint == config["fingerprint"]:
        terminal.say(
            f"{data}: holds the rows that the run was trained on; they score higher than new rows.",
            "yellow",
        )
    return _score(model, scorer, run, rows, held_out, scoring, asked)


def _given(
    model: GenerativeModel, rows: Conformed, held_out: Conformed | None, asked: Asked[ScoreOptions]
) -> Conformed | None:
    """Give rows the conditions of --where, or hide those of held-out rows where rows have none.

    Returns the held-out rows. Raises InputError for conditions that do not fit.
    """
    where, terminal = asked.options.where, asked.terminal
    if where is not None:
        import numpy as np

        from undiffuse.data import ask

        vector, notes = ask(where, model.data_config or {})
        for note in notes:
            terminal.say(note, "yellow")
        if len(vector) not in (1, len(rows)):
            raise InputError(
                f"--where {where}: {len(vector):,} rows of conditions for {len(rows):,} rows of "
                "data; give one for all, or one for each."
            )
        rows.vector = np.broadcast_to(vector, (len(rows), vector.shape[1]))
    elif model.kept is not None and rows.vector is None:
        terminal.say(
            f"{asked.options.out}: the data do not say their conditions, so rows are scored "
            "whatever these are; give them with --where.",
            "yellow",
        )
        if held_out is not None:
            held_out.vector = None
    return held_out


def _with_own_error(model: GenerativeModel, run: Run, device: Any) -> Scorer:
    """The model with an estimate of its own error. Raises InputError where there can be none."""
    from undiffuse.evaluation.scores.own_error import WithOwnError
    from undiffuse.models import Diffusion

    if not isinstance(model, Diffusion):
        raise InputError("--model-error: is for models with noise levels; leave it out.")
    return WithOwnError(model, run.weaker(device))


def _held_out(
    model: GenerativeModel, run: Run, options: ScoreOptions, bar: Bar
) -> Conformed | None:
    """The rows to compare with, None for none; refused if they are too few for the alarm."""
    import numpy as np

    from undiffuse.evaluation.scores import calibration_rows
    from undiffuse.evaluation.scores.conformal import Calibration

    if options.no_calibration:
        return None
    label = None if options.label is None else model.label_index(options.label)
    rows = run.held_out(options.held_out, progress=bar)
    if label is not None and rows.labels is not None:
        rows = rows.only(np.flatnonzero(rows.labels == label))
    if options.alarm is not None:
        ordered, count = calibration_rows(rows, options.calibration)
        groups = None if ordered.groups is None else ordered.groups[:count]
        Calibration(np.zeros(count), groups).lowest(options.alarm)
    return rows


def _scoring(model: GenerativeModel, asked: Asked[ScoreOptions]) -> Scoring:
    """How rows are scored. Raises InputError for what the model cannot do."""
    from undiffuse.diffusion.likelihood.dequantize import TruncatedNormal, UniformNoise
    from undiffuse.evaluation.scores import Scoring
    from undiffuse.models import Diffusion
    from undiffuse.models.likelihood import how_of

    options = asked.options
    dequantization = UniformNoise() if options.dequantization == "uniform" else None
    if options.label is not None:
        model.label_index(options.label)
    if options.dequantization == "truncated_normal":
        if not isinstance(model, Diffusion):
            raise InputError(
                "--dequantization truncated_normal: is for models with noise levels; leave it out."
            )
        dequantization = TruncatedNormal.of(model.schedule)
    return Scoring(
        how=how_of(model, options.method, **asked.chosen("evaluations", "tolerance", "probes")),
        seed=options.seed,
        draws=options.draws,
        label=options.label,
        importance=options.importance,
        dequantization=dequantization,
    )


def _score(
    model: GenerativeModel,
    scorer: Scorer,
    run: str,
    rows: Conformed,
    held_out: Conformed | None,
    scoring: Scoring,
    asked: Asked[ScoreOptions],
) -> int:
    """Score the held-out rows, then the rows; say what came of it. Returns the exit code."""
    from undiffuse.evaluation.scores import calibrate
    from undiffuse.evaluation.scores import score as score_to_file

    options, terminal = asked.options, asked.terminal
    with Interruption(quiet=terminal.quiet) as interruption, Bar(terminal) as bar:
        shared: dict[str, Any] = {
            "scoring": scoring,
            "batch": options.batch or model.at_once,
            "progress": bar,
            "stop": interruption.stopped,
        }
        calibration, summary = None, None
        if held_out is not None:
            calibration = calibrate(model, run, held_out, count=options.calibration, **shared)
        if held_out is None or calibration is not None:
            summary = score_to_file(
                scorer,
                rows,
                options.out,
                calibration=calibration,
                alarm=options.alarm,
                replace=options.overwrite,
                **shared,
            )
    if summary is None:
        terminal.result({"run": run, "out": options.out, "stopped": True})
        terminal.say("stopped; what is scored is kept, and the same command resumes.")
        return INTERRUPTED
    facts = {
        "run": run,
        "out": options.out,
        "data": rows.name,
        "seed": options.seed,
        "held_out": 0 if calibration is None else len(calibration),
    }
    terminal.result({**facts, **asdict(summary), "stopped": False})
    _conclude(summary, options, terminal)
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

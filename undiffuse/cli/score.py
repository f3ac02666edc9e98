"""`undiffuse score`: how likely each row of some data is under a trained model, and which rows are out of the ordinary.

    run, data -> rows in the run's stored type -> scores of held-out rows -> scores, a line per row

What can be refused is refused before the first row is scored; what is scored is kept, whatever interrupts it.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from undiffuse.cli.interrupt import INTERRUPTED, Interruption
from undiffuse.cli.place import refuse_taken
from undiffuse.cli.settings import AtLeast, check, flag, given, option
from undiffuse.errors import InputError

if TYPE_CHECKING:
    from undiffuse.cli.terminal import Terminal
    from undiffuse.data import Conformed
    from undiffuse.evaluation import Scoring, Summary
    from undiffuse.models import GenerativeModel

Method = Literal["elbo", "ode", "importance"]
Dequantization = Literal["uniform", "truncated_normal"]
Device = Literal["auto", "cpu", "cuda", "mps"]
CALIBRATION = 1000
_KINDS = {"bound": "a lower bound", "estimate": "an estimate", "exact": "exact"}


@dataclass(kw_only=True)
class ScoreOptions:
    """Everything but the run and the data."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic reads it off the class

    out: Annotated[
        str | None, option("File that the scores go to; .csv or .parquet decides the form.")
    ] = None
    method: Annotated[
        Method | None,
        option(
            "Bound, density by the probability-flow ODE (by the rows' size), or a vae's weighted bound."
        ),
    ] = None
    alarm: Annotated[
        float | None,
        AtLeast(0, above=True),
        option("Mark rows so that at most this share of ordinary ones is: 0.01."),
    ] = None
    draws: Annotated[
        int | None, AtLeast(1), option("Dequantizations averaged per row, where there are any.")
    ] = None
    evaluations: Annotated[int | None, AtLeast(1), option("Of the network per row (elbo: 64).")] = (
        None
    )
    tolerance: Annotated[
        float | None, AtLeast(0, above=True), option("Of the solver (ode: 1e-5).")
    ] = None
    probes: Annotated[
        int | None, AtLeast(0), option("Of the trace, 0: exact (ode: 0 up to 64 values, then 2).")
    ] = None
    label: Annotated[
        str | None, option("Likelihood given this class, by name or number (of all classes).")
    ] = None
    importance: Annotated[
        bool | None, flag("Weight the draws by importance: a closer bound (ode).")
    ] = None
    dequantization: Annotated[
        Dequantization | None,
        option("Noise that whole numbers are given: uniform, or as at the least noise level."),
    ] = None
    seed: Annotated[int | None, AtLeast(0), option("The same seed gives the same scores (0).")] = (
        None
    )
    batch: Annotated[
        int | None, AtLeast(1), option("Rows at a time; changes nothing but memory (64).")
    ] = None
    calibration: Annotated[
        int | None, AtLeast(1), option("Held-out rows to compare with, at most (1000).")
    ] = None
    no_calibration: Annotated[
        bool | None, flag("Do without held-out rows: no quantiles, no alarms.")
    ] = None
    held_out: Annotated[
        str | None, option("Rows to compare with, instead of those the run held out.")
    ] = None
    overwrite: Annotated[
        bool | None, flag("Replace what is at --out, and what is left of another command.")
    ] = None
    device: Annotated[Device | None, option("Where to compute (auto: the fastest there is).")] = (
        None
    )
    quiet: Annotated[bool | None, flag("Print nothing but errors.")] = None
    json: Annotated[
        bool | None, flag("Print the result as one JSON object on standard output.")
    ] = None


def score(
    run: Annotated[str, Parameter(help="Folder of the run.")],
    data: Annotated[
        str, Parameter(help="File, folder or name of the data to score: anything train takes.")
    ],
    /,
    *,
    options: Annotated[ScoreOptions | None, Parameter(name="*")] = None,
) -> int:
    """Give each row of some data its log-likelihood under a trained model.

    One line per row: log-likelihood in nats, its standard error, bits per dimension, its quantile among held-out rows.
    The same command goes on where it was interrupted.
    """
    chosen = _chosen(options)
    assert chosen.out is not None
    out = Path(os.path.expanduser(chosen.out))
    refuse_taken(chosen.out, out, bool(chosen.overwrite))

    from undiffuse.cli.progress import Bar
    from undiffuse.cli.terminal import Terminal
    from undiffuse.data import conform
    from undiffuse.device import find_device
    from undiffuse.evaluation import check_out
    from undiffuse.run import Run

    terminal = Terminal(quiet=chosen.quiet, as_json=chosen.json)
    check_out(out)
    device = find_device(chosen.device or "auto")
    opened = Run(run)
    config, model = opened.config["data"], opened.model(device=device)
    _rehearse(model, _scoring(model, chosen))
    with Bar(terminal) as bar:
        rows = conform(data, config, progress=bar)
        held_out = _held_out(model, config, chosen, bar)
    for note in rows.notes:
        terminal.say(note, "yellow")
    if rows.fingerprint == config["fingerprint"]:
        terminal.say(
            f"{data}: holds the rows that the run was trained on, which score higher than new ones.",
            "yellow",
        )
    return _score(model, run, rows, held_out, chosen, terminal)


def _chosen(options: ScoreOptions | None) -> ScoreOptions:
    """The options, those that exclude each other refused."""
    chosen = check(ScoreOptions, given(options))
    if chosen.out is None:
        raise InputError("--out: missing; say where the scores go, such as --out scores.csv.")
    if chosen.alarm is not None and chosen.alarm >= 1:
        raise InputError(f"--alarm {chosen.alarm:g}: must be a share below 1.")
    for name in ("alarm", "held_out", "calibration") if chosen.no_calibration else ():
        if getattr(chosen, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')} and --no-calibration: only one of the two can be meant."
            )
    return chosen


def _held_out(
    model: GenerativeModel, config: dict[str, Any], chosen: ScoreOptions, bar: Any
) -> Conformed | None:
    """The rows to compare with, None for none; refused if they are too few for the alarm."""
    import numpy as np

    from undiffuse.evaluation import Calibration, held_out_rows

    label = None if chosen.label is None else model.label_index(chosen.label)
    if chosen.no_calibration:
        return None
    rows = held_out_rows(config, source=chosen.held_out, label=label, progress=bar)
    if chosen.alarm is not None:
        Calibration(np.zeros(min(len(rows), chosen.calibration or CALIBRATION))).lowest(
            chosen.alarm
        )
    return rows


def _scoring(model: GenerativeModel, chosen: ScoreOptions) -> Scoring:
    """How rows are scored, with what is named resolved."""
    from undiffuse.diffusion.likelihood.dequantize import TruncatedNormal
    from undiffuse.evaluation import Scoring
    from undiffuse.models.likelihood import how_of

    dequantization = None
    if chosen.dequantization == "truncated_normal":
        schedule: Any = getattr(model, "schedule", None)
        if schedule is None:
            raise InputError(
                "--dequantization truncated_normal: is for models with noise levels; leave it out."
            )
        dequantization = TruncatedNormal.of(schedule)
    how = how_of(
        model,
        chosen.method,
        evaluations=chosen.evaluations,
        tolerance=chosen.tolerance,
        probes=chosen.probes,
    )
    return Scoring(
        how=how,
        seed=chosen.seed or 0,
        draws=chosen.draws,
        label=chosen.label,
        importance=bool(chosen.importance),
        dequantization=dequantization,
    )


def _rehearse(model: GenerativeModel, scoring: Scoring) -> None:
    """Score one grey row: what the family does not take, or has no density for, is refused before data are read."""
    import torch

    from undiffuse.data.rows import as_tensor

    assert model.transform is not None
    scoring.of(model, as_tensor(model.transform.decode(torch.zeros(1, *model.transform.shape))), 0)


def _score(
    model: GenerativeModel,
    run: str,
    rows: Conformed,
    held_out: Conformed | None,
    chosen: ScoreOptions,
    terminal: Terminal,
) -> int:
    """Score the held-out rows, then the rows; say what came of it. Returns the exit code."""
    from undiffuse.cli.progress import Bar
    from undiffuse.evaluation import calibrate
    from undiffuse.evaluation import score as score_to_file

    scoring, batch = _scoring(model, chosen), chosen.batch or 64
    assert chosen.out is not None
    with Interruption(quiet=terminal.quiet) as interruption, Bar(terminal) as bar:
        shared: dict[str, Any] = {
            "scoring": scoring,
            "batch": batch,
            "progress": bar,
            "stop": interruption.stopped,
        }
        calibration, summary = None, None
        if held_out is not None:
            calibration = calibrate(
                model, run, held_out, count=chosen.calibration or CALIBRATION, **shared
            )
        if held_out is None or calibration is not None:
            replace = bool(chosen.overwrite)
            summary = score_to_file(
                model,
                rows,
                chosen.out,
                calibration=calibration,
                alarm=chosen.alarm,
                replace=replace,
                **shared,
            )
    if summary is None:
        terminal.result({"run": run, "out": chosen.out, "stopped": True})
        terminal.say("stopped; what is scored is kept, and the same command goes on from there.")
        return INTERRUPTED
    compared = 0 if calibration is None else len(calibration)
    facts = {
        "run": run,
        "out": chosen.out,
        "data": rows.name,
        "seed": scoring.seed,
        "held_out": compared,
    }
    terminal.result({**facts, **asdict(summary), "stopped": False})
    _conclude(summary, chosen, terminal)
    return 0


def _conclude(summary: Summary, chosen: ScoreOptions, terminal: Terminal) -> None:
    """Words at the end: the mean, its error and what kind of number it is; the alarms; where the lines are."""
    kind = " and ".join(_KINDS.get(kind, kind) for kind in summary.kind.split(" and "))
    nats, bits = (
        _mean(summary.log_likelihood, summary.stderr),
        _mean(summary.bits_per_dim, summary.bits_error),
    )
    if summary.finite:
        terminal.say(f"mean log-likelihood {nats} nats per row ({kind}), {bits} bits per dimension")
    if summary.meaning:
        terminal.say(f"this is {summary.meaning}")
    terminal.say(
        f"{summary.rows:,} rows in {summary.seconds:.1f} s, "
        f"{summary.evaluations:,.0f} evaluations of the network per row"
    )
    if summary.finite < summary.rows:
        count = summary.rows - summary.finite
        terminal.say(
            f"without a finite score, and not in the mean: {count:,} of them; see the column note",
            "yellow",
        )
    if summary.alarms is not None and summary.realized is not None:
        low, high = summary.realized
        terminal.say(
            f"{summary.alarms:,} alarms ({summary.alarms / summary.rows:.2%}); among ordinary rows they are "
            f"{chosen.alarm:.2%} on average over held-out rows, and with these {low:.2%} to {high:.2%} (95 %)"
        )
    terminal.say(f"wrote {chosen.out}")


def _mean(value: float, error: float) -> str:
    """A mean and its standard error, which a single row does not have; short, however far out a row lies."""
    form = ".4f" if abs(value) < 1e6 else ".4g"
    return f"{value:{form}}" if math.isnan(error) else f"{value:{form}} ± {error:{form}}"

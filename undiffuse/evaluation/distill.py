"""Distill a finished run into a student that draws a sample in one, two or four evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from undiffuse.called import called
from undiffuse.data import Data
from undiffuse.declared import checked, with_defaults
from undiffuse.device import find_device
from undiffuse.duration import parse_duration
from undiffuse.errors import InputError
from undiffuse.interfaces import Listener, Progress, Stop
from undiffuse.models.diffusion import Diffusion
from undiffuse.models.student import student_of
from undiffuse.options import DistillationOptions
from undiffuse.run import Run
from undiffuse.training import fit
from undiffuse.training.checkpoint import RunFolder

LEAST = 1.0  # seconds of training, unless told how many
AVERAGING = 0.04  # the width of the weights' average: what is learned first is the teacher's mean


@called
def distill(
    run: str | Path | Run,
    *,
    out: str | Path | None = None,
    data: Any = None,
    overwrite: bool = False,
    stop: Stop = lambda: False,
    on_event: Listener | None = None,
    **options: Any,
) -> Diffusion:
    """Return a student of a run, which draws a sample in one, two or four evaluations.

    It is a run like any other in the folder `out`, and resumed like any other. Likelihoods, alarms
    and completions stay its teacher's.

    Args:
        run: the run, or its folder.
        out: the folder to write the student to; None: it is not written.
        data: where the run's data are now; None: where they were.
        overwrite: replace the run in `out`.
        stop: polled once a step; true saves and returns.
        on_event: called with every event of the training (see `training.log`).
        options: the fields of `options.DistillationOptions`: steps, budget or updates, guidance,
            lr, batch, seed, device, parallel.

    Raises:
        InputError: for a run that is not finished, or that is no diffusion model of several noise
            levels, data that are not its own, guidance where there are no classes, and as `fit`
            does.
    """
    student, own, training = lesson(run, out=out, data=data, **options)
    fit(student, own, out=out, overwrite=overwrite, stop=stop, on_event=on_event, **training)
    return student


def lesson(
    run: str | Path | Run,
    *,
    out: str | Path | None = None,
    data: Any = None,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[Diffusion, Data, Mapping[str, Any]]:
    """Return an untrained student, the data of its teacher, and the options to train it with.

    Args:
        run: the teacher, or its folder.
        out: where the student is to go, which is not its teacher's folder.
        data: where the run's data are now; None: where they were.
        progress: called while they are read.
        options: as for `distill`.

    Raises:
        InputError: as `distill` does.
    """
    asked = with_defaults(DistillationOptions, checked(DistillationOptions, options))
    budget = None if asked.budget is None else parse_duration(asked.budget)
    find_device(asked.device)
    run = Run.of(run)
    if out is not None and Path(out).expanduser().resolve() == run.path:
        raise InputError(f"out {out}: is the teacher itself; give the student a folder of its own.")
    teacher, called = run.model(), run.given if run.remote else str(run.path)
    student = student_of(teacher, called=called, steps=asked.steps, guidance=asked.guidance)
    student.preset = run.config["preset"]
    student.origin = RunFolder(run.path).origin() | {"from": called}
    own = run.finished_data(
        data,
        progress,
        unfinished="which a student would not learn",
        others="a student learns on its teacher's own rows",
    )
    taught = run.config["training"]
    length = {"steps": asked.updates}
    if asked.updates is None:
        length = {"budget": budget or max(run.state["elapsed"] / 2, LEAST)}
    return (
        student,
        own,
        {
            **length,
            "batch": asked.batch or max(1, (taught.get("batch") or 1) // 2),
            "precision": taught.get("precision"),
            "lr": asked.lr,
            "averaging": AVERAGING,
            "seed": asked.seed,
            "device": asked.device,
            "parallel": asked.parallel,
        },
    )

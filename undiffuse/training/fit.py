"""`fit`: the one training loop. It trains every family and knows none of them.

    fit -> model.losses -> denoiser -> network, and no call goes back up

It prints nothing and installs no signal handlers: it polls `stop()` once a step and reports events. A run is a pure
function of its options, its data and its model: randomness is keyed by the step (`randomness.py`), batches are a
function of the step, and the rest is in the checkpoint, so a run that is interrupted and resumed ends in the same
weights, bit for bit, as one that was not (with a number of steps, on the same number of threads of a CPU).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from undiffuse.device import find_device
from undiffuse.errors import InputError
from undiffuse.interfaces import Source
from undiffuse.models.base import GenerativeModel
from undiffuse.training.checkpoint import initialize
from undiffuse.training.evaluate import PREPARE
from undiffuse.training.folder import RunFolder
from undiffuse.training.log import Listener
from undiffuse.training.options import Options, batch_for, merge
from undiffuse.training.randomness import Randomness
from undiffuse.training.run import Run
from undiffuse.training.schedule import evaluation_due
from undiffuse.training.step import train_step
from undiffuse.training.trial import Trial, choose_precision, compiled


@dataclass(frozen=True)
class Result:
    """How a run ended: steps taken, seconds spent in total, the last held-out diagnostics, whether it was stopped."""

    step: int
    elapsed: float
    held_out: dict[str, Any] | None
    stopped: bool
    out: Path | None


def fit(
    model: GenerativeModel,
    data: Any,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    init: str | Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_event: Listener | None = None,
    **options: Any,
) -> Result:
    """Train `model` on `data`, anything `ud.load` takes; afterwards it holds the averaged weights, ready to sample.

    out        the run directory to write (see `folder.py`); without it, nothing is written
    resume     go on with the run in `out`: with what it recorded, over which given options take precedence; a
               finished run is extended by more steps or a longer budget, its rate warmed up again
    overwrite  replace the run in `out`, which is kept until the new one has a checkpoint
    init       a run whose averaged weights to start from
    stop       polled once a step; True saves and returns
    on_event   called with every event (see `log.py`)
    options    the fields of `Options`: steps or budget (10 minutes by default), batch, lr, precision, device, ...

    Raises InputError for options that make no sense, a place that cannot be written, a run that does not fit the
    model or the data, and when ten steps in a row have no finite loss (the last checkpoint is kept).
    """
    if (resume or overwrite) and out is None:
        raise InputError("resume and overwrite: which run? Give its folder as out.")
    if resume and init is not None:
        raise InputError(
            f"init {init}: a run that is resumed has its own weights; leave one of the two out."
        )
    folder = RunFolder(out, resume=resume, overwrite=overwrite) if out is not None else None
    chosen = merge(options, folder.config.get("training", {}) if folder and folder.config else None)
    device = find_device(chosen.device)
    randomness = Randomness(device, chosen.seed)
    started = time.perf_counter()
    with ExitStack() as leaving:
        leaving.enter_context(randomness.put_back())
        randomness.at(PREPARE)
        data = model.meet(data)
        if init is not None:
            initialize(model, init)
        model.to(device)
        if (
            device.type == "cuda"
        ):  # convolutions in bfloat16 are fastest there with channels last; on a CPU they lose
            model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        model.train()
        chosen = _settle(model, data, chosen, device, randomness, leaving)
        run = Run(model, data, chosen, folder, device, randomness, on_event, started)
        with run.recorded():
            return _loop(run, stop)


def _settle(
    model: GenerativeModel,
    data: Source,
    options: Options,
    device: torch.device,
    randomness: Randomness,
    leaving: ExitStack,
) -> Options:
    """Choose what was left open, by the data's shape and by trial on this machine; compile until `leaving`."""
    rows = len(data) if hasattr(data, "__len__") else None  # pyright: ignore[reportArgumentType]
    shape = tuple(data.transform.shape)
    batch = options.batch or batch_for(shape, rows=rows, accelerated=device.type != "cpu")
    options = replace(
        options, batch=batch, accumulate=min(options.accumulate, batch), device=str(device)
    )
    compiling = device.type == "cuda" if options.compile is None else options.compile
    if options.precision != "auto" and not compiling:
        return options
    first = next(data.batches(-(-batch // options.accumulate), seed=options.seed))
    trial = Trial(model, first, data.transform, device, randomness)
    if options.precision == "auto":
        options = replace(options, precision=choose_precision(device, trial, options.budget))
    if compiling:
        modules = [player.module for player in model.players().values()]
        leaving.enter_context(compiled(modules, trial, options.precision))
    return options


def _loop(run: Run, stop: Callable[[], bool]) -> Result:
    options, stopped = run.options, False
    assert options.batch is not None
    batches: Iterator[dict] = run.data.batches(
        options.batch, seed=options.seed, start_step=run.step
    )
    while (before := run.progress()) < 1.0:
        if stop():
            stopped = True
            break
        lr = run.lr(before)
        losses, taken = train_step(
            run.model,
            run.learners,
            next(batches),
            step=run.step,
            lr=lr,
            transform=run.data.transform,
            device=run.device,
            randomness=run.randomness,
            cast=run.cast,
            accumulate=options.accumulate,
        )
        run.count(losses, taken, lr)
        if (after := run.progress()) >= 1.0:
            break
        if (
            evaluation_due(run.step, before, after, every=options.evaluate_every)
            and run.can_afford_to_look()
        ):
            run.look()
        if run.step % options.checkpoint_every == 0:
            run.save(finished=False)
    if not stopped:
        run.look()
    run.save(finished=not stopped)
    run.end(stopped=stopped)
    return Result(run.step, run.elapsed(), run.held_out, stopped, run.out)

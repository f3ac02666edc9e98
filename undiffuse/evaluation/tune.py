"""Choose how a finished run is sampled, and write that into the run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from undiffuse.called import called
from undiffuse.data import Data
from undiffuse.declared import checked, with_defaults
from undiffuse.device import find_device
from undiffuse.duration import parse_duration
from undiffuse.errors import InputError
from undiffuse.evaluation.guide import can_be_guided, guide
from undiffuse.interfaces import Progress, Stop
from undiffuse.notebook import progress_bar
from undiffuse.options import TuningOptions
from undiffuse.run import Run


@called
def tune(
    run: str | Path | Run,
    *,
    data: Any = None,
    progress: Progress | None = None,
    stop: Stop = lambda: False,
    **options: Any,
) -> str | None:
    """Find the cheapest sampler of a run that is as good as a dear one; it is the default then.

    Samples of images and recordings with classes are then guided, where that brings them closer
    (see `guide`).

    Args:
        run: the run, or its folder.
        data: where its data are now; None: where they were.
        progress: called with (done, total, what) now and then.
        stop: polled; when true, the run stays as it was.
        options: the fields of `options.TuningOptions`: budget, seed, device.

    Returns:
        What was chosen, in a sentence; None if it was stopped.

    Raises:
        InputError: for a run that is not finished, or that has one way to be sampled, data that are
            not its own, too few held-out rows, and too short a budget.
    """
    asked = with_defaults(TuningOptions, checked(TuningOptions, options))
    progress = progress or progress_bar()
    seconds = None if asked.budget is None else parse_duration(asked.budget)
    run = Run.of(run)
    run.check_local("tune the run it was pushed from, and push that again")
    model = run.model(device=find_device(asked.device))
    if not model.tuning:
        raise InputError(
            f"{run.given}: {type(model).__name__.lower()} models of this kind are sampled in one "
            "way, so there is nothing to tune; sample it as it is."
        )
    own: Any = run.finished_data(
        data,
        progress,
        unfinished="which would change what is best",
        others="a sampler is chosen on its own held-out rows",
    )
    began = time.perf_counter()
    said = model.tune(own, seed=asked.seed, seconds=seconds, progress=progress, stop=stop)
    if model.tuned_tree is None:
        if stop():
            return None
        raise InputError(f"{run.given}: {said}.")
    if can_be_guided(model) and isinstance(own, Data):
        left = None if seconds is None else seconds - (time.perf_counter() - began)
        options = {"seed": asked.seed, "seconds": left, "progress": progress, "stop": stop}
        said += f"; {guide(model, own, **options)}"
        if stop():
            return None
    run.keep_tuned(model)
    return said

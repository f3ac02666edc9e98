"""`undiffuse tune`: choose how a run is sampled."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from undiffuse.cli.interrupt import INTERRUPTED, Interruption
from undiffuse.cli.progress import Bar
from undiffuse.cli.verb import Asked, verb
from undiffuse.declared import options_of
from undiffuse.options import TuneOptions, TuningOptions


@verb("RUN [OPTIONS]", example="undiffuse tune runs/digits")
def tune(
    asked: Asked[TuneOptions],
    run: Annotated[str, Parameter(help="Folder of the run.")],
) -> int:
    """Find the cheapest good sampler of a trained model.

    Samplers of few evaluations are compared with an accurate one by their distance to held-out
    rows; images and recordings with classes may be guided. What is found is the run's default from
    then on, and info shows what was measured.
    """
    from undiffuse.evaluation.tune import tune as tune_run
    from undiffuse.run import Run

    opened, terminal = Run(run), asked.terminal
    with Interruption(quiet=terminal.quiet) as interruption, Bar(terminal) as bar:
        said = tune_run(
            opened,
            progress=bar,
            stop=interruption.stopped,
            **asked.chosen("data", *options_of(TuningOptions)),
        )
    terminal.result({"run": run, "sampler": said, "stopped": said is None})
    if said is None:
        terminal.say("stopped; the run is as it was.")
        return INTERRUPTED
    terminal.say(said)
    terminal.say(f"  undiffuse info {run}", "bold")
    return 0

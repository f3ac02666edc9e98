"""`undiffuse train`: from a source and options to a run.

    options -> the run's folder (checked) -> data -> model -> fit -> what to type next

What is wrong is refused before anything is written; what is quick to check, before data is read.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from undiffuse.cli.info import reading_of, source_facts
from undiffuse.cli.interrupt import INTERRUPTED, Interruption
from undiffuse.cli.progress import Bar, Live
from undiffuse.cli.terminal import Terminal, number
from undiffuse.cli.verb import Asked, verb
from undiffuse.declared import choices, options_of
from undiffuse.errors import InputError
from undiffuse.options import (
    DEFAULT_BUDGET,
    ModelOptions,
    PresetOptions,
    TrainingBasics,
    TrainOptions,
)
from undiffuse.plugged import require
from undiffuse.rank import first_started, restarted

if TYPE_CHECKING:
    from undiffuse.data import Data
    from undiffuse.models import GenerativeModel
    from undiffuse.training import Result
    from undiffuse.training.ranks import Ranks


@verb(
    "SOURCE --out RUN [OPTIONS]",
    example="undiffuse train photos/ --out runs/photos --budget 30m",
    shared=True,
)
def train(
    asked: Asked[TrainOptions],
    source: Annotated[
        str | None,
        Parameter(help="File, folder or name (digits, fashion-mnist, moons, ...) to train on."),
    ] = None,
) -> int:
    """Train a model on your data.

    A run is a folder: the model, samples drawn during training, and all that is needed to resume.
    """
    if source is None and not asked.options.resume:
        raise InputError(
            "SOURCE: missing; name the data to train on, such as undiffuse train digits --out RUN."
        )
    from undiffuse.training.loggers import find_loggers
    from undiffuse.training.ranks import joined

    find_loggers(asked.options.log or ())  # refused before anything is read
    with joined(asked.options.timeout) as ranks:
        return _train(_restarted(asked, ranks), source, ranks)


def _train(asked: Asked[TrainOptions], source: str | None, ranks: Ranks) -> int:
    """Train in this process, and in those beside it."""
    recorded = ranks.lead(ranks.together(lambda: _folder(asked.options) if ranks.first else None))
    model, data, pipeline = ranks.together(lambda: _made(asked, source, recorded))
    return trained(
        model,
        data,
        asked.terminal,
        out=asked.options.out,
        resume=asked.options.resume,
        overwrite=asked.options.overwrite,
        init=None if pipeline else asked.options.init,
        loggers=asked.options.log or (),
        **asked.chosen(*options_of(TrainingBasics)),
        **asked.given.get("training", {}),
    )


def begun_before(out: str, ranks: Ranks) -> tuple[bool, bool]:
    """Whether the run `out` was begun before a restart by the launcher, and has a checkpoint.

    A run of another day is not that one.
    """
    from undiffuse.training.checkpoint import RunFolder

    def found() -> list[bool]:
        folder = RunFolder(out) if restarted() and ranks.first else None
        if folder is None or folder.begun() <= first_started():
            return [False, False]
        return [True, folder.counters() is not None]

    own, saved = ranks.lead(ranks.together(found))
    return own, saved


def _restarted(asked: Asked[TrainOptions], ranks: Ranks) -> Asked[TrainOptions]:
    """What is asked for; of a restart by the launcher, to go on with the run begun before it.

    It begins anew where that run has no checkpoint yet.
    """
    own, saved = begun_before(asked.options.out, ranks)
    if saved:
        options = replace(asked.options, resume=True, overwrite=False, init=None)
    else:
        anew = asked.options.overwrite or (own and not asked.options.resume)
        options = replace(asked.options, overwrite=anew)
    return replace(asked, options=options)


def _made(
    asked: Asked[TrainOptions], source: str | None, recorded: dict[str, Any] | None
) -> tuple[GenerativeModel, Data, bool]:
    """The model, the data, and whether the model is a pipeline of diffusers."""
    pipeline = _is_pipeline(asked.options.init)
    make = _from_pipeline(asked) if pipeline else _maker(asked, recorded)
    make()  # what a preset does not take is refused before the data is read
    data = _load(source, asked, recorded)
    seed = asked.options.seed if recorded is None else recorded["training"].get("seed", 0)
    model = _met(make, data, seed)
    _introduce(model, data, asked, recorded)
    return model, data, pipeline


def _folder(options: TrainOptions) -> dict[str, Any] | None:
    """The config of the run to resume, None for a new one; checks the folder, budget and device."""
    from undiffuse.device import find_device
    from undiffuse.duration import parse_duration
    from undiffuse.training.checkpoint import RunFolder

    if options.budget is not None:
        parse_duration(options.budget)
    find_device(options.device)
    folder = RunFolder.claim(options.out, resume=options.resume, overwrite=options.overwrite)
    return folder.recorded


def _maker(
    asked: Asked[TrainOptions], recorded: Mapping[str, Any] | None
) -> Callable[[], GenerativeModel]:
    """What makes the model: that of the run to resume, or a preset as given or as in --init."""
    from undiffuse.models import PRESETS
    from undiffuse.models.presets import options as keywords
    from undiffuse.run import Run

    sizes, preset = asked.given.get("model", {}), asked.given.get("preset")
    words = asked.chosen(*options_of(PresetOptions))
    start = recorded
    if recorded is not None:
        require(recorded, asked.options.out)
        if not sizes and not words and preset in (None, recorded["preset"]):
            return partial(_rebuilt, recorded, asked.options.out)
        sizes = sizes or _sizes(recorded)
    elif (init := asked.options.init) is not None:
        opened = Run(init)
        start = opened.config
        if start["preset"] is None and not sizes and not words and preset is None:
            return partial(_rebuilt, start, str(opened.path))
        sizes = _sizes(start) | sizes
    before = start["preset"] if start else None
    name = preset or before or asked.options.preset
    if start is not None and name == before:
        require(start, asked.options.init or asked.options.out, ("presets",))
    kept = start["model"].get("gaps") if start else None  # the network that weights are kept for
    if kept is not None and "gaps" in keywords(name):
        words = {"gaps": kept, **words}
    return partial(PRESETS[name], **words, **sizes)


def _is_pipeline(init: str | None) -> bool:
    """Whether training starts from a pipeline of diffusers."""
    if init is None:
        return False
    from undiffuse.exchange.pipelines import is_pipeline

    return is_pipeline(init)


def _from_pipeline(asked: Asked[TrainOptions]) -> Callable[[], GenerativeModel]:
    """What makes the model of a pipeline of diffusers, which decides all of it."""
    from undiffuse.exchange.pipelines import from_diffusers

    init = str(asked.options.init)
    if given := asked.chosen("preset", "model", *options_of(PresetOptions)):
        raise InputError(
            f"--from {init}: this model is made by diffusers, and has its own choices; leave "
            f"--{next(iter(given))} out."
        )
    return partial(from_diffusers, init)


def _rebuilt(recorded: Mapping[str, Any], out: str) -> GenerativeModel:
    """The model of the run `out` with new weights; no larger than those it has."""
    from undiffuse.models import build_model
    from undiffuse.models.base import MOST_TENSORS
    from undiffuse.room import bounded, memory
    from undiffuse.run import SLACK
    from undiffuse.training.checkpoint import WEIGHTS

    weights = Path(out).expanduser() / WEIGHTS
    size = 2 * weights.stat().st_size + SLACK if weights.exists() else memory() // 5
    larger = f"{out}: its config.json describes a larger model than its weights; restore that file."
    with bounded(size, MOST_TENSORS, larger):
        model = build_model(recorded["model"])
    model.preset = recorded["preset"]
    return model


def _load(
    source: str | None, asked: Asked[TrainOptions], recorded: Mapping[str, Any] | None
) -> Data:
    """The source, split as in the run that is resumed."""
    from undiffuse.data import load
    from undiffuse.data.load import recorded_reading

    out, seed, reading = asked.options.out, asked.options.seed, reading_of(asked)
    if recorded is not None:
        before = recorded["data"]
        if missing := {"split", "fingerprint"} - set(before):
            raise InputError(f"{out}: its config.json lacks data.{missing.pop()}; restore it.")
        split = before["split"]
        kept = recorded_reading(before).given | {"mirrored": before.get("mirrored")}
        reading = {**kept, **reading, "held_out": split["held_out"]}
        seed = split["seed"]
        source = source or before.get("path")
        if source is None:
            raise InputError(
                f"{out}: was trained on data from Python; resume it there, or give a SOURCE."
            )
    with Bar(asked.terminal) as bar:
        data = load(source, seed=seed, progress=bar, **reading)
    if recorded is not None and data.fingerprint != recorded["data"]["fingerprint"]:
        raise InputError(
            f"{source}: not the data that {out} was trained on, or changed since; "
            "to train on it, start a run of its own with --init."
        )
    return data


def _met(make: Callable[[], GenerativeModel], data: Data, seed: int) -> GenerativeModel:
    """The model sized to the data, with initial weights from `seed`: the same ones each time."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
        model.meet(data)
    return model


def _sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The dimensions of a run's network, as they would be given."""
    names, network = options_of(ModelOptions), config["model"].get("network") or {}
    if network.get("kind") in choices(names["kind"].type):
        return {name: network[name] for name in names if name in network}
    return dict(config["model"].get("sizes") or {})


def _introduce(
    model: GenerativeModel,
    data: Data,
    asked: Asked[TrainOptions],
    recorded: dict[str, Any] | None,
) -> None:
    """Say what is about to happen: the data, the model, how long, where to."""
    terminal = asked.terminal
    if terminal.quiet:
        return
    tree = data.describe()
    size = f"{model.parameter_count:,} parameters"
    if model.widths and asked.options.steps is None and asked.options.init is None:
        size = "as wide as its time can train"
    terminal.facts(
        [
            *source_facts(tree),
            ("model", f"{model.preset}, {size}"),
            ("time", _how_long(asked.options, recorded)),
            ("run", asked.options.out + (" (resumed)" if recorded else "")),
        ]
    )
    for note in tree["notes"]:
        terminal.say(note, "yellow")


def _how_long(options: TrainOptions, recorded: dict[str, Any] | None) -> str:
    from undiffuse.duration import format_duration, parse_duration

    if options.steps is not None:
        return f"{options.steps:,} steps"
    if options.budget is not None:
        return format_duration(parse_duration(options.budget))
    before = (recorded or {}).get("training", {})
    if before.get("steps"):
        return f"{before['steps']:,} steps, as recorded in the run"
    if before.get("budget"):
        return f"{format_duration(before['budget'])}, as recorded in the run"
    return f"{DEFAULT_BUDGET} (default; change it with --budget or --steps)"


def trained(
    model: GenerativeModel, data: Data, terminal: Terminal, *, out: str, **options: Any
) -> int:
    """Train; afterwards say what was made, or how to resume. Returns the exit code."""
    from undiffuse.training import fit

    with Interruption(quiet=terminal.quiet) as interruption, Live(terminal) as live:
        result = fit(model, data, out=out, stop=interruption.stopped, on_event=live, **options)
    preview = None
    if live.samples and result.out:
        preview = os.path.join(out, os.path.relpath(live.samples, result.out))
    terminal.result(
        {
            "run": out,
            "step": result.step,
            "elapsed": result.elapsed,
            "held_out": result.held_out,
            "preview": preview,
            "stopped": result.stopped,
        }
    )
    _conclude(result, model, out, preview, terminal)
    return INTERRUPTED if result.stopped else 0


def _conclude(
    result: Result, model: GenerativeModel, out: str, preview: str | None, terminal: Terminal
) -> None:
    """Say what was made and where, and what to type next."""
    from undiffuse.duration import format_duration
    from undiffuse.run import Run

    if result.stopped:
        terminal.say(f"stopped at step {result.step:,} and saved; to resume:")
        terminal.say(f"  {Run(out).resume_command}", "bold")
        return
    held_out = result.held_out or {}
    terminal.say(
        f"trained {result.step:,} steps in {format_duration(result.elapsed)}; "
        f"held-out loss {number(held_out.get('loss'))}; saved in {out}"
    )
    if not result.step:
        terminal.say(
            "no step fitted into the budget, so this model knows nothing yet; give it longer:",
            "yellow",
        )
        terminal.say(f"  {Run(out).resume_command}", "bold")
    if warning := held_out.get("warning"):
        terminal.say(warning, "yellow")
    if preview:
        terminal.say(f"samples so far: {preview}")
    terminal.say("next, draw new ones:")
    name = model.form.suggested_out if model.form else "samples.npy"
    terminal.say(f"  undiffuse sample {shlex.quote(out)} -n 64 --out {name}", "bold")

"""`undiffuse train`: from a source and options to a run.

    options -> the run's folder (checked) -> data -> model -> fit -> what to type next

Whatever is wrong is said before anything is written, and what is quick to check is checked before the data is read.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from undiffuse.cli.interrupt import INTERRUPTED, Interruption
from undiffuse.cli.options import TrainOptions
from undiffuse.cli.settings import File, check, given
from undiffuse.errors import InputError

if TYPE_CHECKING:
    from undiffuse.cli.terminal import Terminal
    from undiffuse.data import Data
    from undiffuse.models import GenerativeModel
    from undiffuse.training import Result

DEFAULT_BUDGET = "10m"
DEFAULT_PRESET = "edm"


def train(
    source: Annotated[
        str | None,
        Parameter(help="File, folder or name (digits, fashion-mnist, moons, ...) to train on."),
    ] = None,
    /,
    *,
    options: Annotated[TrainOptions | None, Parameter(name="*")] = None,
) -> int:
    """Train a model on your data.

    A run is a folder: the model, its samples along the way, and all it takes to go on with it.
    """
    chosen = _chosen(options)
    resume = bool(chosen.resume)
    if chosen.out is None:
        raise InputError(
            "--out: missing; say which folder the run goes to, such as --out runs/first."
        )
    if source is None and not resume:
        raise InputError(
            "SOURCE: missing; name the data to train on, such as undiffuse train digits --out RUN."
        )

    from undiffuse.cli.terminal import Terminal

    terminal = Terminal(quiet=chosen.quiet, as_json=chosen.json)
    recorded = _folder(chosen)
    data = _load(source, chosen, recorded, terminal)
    model = _model(chosen, recorded, data)
    _introduce(model, data, chosen, recorded, terminal)
    return _fit(model, data, chosen, terminal)


def _chosen(options: TrainOptions | None) -> TrainOptions:
    """The options typed, over those in the file that --config names, over nothing. Raises InputError."""
    words = given(options)
    file = File(words["config"]) if "config" in words else None
    for one, other in (("steps", "budget"), ("resume", "overwrite"), ("resume", "init")):
        if one in words and other in words:
            raise InputError(
                f"--{one} and --{other}: only one of the two can be meant; leave out the other."
            )
        for typed, filed in ((one, other), (other, one)):
            if file is not None and typed in words and filed in file.tree:
                file.tree.pop(filed)
    chosen = check(TrainOptions, words, file)
    if chosen.steps is not None and chosen.budget is not None:
        raise InputError(f"{chosen.config}: gives both steps and budget; keep one of them.")
    return chosen


def _folder(chosen: TrainOptions) -> dict[str, Any] | None:
    """The config of the run to go on with, None for a new one; the folder, budget and device are checked here."""
    from undiffuse.device import find_device
    from undiffuse.duration import parse_duration
    from undiffuse.run import Run
    from undiffuse.training.folder import RunFolder

    assert chosen.out is not None
    if chosen.budget is not None:
        parse_duration(chosen.budget)
    find_device(chosen.device or "auto")
    if chosen.init is not None:
        Run(chosen.init)
    return RunFolder(
        chosen.out, resume=bool(chosen.resume), overwrite=bool(chosen.overwrite)
    ).config


def _load(
    source: str | None, chosen: TrainOptions, recorded: dict[str, Any] | None, terminal: Terminal
) -> Data:
    """The source, split as in the run that is resumed."""
    from undiffuse.cli.progress import Bar
    from undiffuse.data import load

    options = _reading(chosen)
    seed = chosen.seed or 0
    if recorded is not None:
        split = recorded["data"]["split"]
        seed, options["held_out"] = split["seed"], split["held_out"]
        if isinstance(before := recorded["data"].get("size"), list):
            before = tuple(before)
        options.setdefault("size", before)
        source = source or recorded["data"]["path"]
        if source is None:
            raise InputError(
                f"{chosen.out}: was trained on data from Python; resume it there, or give a SOURCE."
            )
    with Bar(terminal) as bar:
        data = load(source, seed=seed, progress=bar, **options)
    if recorded is not None and data.fingerprint != recorded["data"]["fingerprint"]:
        raise InputError(
            f"{source}: not the data that {chosen.out} was trained on, or changed since; "
            "to train on it, start a run of its own with --init."
        )
    return data


def _reading(chosen: TrainOptions) -> dict[str, Any]:
    """The options of `load`: one number for a side, two for height and width; a share, or a number of rows."""
    options = given(chosen.data)
    if (size := options.get("size")) is not None:
        if len(size) not in (1, 2):
            raise InputError(
                f"--data.size {','.join(map(str, size))}: must be one number, or height,width."
            )
        options["size"] = size[0] if len(size) == 1 else size
    if (held_out := options.get("held_out", 0)) >= 1:
        if not held_out.is_integer():
            raise InputError(
                f"--data.held-out {held_out:g}: must be a share below 1, or a whole number of rows."
            )
        options["held_out"] = int(held_out)
    return options


def _model(chosen: TrainOptions, recorded: dict[str, Any] | None, data: Data) -> GenerativeModel:
    """The preset with the choices and dimensions typed, those of --init, or the model resumed; sized to the data.

    A run that has no checkpoint yet begins as it began before: the same parts, their weights from the same seed.
    """
    import torch

    from undiffuse.cli.choices import NAMES, model_of
    from undiffuse.models import build
    from undiffuse.run import Run

    sizes, preset, seed = given(chosen.model), chosen.preset, chosen.seed or 0
    words = {name: word for name, word in given(chosen).items() if name in NAMES}
    if recorded is not None:
        seed = recorded["training"]["seed"]
        if not sizes and not words and preset in (None, recorded["preset"]):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = build(recorded["model"])
                model.preset = recorded["preset"]
                model.meet(data)
            return model
        sizes, preset = sizes or _sizes(recorded), preset or recorded["preset"]
    elif chosen.init is not None:
        start = Run(chosen.init).config
        sizes, preset = _sizes(start) | sizes, preset or start["preset"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_of(preset or DEFAULT_PRESET, words, sizes)
        model.meet(data)
    return model


def _sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The dimensions of a run's network, as they would be typed."""
    from undiffuse.nn import NETWORKS, dimensions
    from undiffuse.nn.flows.size import FLOWS, flow_dimensions

    network = config["model"].get("network") or {}
    kind = str(network.get("kind"))
    if kind in NETWORKS:
        return {name: network[name] for name in ("kind", *dimensions(kind))}
    if kind in FLOWS:
        return {name: network[name] for name in ("kind", *flow_dimensions(kind))}
    return dict(config["model"].get("sizes") or {})


def _introduce(
    model: GenerativeModel,
    data: Data,
    chosen: TrainOptions,
    recorded: dict[str, Any] | None,
    terminal: Terminal,
) -> None:
    """What is about to happen: the data, the model, how long, where to."""
    from undiffuse.cli.info import source_facts

    if terminal.quiet:
        return
    parameters = sum(parameter.numel() for parameter in model.parameters())
    tree = data.describe()
    terminal.facts(
        [
            *source_facts(tree),
            ("model", f"{model.preset}, {parameters:,} parameters"),
            ("time", _how_long(chosen, recorded)),
            ("run", f"{chosen.out}" + (" (resumed)" if recorded else "")),
        ]
    )
    for note in tree["notes"]:
        terminal.say(note, "yellow")


def _how_long(chosen: TrainOptions, recorded: dict[str, Any] | None) -> str:
    from undiffuse.duration import format_duration, parse_duration

    if chosen.steps is not None:
        return f"{chosen.steps:,} steps"
    if chosen.budget is not None:
        return format_duration(parse_duration(chosen.budget))
    before = (recorded or {}).get("training", {})
    if before.get("steps"):
        return f"{before['steps']:,} steps, as the run was given"
    if before.get("budget"):
        return f"{format_duration(before['budget'])}, as the run was given"
    return f"{DEFAULT_BUDGET} (by default; --budget or --steps choose another)"


def _fit(model: GenerativeModel, data: Data, chosen: TrainOptions, terminal: Terminal) -> int:
    """Train; afterwards say what was made, or how to go on. Returns the exit code."""
    from undiffuse.cli.live import Live
    from undiffuse.training import fit

    names = ("steps", "budget", "seed", "device", "precision", "checkpoint_every")
    options = {name: getattr(chosen, name) for name in names} | given(chosen.training)
    with Interruption(quiet=terminal.quiet) as interruption, Live(terminal) as live:
        result = fit(
            model,
            data,
            out=chosen.out,
            resume=bool(chosen.resume),
            overwrite=bool(chosen.overwrite),
            init=chosen.init,
            stop=interruption.stopped,
            on_event=live,
            **{name: value for name, value in options.items() if value is not None},
        )
    preview = (
        os.path.join(chosen.out or "", os.path.relpath(live.samples, result.out))
        if live.samples
        else None
    )
    terminal.result(
        {
            "run": chosen.out,
            "step": result.step,
            "elapsed": result.elapsed,
            "held_out": result.held_out,
            "preview": preview,
            "stopped": result.stopped,
        }
    )
    _conclude(result, model, chosen, preview, terminal)
    return INTERRUPTED if result.stopped else 0


def _conclude(
    result: Result,
    model: GenerativeModel,
    chosen: TrainOptions,
    preview: str | None,
    terminal: Terminal,
) -> None:
    """Words at the end: what was made and where, and what to type next."""
    from undiffuse.cli.place import suggestion
    from undiffuse.cli.terminal import number
    from undiffuse.duration import format_duration
    from undiffuse.run import Run

    loss = number((result.held_out or {}).get("loss"))
    if result.stopped:
        terminal.say(f"stopped at step {result.step:,} and saved; to go on:")
        terminal.say(f"  {Run(chosen.out or '').resume_command}", "bold")
        return
    terminal.say(
        f"trained {result.step:,} steps in {format_duration(result.elapsed)}; held-out loss {loss}; saved in {chosen.out}"
    )
    if warning := (result.held_out or {}).get("warning"):
        terminal.say(warning, "yellow")
    if preview:
        terminal.say(f"samples so far: {preview}")
    terminal.say("next, draw new ones:")
    terminal.say(
        f"  undiffuse sample {shlex.quote(chosen.out or '')} -n 64 --out {suggestion(model)}",
        "bold",
    )

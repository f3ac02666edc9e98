"""Opening a run: from a folder on disk back to a model that samples, and to what is known about it.

`open_run` (`ud.open`) reads config.json and weights.safetensors, nothing else, and never unpickles: the model is built
from its tree of parts, the transform and the form of the data from theirs, and the weights are checked tensor by
tensor. `summary` reads only the small files, and says how to go on.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undiffuse.errors import InputError

if TYPE_CHECKING:
    from undiffuse.models.base import GenerativeModel

_NOT_A_RESULT = ("event", "step")


def open_run(path: str | Path, *, snapshot: int | None = None) -> GenerativeModel:
    """The trained model in the run directory `path`, with its averaged weights, on the CPU, ready to sample.

    `snapshot` is a step whose averaged weights the run has kept (see `training/folder.py`), to open instead. Raises
    InputError if there is no such folder or snapshot, it is no run, training had not reached its first checkpoint, the
    run is of a newer version, or its configuration or weights are damaged.

    >>> open_run("no/such/run")
    Traceback (most recent call last):
    undiffuse.errors.InputError: no/such/run: no such folder; check the path of the run.
    """
    from undiffuse.training.checkpoint import load_weights
    from undiffuse.training.folder import read_config, read_snapshot, read_weights

    config = read_config(path)
    weights = read_weights(path) if snapshot is None else read_snapshot(path, snapshot)
    model = _rebuild(config, str(path))
    load_weights(model, weights, str(path))
    return model.eval()


def open_weaker(path: str | Path) -> GenerativeModel:
    """The run as it was at its latest snapshot of at most half the steps it has now: what autoguidance moves away from.

    Raises InputError, besides `open_run`'s reasons, if there is no such snapshot.
    """
    from undiffuse.training.folder import LOG, read_config, read_state, snapshots
    from undiffuse.training.log import read_log

    read_config(path)
    state = read_state(path) or _state_from(read_log(Path(os.path.expanduser(path)) / LOG))
    weaker = [step for step in snapshots(path) if step <= state["step"] / 2]
    if not weaker:
        raise InputError(
            f"{path}: has kept no snapshot from its first half, which autoguidance needs; train for longer, "
            "or with a smaller --checkpoint-every."
        )
    return open_run(path, snapshot=weaker[-1])


def _rebuild(config: dict[str, Any], path: str) -> GenerativeModel:
    from undiffuse import data, models

    try:
        model = models.build(config["model"])
        model.transform, model.form, classes = data.restore(config["data"])
    except InputError as problem:
        raise InputError(f"{path}: its config.json cannot be used: {problem}") from problem
    except (KeyError, TypeError, ValueError) as problem:
        raise InputError(
            f"{path}: its config.json is damaged ({type(problem).__name__}: {problem}); restore that file."
        ) from problem
    model.classes = tuple(classes)
    model.data_config = config["data"]
    return model


def summary(path: str | Path) -> dict[str, Any]:
    """What is known about a run, as plain data, for `undiffuse info`.

    Keys: run, data (name, path, fingerprint ...), preset, parameters, steps (taken), asked ({"steps"} or
    {"budget"}), finished, elapsed (seconds), skipped, held_out (the last diagnostics, None before the first),
    training (the resolved options), weights (whether there are any yet) and go_on (a command line).

    Raises InputError for what is no run.
    """
    from undiffuse.training.folder import LOG, WEIGHTS, read_config, read_state
    from undiffuse.training.log import read_log

    config = read_config(path)
    folder = Path(os.path.expanduser(path))
    events = read_log(folder / LOG)
    state = read_state(path) or _state_from(events)
    looks = [event for event in events if event.get("event") == "held_out"]
    training = config.get("training", {})
    kind = "steps" if training.get("steps") else "budget"
    held_out = (
        {key: value for key, value in looks[-1].items() if key not in _NOT_A_RESULT}
        if looks
        else None
    )
    return {
        "run": str(path),
        "data": config.get("data", {}),
        "preset": config.get("preset"),
        "parameters": config.get("parameters"),
        "steps": state["step"],
        "asked": {kind: training.get(kind)},
        "finished": state["finished"],
        "elapsed": state["elapsed"],
        "skipped": state["skipped"],
        "held_out": state.get("held_out") or held_out,
        "training": training,
        "weights": (folder / WEIGHTS).exists(),
        "go_on": _go_on(path, config, state),
    }


def _state_from(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The counters as the log tells them, for a run that was given away without its resume state."""
    steps = [event for event in events if event.get("event") in ("step", "end")]
    last = steps[-1] if steps else {}
    skipped = next((event["skipped"] for event in reversed(steps) if "skipped" in event), 0)
    return {
        "step": last.get("step", 0),
        "elapsed": last.get("elapsed", 0.0),
        "skipped": skipped,
        "finished": last.get("reason") == "done",
    }


def _go_on(path: str | Path, config: dict[str, Any], state: dict[str, Any]) -> str:
    """The command that resumes a run, or extends it to twice what it has had if it is finished."""
    from undiffuse.training.duration import words

    data = config.get("data", {})
    source = data.get("path") or data.get("name") or "SOURCE"
    command = f"undiffuse train {shlex.quote(str(source))} --out {shlex.quote(str(path))} --resume"
    if not state["finished"]:
        return command
    if config.get("training", {}).get("steps"):
        return f"{command} --steps {2 * state['step']}"
    return f"{command} --budget {words(2 * state['elapsed'])}"

"""What a run writes down about itself, whether it may be gone on with, and the sentences it ends with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from undiffuse import __version__
from undiffuse.duration import format_duration
from undiffuse.errors import InputError
from undiffuse.interfaces import Source
from undiffuse.models.base import GenerativeModel
from undiffuse.training.folder import FORMAT, RunFolder
from undiffuse.training.options import Options


def config_of(model: GenerativeModel, data: Source, options: Options) -> dict[str, Any]:
    """The run's config.json, as it reads back from JSON.

    Raises InputError for a part that is in no family or a number that JSON does not have, TypeError for no plain data.
    """
    tree = {
        "format": FORMAT,
        "undiffuse": __version__,
        "torch": torch.__version__,
        "preset": getattr(model, "preset", None),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "model": model.config(),
        "data": data.config(),
        "training": options.plain(),
    }
    try:
        return json.loads(json.dumps(tree, allow_nan=False))
    except ValueError as problem:
        raise InputError(
            "model: one of its numbers is not finite, which config.json cannot hold; give a large number instead."
        ) from problem


def same(recorded: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Raises InputError if `now` is another model, or other data, than `recorded`: there is nothing to go on with.

    Data may have moved; they are the same if their fingerprint and their transform are.
    """
    place = _difference(recorded.get("model"), now["model"], "model")
    if place is not None:
        raise InputError(
            f"{where}: cannot be resumed with another model ({place}); "
            "leave the model's options as they were, or start a run of its own with --init."
        )
    for key in ("fingerprint", "transform"):
        if recorded.get("data", {}).get(key) != now["data"].get(key):
            raise InputError(
                f"{where}: cannot be resumed, for the data are not those it was trained on (their {key} differs); "
                "start a run of its own with --init."
            )


def _difference(recorded: Any, now: Any, place: str) -> str | None:
    """Where two trees first differ, and how."""
    if isinstance(recorded, Mapping) and isinstance(now, Mapping):
        for key in [*recorded, *(key for key in now if key not in recorded)]:
            found = _difference(recorded.get(key), now.get(key), f"{place}.{key}")
            if found is not None:
                return found
        return None
    return None if recorded == now else f"{place} was {_short(recorded)} and is now {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def refuse_if_done(where: str, state: Mapping[str, Any], options: Options) -> None:
    """Raises InputError if the run at `state` has had all the steps, or finished within the time, asked for."""
    step, elapsed, had_before = state["step"], state["elapsed"], state.get("budget") or 0.0
    if options.steps is not None and step >= options.steps:
        had, more = f"{step} steps", f"--steps {2 * max(step, 1)}"
    elif (
        options.budget is not None
        and state["finished"]
        and max(elapsed, had_before) >= options.budget
    ):
        had, more = format_duration(elapsed), f"--budget {format_duration(2 * elapsed)}"
    else:
        return
    raise InputError(f"{where}: has already had {had}; give more, such as {more}, to extend it.")


def given_up(folder: RunFolder | None, step: int, options: Options, patience: int) -> InputError:
    """The sentence on a run whose losses are no longer finite: what to try, and what is left."""
    saved = folder.saved() if folder else None
    where = f"{folder.given}: " if folder else ""
    kept = f"; the checkpoint of step {saved} is kept" if saved is not None else ""
    precise = ", --precision float32" if options.precision != "float32" else ""
    return InputError(
        f"{where}stopped at step {step}, the loss or its gradient was not finite {patience} times in a row; "
        f"try a lower learning rate (--training.lr {options.lr / 4:.2g}){precise}, "
        f"or look for extreme values in the data{kept}."
    )

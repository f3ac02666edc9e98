"""The options that a request may set, generated from the dataclasses of `undiffuse.options`.

Every option of a training is one of these, but for those that name a plug-in, a file, a place to
write to, a dashboard or an address. Numbers have limits, so that nobody asks for a network that
does not fit, or for a training of a year.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

from undiffuse.declared import Option, checked, choices, options_of
from undiffuse.duration import parse_duration
from undiffuse.errors import InputError, unknown
from undiffuse.models import PRESETS
from undiffuse.options import TrainOptions
from undiffuse.web import limits

LEFT_OUT = {
    "out", "config", "resume", "init", "log", "overwrite", "plugin", "quiet", "json", "device",
    "data.labels",
}  # fmt: skip
"""They name files, places, dashboards, addresses or plug-ins, or are the server's own business."""

ASKED = {"preset", "steps", "budget", "seed"}  # of every new run
MOST: Mapping[str, float] = {
    "steps": limits.STEPS,
    "checkpoint_every": limits.STEPS,
    "levels": 10_000,
    "latent": 65_536,
    "training.batch": limits.TRAINED_BATCH,
    "training.accumulate": 1024,
    "training.warmup": limits.STEPS,
    "training.evaluate_every": limits.STEPS,
    "training.samples": 64,
    "training.log_every": limits.STEPS,
    "data.size": 2**20,
    "data.held_out": 10**6,
    **{f"model.{name}": most for name, most in limits.SIZES.items()},
}
"""The largest value of each whole number; others have none."""

_LONGEST = 200  # characters of a text
_MOST_TEXTS = 1000  # in a list


def training_options() -> dict[str, Option]:
    """Return the options that a training may set, by their dotted names."""
    return dict(_leaves(TrainOptions, ""))


def _leaves(kind: type, within: str) -> Iterator[tuple[str, Option]]:
    for name, option in options_of(kind).items():
        dotted = f"{within}{name}"
        if option.group is not None:
            yield from _leaves(option.group, f"{dotted}.")
        elif dotted not in LEFT_OUT:
            yield dotted, option


def described() -> list[dict[str, Any]]:
    """Return what a page makes fields of: name, type, choices, default, help, advanced."""
    found = []
    for name, option in training_options().items():
        default = option.default
        found.append(
            {
                "name": name,
                "type": kind_of_value(option.type),
                "choices": list(choices(option.type)),
                "default": list(default) if isinstance(default, tuple) else default,
                "help": option.help,
                "advanced": name not in ASKED,
                "most": MOST.get(name),
            }
        )
    return found


def kind_of_value(hint: Any) -> str:
    """Return what a value of an option is: "whole", "number", "switch", "text", "list", "choice".

    >>> kind_of_value(int), kind_of_value(tuple[str, ...]), kind_of_value(float | int)
    ('whole', 'list', 'number')
    """
    if choices(hint):
        return "choice"
    if get_origin(hint) is Annotated:
        return kind_of_value(get_args(hint)[0])
    if get_origin(hint) is tuple:
        return "list"
    kinds = {int: "whole", float: "number", bool: "switch", str: "text"}
    if hint in kinds:
        return kinds[hint]
    parts = {kind_of_value(part) for part in get_args(hint)}
    return next(one for one in ("text", "number", "list", "whole", "switch") if one in parts)


def allowed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options, by dotted names, as the tree that a command takes, checked.

    Raises:
        InputError: for a name that is not allowed, a value of another type or out of range, and
            options that exclude each other or that the preset does not take.

    >>> allowed({"training.lr": 0.01, "preset": "vae", "latent": 3})
    {'training': {'lr': 0.01}, 'preset': 'vae', 'latent': 3}
    >>> allowed({"plugin": "x.py"})
    Traceback (most recent call last):
    undiffuse.errors.InputError: options plugin: no such option. ...
    """
    known, tree = training_options(), {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in known:
            raise unknown("options", "option", name[:_LONGEST], known)
        check_size(name, value)
        group, _, own = name.rpartition(".")
        place = tree.setdefault(group, {}) if group else tree
        place[own] = value
    found = checked(TrainOptions, tree)
    if found.get("budget") is not None and parse_duration(found["budget"]) > limits.BUDGET:
        raise InputError(f"budget: at most {limits.BUDGET / 86400:.0f} days.")
    _check_preset(found)
    return _plain(found)


def check_size(name: str, value: Any) -> None:
    """Raise InputError for a number above its limit, and for text that is too long or a path."""
    values = value if isinstance(value, list | tuple) else [value]
    if len(values) > _MOST_TEXTS:
        raise InputError(f"{name}: at most {_MOST_TEXTS:,} values.")
    for one in values:
        most = MOST.get(name)
        if isinstance(one, int | float) and most is not None and not one <= most:
            raise InputError(f"{name} {one:g}: at most {most:,} here; choose less.")
        if isinstance(one, str) and (len(one) > _LONGEST or not one.isprintable()):
            raise InputError(f"{name}: text of at most {_LONGEST} letters in one line.")
        if isinstance(one, str) and name == "condition" and re.search(r"[/\\~]|^hf:|\.\w+:", one):
            raise InputError(f"{name}: names of columns alone are taken here, no files.")


def _check_preset(tree: Mapping[str, Any]) -> None:
    """Refuse at once what the preset does not take."""
    from undiffuse.options import PresetOptions

    words = {name: tree[name] for name in options_of(PresetOptions) if name in tree}
    make: Callable[..., Any] = PRESETS[tree.get("preset", "edm")]
    make(**words, **tree.get("model", {}))


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with lists for tuples."""
    return {
        name: _plain(value)
        if isinstance(value, Mapping)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in tree.items()
    }

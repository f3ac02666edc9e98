"""Parts as plain data: a schedule, target, network, transform ... <-> a tree of kind and arguments.

A part stores each constructor argument under its own name (scikit-learn's convention), so the tree
can be read off the object and the object rebuilt from the tree. A family is one literal dict, kind
-> class. This is how config.json records what was trained, and why opening a run never executes
anything but these constructors.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from undiffuse.errors import InputError, unknown

Family = Mapping[str, type]


def arguments(cls: type) -> dict[str, inspect.Parameter]:
    """Return the constructor's parameters by name."""
    return {
        name: parameter
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def describe(part: object, families: Mapping[str, type]) -> dict[str, Any]:
    """Return `{"kind": ..., argument: value, ...}`, nested parts described in turn.

    Raises:
        InputError: the class is in no family, or does not keep an argument under its own name; such
            a part cannot be written to a run.
    """
    name = type(part).__name__
    kinds = {cls: kind for kind, cls in families.items()}
    if type(part) not in kinds:
        raise InputError(
            f"{name}: a run records its parts by kind, and this class has none; register it in its "
            f"family (for a network, undiffuse.nn.NETWORKS[{name.lower()!r}] = {name}), "
            "or train without out."
        )
    tree: dict[str, Any] = {"kind": kinds[type(part)]}
    for argument in arguments(type(part)):
        if not hasattr(part, argument):  # parts are plain classes: their arguments are attributes
            raise InputError(
                f"{name}: a run records each argument of a part, and {argument} is not kept under "
                f"its own name; set self.{argument} in its constructor, or train without out."
            )
        tree[argument] = _plain(getattr(part, argument), families)
    return tree


def _plain(value: Any, families: Family) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, families) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item, families) for key, item in value.items()}
    return describe(value, families)


def as_json(value: Any) -> Any:
    """Return tensors, arrays and numbers as JSON has them; what is not finite becomes None.

    >>> as_json({"loss": torch.tensor(0.5), "curve": np.array([1.0, np.nan])})
    {'loss': 0.5, 'curve': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return as_json(value.tolist())
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def rebuild(tree: Mapping[str, Any], families: Family, where: str = "config") -> Any:
    """Build the part that `tree` describes; lists come back as tuples.

    Raises:
        InputError: a kind is in no family, or does not take an argument; `where` names the tree.
    """
    if tree.get("kind") not in families:
        raise unknown(where, "kind", str(tree.get("kind")), families)
    cls = families[tree["kind"]]
    known = arguments(cls)
    given = {}
    for name, value in tree.items():
        if name == "kind":
            continue
        if name not in known:
            raise unknown(f"{where}.{tree['kind']}", "argument", name, known)
        given[name] = _value(value, families, f"{where}.{name}")
    try:
        return cls(**given)
    except (TypeError, ValueError) as problem:
        raise InputError(f"{where}: {problem}") from problem


def _value(value: Any, families: Family, where: str) -> Any:
    if isinstance(value, Mapping):
        if "kind" in value:
            return rebuild(value, families, where)
        return {key: _value(item, families, where) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_value(item, families, where) for item in value)
    return value

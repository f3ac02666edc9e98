"""Parts as plain data: a schedule, target, network, transform ... <-> a tree of kind and arguments.

A part stores each constructor argument under its own name (scikit-learn's convention), so the tree
can be read off the object and the object rebuilt from the tree. A family is one literal dict, kind
-> class. This is how config.json records what was trained, and why opening a run never executes
anything but these constructors.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch

from undiffuse.errors import InputError, unknown

Family = Mapping[str, type]


@cache
def arguments(cls: type) -> Mapping[str, inspect.Parameter]:
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
            f"family (a network: ud.plug_in({{'networks': {{{name.lower()!r}: {name}}}}})), "
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


def rebuild(
    tree: Mapping[str, Any], families: Family, where: str = "config", most: int = 2**64
) -> Any:
    """Build the part that `tree` describes; lists come back as tuples.

    The whole tree is checked against the constructors' annotations before anything is built.

    Args:
        tree: what `describe` returned, as JSON has it.
        families: kind -> class.
        where: names the tree in errors.
        most: the largest magnitude of a whole number in it.

    Raises:
        InputError: a kind is in no family or not of the class that is wanted, an argument is
            unknown, missing, or of another type or size.

    >>> from undiffuse.nn import NETWORKS
    >>> rebuild({"kind": "mlp", "shape": [2], "width": "wide"}, NETWORKS)
    Traceback (most recent call last):
    undiffuse.errors.InputError: config.width is "wide": input should be a valid integer.
    """
    _check(tree, families, where, most)
    return _built(tree, families, where)


def _built(tree: Any, families: Family, where: str) -> Any:
    if isinstance(tree, list | tuple):
        return tuple(_built(item, families, where) for item in tree)
    if not isinstance(tree, Mapping):
        return tree
    inner = {k: _built(v, families, f"{where}.{k}") for k, v in tree.items() if k != "kind"}
    if "kind" not in tree:
        return inner
    try:
        return families[tree["kind"]](**inner)
    except (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError) as problem:
        raise InputError(f"{where}: {problem}") from problem


# --- the types of arguments, read off the constructors and checked by pydantic


class _Part:
    """Stands for a part of this class while the arguments of the part around it are checked."""

    def __init__(self, cls: type) -> None:
        self.cls = cls


def _check(tree: Any, families: Family, where: str, most: int) -> _Part:
    """Raise InputError unless `tree` describes a part, with all parts in it."""
    from pydantic import ValidationError

    kind = tree.get("kind") if isinstance(tree, Mapping) else None
    if not isinstance(kind, str) or kind not in families:
        raise unknown(where, "kind", _short(kind), families)
    known, given = arguments(families[kind]), {}
    for name, value in tree.items():
        if name == "kind":
            continue
        if name not in known:
            raise unknown(f"{where}.{kind}", "argument", name, known)
        place = f"{where}.{name}"
        given[name] = _without_parts(value, families, place, most)
        try:
            _adapter(families[kind], name, most).validate_python(given[name])
        except ValidationError as problem:
            said = problem.errors()[0]["msg"].removeprefix("Value error, ")
            said = f"{said[:1].lower()}{said[1:]}"
            raise InputError(f"{place} is {_short(value)}: {said}.") from None
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in given:
            raise InputError(f"{where}.{kind}: {name} is missing.")
    return _Part(families[kind])


def _without_parts(value: Any, families: Family, where: str, most: int) -> Any:
    """The value with each part in it checked and replaced by a `_Part`."""
    if isinstance(value, Mapping):
        if "kind" in value:
            return _check(value, families, where, most)
        return {k: _without_parts(v, families, f"{where}.{k}", most) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_without_parts(item, families, where, most) for item in value)
    return value


@cache
def _adapter(cls: type, name: str, most: int) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(_checkable(get_type_hints(cls.__init__).get(name, Any), most))


def _checkable(hint: Any, most: int) -> Any:
    """The annotation of an argument as pydantic is to check its plain data."""
    from pydantic import AfterValidator, AllowInfNan, BeforeValidator, Strict
    from pydantic.types import conint

    inner = tuple(_checkable(one, most) for one in get_args(hint) if one is not Ellipsis)
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return Union[inner]  # noqa: UP007 - of a tuple
    if origin in (tuple, Sequence) and inner:
        return tuple[inner if len(inner) > 1 else (inner[0], ...)]  # pyright: ignore
    if origin is Mapping:
        return dict[str, Any]
    if hint is int:
        return conint(strict=True, ge=-most, le=most)
    if hint is float:
        return Annotated[float, Strict(), AllowInfNan(False), BeforeValidator(_exact)]
    if hint in (str, bool):
        return Annotated[hint, Strict()]
    if hint in (None, type(None), Any):
        return hint

    def of_class(value: Any) -> Any:
        if not isinstance(value, _Part) or not issubclass(value.cls, hint):
            raise ValueError(f"must be a part of the kind {hint.__name__}")
        return value

    return Annotated[Any, AfterValidator(of_class)]


def _exact(value: Any) -> Any:
    """The value; a whole number that no float equals is refused: torch takes none as a number."""
    if isinstance(value, int) and abs(value) > 2**53:
        raise ValueError("must be a number below 2**53, or written with a point")
    return value


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = json.dumps(text) if isinstance(value, str) else text
    return text if len(text) <= 40 else text[:37] + "..."

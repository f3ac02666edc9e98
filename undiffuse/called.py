"""Calls that do not fit a function: what was wrong in a sentence, where Python has a TypeError."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache, wraps
from numbers import Integral, Real
from types import NoneType
from typing import Any, ParamSpec, TypeVar

from undiffuse.declared import requirement, written
from undiffuse.errors import InputError, unknown

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

_SIMPLE = {"int": int, "float": float, "bool": bool, "str": str, "None": NoneType}


def called(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Let a function say in a sentence what is wrong with a call.

    An unknown argument is named, with the nearest one that there is; arguments that are annotated
    as numbers, text or booleans are checked to be that.

    >>> @called
    ... def draw(n: int, *, seed: int = 0) -> int:
    ...     return n + seed
    >>> draw(3, sede=1)
    Traceback (most recent call last):
    undiffuse.errors.InputError: draw: sede: no such argument. Did you mean seed? (n, seed)
    >>> draw("3")
    Traceback (most recent call last):
    undiffuse.errors.InputError: draw: n 3: must be a whole number.
    """
    signature, name = inspect.signature(function), function.__name__

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            raise _refused(name, signature, args, kwargs) from None
        hints = _hints(function)
        for one, value in bound.arguments.items():
            if one in hints:
                bound.arguments[one] = _checked(f"{name}: {one}", value, hints[one])
        return function(*bound.args, **bound.kwargs)

    return call


def known_options(name: str, options: Mapping[str, Any], function: Callable[..., Any]) -> None:
    """Raise InputError, as a call of `name`, for options that `function` has no argument for."""
    takes = [one.name for one in _named(inspect.signature(function))]
    for one in options:
        if one not in takes:
            raise unknown(f"{name}:", "argument", one, takes)


@cache
def _hints(function: Callable[..., Any]) -> dict[str, tuple[type, ...]]:
    """The arguments that are annotated with numbers, text and booleans alone."""
    found: dict[str, tuple[type, ...]] = {}
    for one in _named(inspect.signature(function)):
        hint = one.annotation  # text, as modules import annotations from __future__
        parts = hint.split(" | ") if isinstance(hint, str) else [getattr(hint, "__name__", "")]
        if all(part in _SIMPLE for part in parts):
            found[one.name] = tuple(_SIMPLE[part] for part in parts)
    return found


def _checked(what: str, value: Any, hints: tuple[type, ...]) -> Any:
    """The value, a number of numpy's as one of Python's. Raises InputError for another type."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        value = int(value)
    elif isinstance(value, Real) and not isinstance(value, bool):
        value = float(value)
    fits = (float, int) if float in hints else ()
    if not (isinstance(value, (*hints, *fits)) if not isinstance(value, bool) else bool in hints):
        raise InputError(f"{what} {_shown(value)}: must be {_needed(hints)}.")
    return value


def _shown(value: Any) -> str:
    return written(value) if isinstance(value, str | Real) else f"of type {type(value).__name__}"


def _needed(hints: tuple[type, ...]) -> str:
    return " or ".join(requirement(hint) for hint in hints if hint is not NoneType)


def _named(signature: inspect.Signature) -> list[inspect.Parameter]:
    """The arguments that can be given by name."""
    keywords = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p for p in signature.parameters.values() if p.kind in keywords and p.name != "self"]


def _refused(
    name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> InputError:
    """Why a call does not fit."""
    takes = _named(signature)
    names = [one.name for one in takes]
    for one in kwargs:
        if one not in names:
            return unknown(f"{name}:", "argument", one, names)
    by_place = [one.name for one in takes if one.kind is one.POSITIONAL_OR_KEYWORD]
    given = len(args) - ("self" in signature.parameters)
    if given > len(by_place):
        own = f"{len(by_place)} of them, {', '.join(by_place)}" if by_place else "none"
        others = ", ".join(one for one in names if one not in by_place)
        return InputError(
            f"{name}: {given} arguments without a name; it takes {own}. Name the others: {others}."
        )
    if twice := [one for one in by_place[:given] if one in kwargs]:
        return InputError(f"{name}: {twice[0]} is given twice; leave one out.")
    here = {*by_place[:given], *kwargs}
    missing = [one.name for one in takes if one.default is one.empty and one.name not in here]
    return InputError(f"{name}: missing {' and '.join(missing)}; give {_them(missing)}.")


def _them(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"

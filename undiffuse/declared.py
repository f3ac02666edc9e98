"""Options that dataclasses declare: read off them, checked, and put into words.

A field is `Annotated[type, range, Doc(help)]`; see `options`. Ranges are checked by pydantic, which
is imported when the first value is checked, so that help pages need not wait for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    final,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt, Le, Lt, Predicate
from typing_extensions import Doc

from undiffuse.errors import InputError, unknown
from undiffuse.plugged import GROUPS, names

Names = tuple[str, ...]
Options = TypeVar("Options")


@final
@dataclass(frozen=True, eq=False)
class OneOf:
    """One of these names, or of a group of plug-ins: `Annotated[str, OneOf(("edm",), "presets")]`.

    Unlike those of a Literal, the names may become more.
    """

    own: tuple[str, ...]
    group: str

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return (*self.own, *names(self.group))


@dataclass(frozen=True)
class Also:
    """Another word of the command line for an option, which Python has no name for."""

    word: str


@dataclass(frozen=True)
class Option:
    """One field of a verb's dataclass: `type` is without None, `help` names the default.

    `also` are other words for it on the command line.
    """

    name: str
    type: Any
    default: Any
    help: str
    also: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is dataclasses.MISSING

    @property
    def group(self) -> type | None:
        """The dataclass of a group of options, None for a single one."""
        return self.type if dataclasses.is_dataclass(self.type) else None  # pyright: ignore[reportReturnType]


@cache
def options_of(kind: type) -> Mapping[str, Option]:
    """Return the options of a dataclass by name: its own first, then those shared between verbs.

    >>> from undiffuse.options import SampleOptions
    >>> options_of(SampleOptions)["seed"].help
    'Random seed: the same seed gives the same result (default 0).'
    """
    hints = get_type_hints(kind, include_extras=True)
    fields = {one.name: one for one in dataclasses.fields(kind)}
    order = dict.fromkeys(
        name for cls in kind.__mro__ for name in vars(cls).get("__annotations__", ())
    )
    return {name: _option(fields[name], hints[name]) for name in order if name in fields}


def conflicts(kind: type) -> list[tuple[str, str]]:
    """Return the pairs of options that exclude each other: the class attributes `exclusive`."""
    return [pair for cls in kind.__mro__ for pair in vars(cls).get("exclusive", ())]


def _option(one: dataclasses.Field, hint: Any) -> Option:
    made = one.default_factory is not dataclasses.MISSING
    default = one.default_factory() if made else one.default  # pyright: ignore[reportCallIssue]
    text = next(part.documentation for part in get_args(hint) if isinstance(part, Doc))
    if default is not dataclasses.MISSING:
        text = text.replace("{default}", written(default))
    for group in GROUPS:
        text = text.replace(f"{{{group}}}", "".join(f", {more}" for more in names(group)))
    kind = get_args(hint)[0]
    single = tuple(part for part in _alternatives(kind) if part is not type(None))
    limits = tuple(part for part in get_args(hint)[1:] if not isinstance(part, Doc | Also))
    also = tuple(part.word for part in get_args(hint) if isinstance(part, Also))
    bare = Union[single]  # noqa: UP007 - of a tuple
    return Option(one.name, Annotated[(bare, *limits)] if limits else bare, default, text, also)


def checked(
    kind: type, values: Mapping[str, Any], *, called: Callable[[Names], str] = ".".join
) -> dict[str, Any]:
    """Return those of `values` that are given, checked against the options of the dataclass `kind`.

    Args:
        kind: a dataclass of `options`.
        values: name -> value; a mapping for a group. None is not given; lists become tuples.
        called: how the option of these names is called in an error.

    Raises:
        InputError: for a name that is no option, for a value of another type or out of range, and
            for two options that exclude each other.

    >>> from undiffuse.options import TrainingOptions
    >>> checked(TrainingOptions, {"lr": 1e-3, "batch": None})
    {'lr': 0.001}
    >>> checked(TrainingOptions, {"lr": -1.0})
    Traceback (most recent call last):
    undiffuse.errors.InputError: lr -1: must be a number above 0.
    """
    return _checked(kind, values, called, ())


def _checked(
    kind: type, values: Mapping[str, Any], called: Callable[[Names], str], within: Names
) -> dict[str, Any]:
    options, given = options_of(kind), {}
    for name, value in values.items():
        names = (*within, name)
        if name not in options:
            place, _, shown = called(names).rpartition(" ")
            place = place or "options:"
            known = [".".join((*within, other)) for other in options]
            raise unknown(place, "option", shown, known)
        if (group := options[name].group) is None:
            if value is not None:
                given[name] = validated(options[name].type, value, called(names))
        elif isinstance(value, Mapping):
            given[name] = _checked(group, value, called, names)
        else:
            raise InputError(f"{called(names)} {written(value)}: must be a table of options.")
    for pair in conflicts(kind):
        if all(given.get(name, False) is not False for name in pair):  # 0 is given
            one, other = (called((*within, name)) for name in pair)
            raise InputError(f"{one} and {other}: these exclude each other; leave one of them out.")
    return given


def validated(hint: Any, value: Any, called: str, *, word: bool = False) -> Any:
    """Return `value` in the type `hint`; what a person typed (`word`) is converted first.

    Raises:
        InputError: if the value does not fit.

    >>> validated(tuple[int, ...], "1,2,2", "--model.multipliers", word=True)
    (1, 2, 2)
    """
    from pydantic import ValidationError

    read = value
    if word and any(get_origin(part) is tuple for part in _alternatives(hint)) and "," in value:
        read = tuple(filter(None, map(str.strip, value.split(","))))
    elif word and get_origin(hint) is tuple:
        read = (value,)
    elif isinstance(value, list):
        read = tuple(value)
    elif isinstance(value, Real) and not isinstance(value, bool):  # numpy's numbers too
        read = int(value) if isinstance(value, Integral) else float(value)
    words = choices(hint)
    try:
        found = _adapter(hint).validate_python(read, strict=not word)
        if not words or found in words:
            return found
    except ValidationError:
        if not words:
            raise InputError(f"{called} {written(value)}: must be {requirement(hint)}.") from None
    what = called.rpartition(" ")[2].rpartition(".")[2].strip("-").replace("-", " ")
    raise unknown(called, what, written(value), words)


def choices(hint: Any) -> tuple[str, ...]:
    """Return the words that a value of type `hint` is one of; () for any other type.

    >>> choices(Literal["a", "b"]), choices(Annotated[str, OneOf(("a",), "steps")]), choices(int)
    (('a', 'b'), ('a',), ())
    """
    for part in _alternatives(hint):
        if get_origin(part) is Literal:
            return get_args(part)
        if get_origin(part) is Annotated:
            for limit in get_args(part)[1:]:
                if isinstance(limit, OneOf):
                    return limit.names
    return ()


@cache
def _adapter(hint: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(hint)


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_LIMITS = {
    Ge: ("ge", "of at least"),
    Gt: ("gt", "above"),
    Le: ("le", "at most"),
    Lt: ("lt", "below"),
}


def requirement(hint: Any) -> str:
    """Return what a value of type `hint` must be, in words.

    >>> requirement(Annotated[float, Gt(0), Le(1)]), requirement(tuple[int, ...])
    ('a number above 0 and at most 1', 'whole numbers, such as 1,2')
    """
    if get_origin(hint) is Annotated:
        base, *limits = get_args(hint)
        for limit in limits:
            if isinstance(limit, Predicate):
                return str(limit.func.__doc__).rstrip(".")
        return " ".join((requirement(base), " and ".join(_limits(limits)))).strip()
    if get_origin(hint) is tuple:
        (number, *more) = get_args(hint)
        one = requirement(number).removeprefix("a ").replace("number", "numbers")
        if number is str:
            return "names separated by commas"
        return f"{'two ' if more != [...] else ''}{one}, such as 1,2"
    alternatives = _alternatives(hint)
    if len(alternatives) > 1:
        return ", or ".join(map(requirement, alternatives))
    return _KINDS[hint]


def _limits(limits: Sequence[Any]) -> Iterator[str]:
    for limit in limits:
        name, words = _LIMITS[type(limit)]
        bound = getattr(limit, name)  # each class of limit has its bound under its own name
        if bound != math.inf:
            yield f"{words} {bound}"


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def written(value: Any) -> str:
    """Return a value as a person types it.

    >>> written((1, 2)), written(1e-05), written("auto"), written(math.inf)
    ('1,2', '1e-05', 'auto', 'inf')
    """
    if isinstance(value, list | tuple):
        return ",".join(map(written, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def with_defaults(
    kind: type[Options], values: Mapping[str, Any], *, called: Callable[[Names], str] = ".".join
) -> Options:
    """Return the dataclass `kind` with these values, which `checked` returned, over the defaults.

    Raises:
        InputError: an option that has no default is missing.

    >>> from undiffuse.options import InfoOptions
    >>> asked = with_defaults(InfoOptions, {"json": True})
    >>> asked.quiet, asked.json
    (False, True)
    """
    tree: dict[str, Any] = {}
    for name, option in options_of(kind).items():
        if option.group is not None:
            tree[name] = with_defaults(option.group, values.get(name, {}))
        elif name in values:
            tree[name] = values[name]
        elif option.required:
            raise InputError(
                f"{called((name,))}: missing; {option.help[0].lower()}{option.help[1:]}"
            )
    return kind(**tree)

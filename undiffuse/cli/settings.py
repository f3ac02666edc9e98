"""Options: declared once, as fields of a dataclass; typed on the command line or read from a TOML file; checked once.

    words of the command line --cyclopts--> a tree of strings  \\
                                                                 merged, words win --pydantic--> the dataclass
    FILE.toml                 --tomllib---> a tree of values   /

Every field is None until it was given, so that the tree holds only what somebody chose: what nobody chose is decided
by the library. Nothing here imports pydantic until a command runs, so that help pages need not wait for it.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

from cyclopts import Parameter

from undiffuse.errors import InputError, unknown

Tree = dict[str, Any]
Options = TypeVar("Options")


def option(help: str, *, name: str | tuple[str, ...] | None = None) -> Parameter:
    """How a field is typed on the command line: its one line of help, and its name where that is not the field's."""
    return Parameter(help=help, name=name, negative=(), converter=_as_typed, n_tokens=None, show_default=False)


def flag(help: str) -> Parameter:
    """The same for an option that is there or not."""
    return Parameter(help=help, negative=())


def _as_typed(kind: type, tokens: Any) -> str:
    """The words themselves: their meaning is found when they are checked, together with what came from a file."""
    return ",".join(token.value for token in tokens)


@final
@dataclass(frozen=True)
class AtLeast:
    """A number that is `bound` or more; `above=True` leaves the bound itself out. For use in `Annotated`."""

    bound: float
    above: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def check(self, value: Any) -> Any:
        """`value`, or each number of it, if it is within the bound; ValueError otherwise."""
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not (number > self.bound if self.above else number >= self.bound):
                raise ValueError(f"must be {'more than' if self.above else 'at least'} {self.bound}")
        return value


@final
@dataclass(frozen=True)
class Commas:
    """A list typed as 1,2,4. For use in `Annotated`; what comes from a file may be a list already."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self.split, handler(source))

    def split(self, value: Any) -> Any:
        """ "1,2" -> ["1", "2"], 1 -> [1], and a list as it is."""
        if isinstance(value, str):
            return [part for part in value.split(",") if part.strip()]
        return [value] if isinstance(value, int | float) else value


def given(options: Any) -> Tree:
    """The tree of what is not None in `options` (a dataclass of fields and of further dataclasses, or None)."""
    tree: Tree = {}
    for field in dataclasses.fields(options) if options is not None else ():
        value = getattr(options, field.name)
        value = given(value) if dataclasses.is_dataclass(value) else value
        if value is not None and value != {}:
            tree[field.name] = value
    return tree


def merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> Tree:
    """Both trees in one; where they disagree `upper` is right.

    >>> merge({"seed": 1, "model": {"width": 8}}, {"model": {"width": 16}})
    {'seed': 1, 'model': {'width': 16}}
    """
    tree = dict(lower)
    for key, value in upper.items():
        both = isinstance(value, Mapping) and isinstance(tree.get(key), Mapping)
        tree[key] = merge(tree[key], value) if both else value
    return tree


@final
class File:
    """A TOML file of options: its `tree`, and where in it something stands.

    Raises InputError if it cannot be read, with the line where its syntax goes wrong.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.text = Path(path).expanduser().read_text(encoding="utf-8")
            self.tree: Tree = _underscored(tomllib.loads(self.text))
        except FileNotFoundError:
            raise InputError(f"--config {path}: no such file; check the path.") from None
        except (OSError, UnicodeDecodeError) as problem:
            reason = getattr(problem, "strerror", None) or "it is not text"
            raise InputError(f"--config {path}: could not be read: {reason}; give a TOML file.") from None
        except tomllib.TOMLDecodeError as problem:
            raise InputError(f"{path}: not valid TOML: {problem}; correct it there.") from None

    def where(self, names: tuple[str, ...]) -> str:
        """ "FILE, line 3: model.width" for ("model", "width")."""
        dotted = ".".join(names)
        table = ""
        for number, line in enumerate(self.text.splitlines(), start=1):
            words = line.replace("-", "_").replace('"', "").strip()
            if header := re.match(r"\[\s*([\w.\s]+?)\s*\]", words):
                table = header[1] + "."
                key = header[1]
            elif entry := re.match(r"([\w.\s]+?)\s*=", words):
                key = table + entry[1]
            else:
                continue
            if key == dotted:
                return f"{self.path}, line {number}: {dotted}"
        return f"{self.path}: {dotted}"


def _underscored(tree: Any) -> Any:
    """The tree with `checkpoint-every` written `checkpoint_every`: a file may use either."""
    if isinstance(tree, dict):
        return {key.replace("-", "_"): _underscored(value) for key, value in tree.items()}
    return tree


def check(kind: type[Options], words: Tree, file: File | None = None) -> Options:
    """The options of class `kind` that `words` and `file` spell. Raises InputError for the first that is not right."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(merge(file.tree if file else {}, words))
    except ValidationError as problem:
        first = problem.errors()[0]
    names = _names(kind, first["loc"])
    typed = _holds(words, names)
    where = _typed_as(names) if typed or file is None else file.where(names)
    raise _refusal(kind, names, where, first)


def _names(kind: Any, location: tuple) -> tuple[str, ...]:
    """The part of pydantic's location that names an option: without positions in a list."""
    return tuple(str(part) for part in location if isinstance(part, str))


def _typed_as(names: tuple[str, ...]) -> str:
    """("training", "weight_decay") -> "--training.weight-decay", ("n",) -> "-n"."""
    dotted = ".".join(names).replace("_", "-")
    return f"--{dotted}" if len(dotted) > 1 else f"-{dotted}"


def _holds(tree: Any, names: tuple[str, ...]) -> bool:
    for name in names:
        if not isinstance(tree, Mapping) or name not in tree:
            return False
        tree = tree[name]
    return True


def _refusal(kind: Any, names: tuple[str, ...], where: str, problem: Any) -> InputError:
    """One sentence for one of pydantic's findings."""
    value = problem["input"]
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        owner = kind
        for name in names[:-1]:
            owner = _nested(owner, name)
        place = where.removesuffix(names[-1]).rstrip(":. ").removesuffix("--")
        return unknown(place and place + ":", "option", names[-1], [f.name for f in dataclasses.fields(owner)])
    if problem["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        return unknown(where, names[-1].replace("_", " "), str(value), choices)
    if problem["type"] == "value_error":
        return InputError(f"{where} {_shown(value)}: {problem['ctx']['error']}.")
    need = next((need for start, need in _NEEDS.items() if problem["type"].startswith(start)), problem["msg"])
    return InputError(f"{where} {_shown(value)}: must be {need}.")


def _nested(kind: Any, name: str) -> Any:
    """The dataclass that the field `name` of the dataclass `kind` holds."""
    from typing import get_args, get_type_hints

    hint = get_type_hints(kind)[name]
    return next((part for part in (*get_args(hint), hint) if dataclasses.is_dataclass(part)), hint)


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


_NEEDS = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list of numbers, such as 1,2,2",
    "dataclass": "a table of options",
}

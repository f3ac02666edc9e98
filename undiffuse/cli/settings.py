"""Options: declared once, as fields of a dataclass; typed on the command line or read from a TOML file; checked once.

    words of the command line --cyclopts--> a tree of strings  \\
                                                                 merged, words win --pydantic--> the dataclass
    FILE.toml                 --tomllib---> a tree of values   /

Every field is None until it was given, so that the tree holds only what somebody chose: what nobody chose is decided
by the library. Nothing here imports pydantic until a command runs, so that help pages need not wait for it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final, get_args, get_origin, get_type_hints

from cyclopts import Parameter

from undiffuse.cli.findings import refusal, typed_as
from undiffuse.errors import InputError

Tree = dict[str, Any]
Options = TypeVar("Options")


def option(help: str, *, name: str | None = None, hyphen: bool = False) -> Parameter:
    """How a field is typed on the command line: its one line of help, its name where that is not the field's, and
    whether its value may begin with a hyphen that is no minus of a number.
    """
    return Parameter(
        help=help,
        name=name,
        negative=(),
        converter=_as_typed,
        show_default=False,
        allow_leading_hyphen=hyphen,
    )


def flag(help: str) -> Parameter:
    """The same for an option that is there or not."""
    return Parameter(help=help, negative=())


def _as_typed(kind: Any, tokens: Any) -> Any:
    """The words as a value of type `kind`, a list typed as 1,2,4. Raises InputError if they are none."""
    from pydantic import TypeAdapter, ValidationError

    word = ",".join(token.value for token in tokens)
    listed = get_origin(kind) is tuple
    try:
        return TypeAdapter(kind).validate_python(word.split(",") if listed and word else word or [])
    except ValidationError as problem:
        raise refusal(problem.errors()[0] | {"input": word}, tokens[0].keyword) from problem


@final
@dataclass(frozen=True)
class AtLeast:
    """A number that is `bound` or more; `above=True` leaves the bound itself out. For use in `Annotated`."""

    bound: int | float
    above: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def check(self, value: Any) -> Any:
        """`value`, or each number of it, if it is within the bound; ValueError otherwise."""
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not (
                number > self.bound if self.above else number >= self.bound
            ):
                raise ValueError(
                    f"must be {'more than' if self.above else 'at least'} {self.bound}"
                )
        return value


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
            self.text = Path(os.path.expanduser(path)).read_text(encoding="utf-8")
            self.tree: Tree = _underscored(tomllib.loads(self.text))
        except FileNotFoundError:
            raise InputError(f"--config {path}: no such file; check the path.") from None
        except (OSError, UnicodeDecodeError) as problem:
            reason = getattr(problem, "strerror", None) or "it is not text"
            raise InputError(
                f"--config {path}: could not be read: {reason}; give a TOML file."
            ) from None
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
                return f"{self.path}, line {number}:"
        return f"{self.path}:"


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
        finding = problem.errors()[0]
    names = tuple(
        part for part in finding["loc"] if isinstance(part, str)
    )  # without positions in a list
    if file is None or _holds(words, names):
        raise refusal(finding, typed_as(names))
    owner: Any = kind
    for name in names[:-1]:
        owner = _nested(owner, name)
    siblings = [".".join((*names[:-1], field.name)) for field in dataclasses.fields(owner)]
    raise refusal(finding, ".".join(names), place=file.where(names), siblings=siblings)


def _holds(tree: Any, names: tuple[str, ...]) -> bool:
    for name in names:
        if not isinstance(tree, Mapping) or name not in tree:
            return False
        tree = tree[name]
    return True


def _nested(kind: Any, name: str) -> Any:
    """The dataclass that the field `name` of the dataclass `kind` holds."""
    hint = get_type_hints(kind)[name]
    return next(part for part in (*get_args(hint), hint) if dataclasses.is_dataclass(part))

r"""A command of the command line: a function of its arguments and of what was asked for.

    words of the command line --cyclopts--> a tree of values  \
                                                               merged, words win --options--> Asked
    FILE.toml                 --tomllib---> a tree of values  /

Options are declared in `undiffuse.options`. On the command line each may be left out, so that a
tree holds only what was given: the library decides the rest.
"""

from __future__ import annotations

import inspect
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    TypeVar,
    Union,
    final,
    get_args,
    get_origin,
    get_type_hints,
)

from cyclopts import Group, Parameter

from undiffuse.atomic import contents
from undiffuse.cli.terminal import Terminal
from undiffuse.declared import (
    Option,
    checked,
    choices,
    conflicts,
    options_of,
    validated,
    with_defaults,
)
from undiffuse.errors import InputError
from undiffuse.plugged import installed
from undiffuse.rank import launched
from undiffuse.reading import read_text, said
from undiffuse.remote import refuse_store

Options = TypeVar("Options")
Tree = dict[str, Any]


@final
@dataclass(frozen=True)
class Asked(Generic[Options]):
    """What a command was asked for: its options, those `given`, and the terminal it writes to.

    `plugins` are the files of parts that were given.
    """

    options: Options
    given: Tree
    terminal: Terminal
    plugins: tuple[str, ...] = ()

    def chosen(self, *names: str) -> Tree:
        """Those of the options that were given."""
        return {name: self.given[name] for name in names if name in self.given}


@final
@dataclass(frozen=True)
class Verb:
    """A command: what cyclopts calls, and what its help page says besides."""

    name: str
    kind: type  # of its options
    shared: bool  # whether several processes can do its work together
    command: Callable[..., int]
    usage: str
    example: str
    sign: Callable[[], None]  # gives the command the options, and choices, that there are now


def verb(usage: str, example: str, *, shared: bool = False) -> Callable[[Callable[..., int]], Verb]:
    """Make a command of a function `(asked: Asked[SomeOptions], *arguments) -> exit code`.

    Several processes that a launcher has started, such as torchrun, run it if it is `shared`; each
    of them refuses it otherwise.
    """

    def decorate(function: Callable[..., int]) -> Verb:
        hints = get_type_hints(function, include_extras=True)
        _, *arguments = inspect.signature(function).parameters.values()
        kind = get_args(hints["asked"])[0]

        def command(*given: Any, options: Any = None) -> int:
            place = launched()
            if place is not None and not shared:
                raise InputError(
                    f"undiffuse {function.__name__}: runs in one process, and {place[1]} were "
                    "started; leave torchrun or srun out."
                )
            return function(ask(kind, _tree(options)), *given)

        command.__doc__, command.__name__ = function.__doc__, function.__name__
        words = inspect.Parameter("options", inspect.Parameter.KEYWORD_ONLY, default=None)

        def sign() -> None:
            parameters = [
                *(
                    one.replace(kind=one.POSITIONAL_ONLY, annotation=hints[one.name])
                    for one in arguments
                ),
                words.replace(annotation=Annotated[typed(kind) | None, Parameter(name="*")]),
            ]
            command.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
            command.__annotations__ = {one.name: one.annotation for one in parameters}

        sign()
        return Verb(function.__name__, kind, shared, command, usage, example, sign)

    return decorate


def ask(kind: type[Options], words: Tree) -> Asked[Options]:
    """The options that `words`, and the file that they name as `config`, spell.

    Raises:
        InputError: for an option that is unknown, missing, out of range or excluded by another.
    """
    file = File(words["config"]) if "config" in words else None

    def called(names: tuple[str, ...]) -> str:
        if file is None or _holds(words, names):
            return typed_as(names)
        return f"{file.where(names)} {'.'.join(names)}"

    kept = dict(file.tree) if file else {}
    for one, other in conflicts(kind):
        for typed, filed in ((one, other), (other, one)):
            if typed in words:
                kept.pop(filed, None)
    tree = merge(kept, words)
    files = tree.pop("plugin", ())
    left_out = plug(files, called(("plugin",)))
    try:
        given = checked(kind, tree, called=called)
    except InputError as problem:
        raise InputError(" ".join((str(problem), *left_out))) from problem
    options = with_defaults(kind, given, called=typed_as)
    terminal = Terminal(quiet=given.get("quiet", False), as_json=given.get("json", False))
    for sentence in left_out:
        terminal.say(sentence, "yellow")
    plugins = (files,) if isinstance(files, str) else tuple(files)
    return Asked(options, given, terminal, tuple(os.path.abspath(one) for one in plugins))


def plug(files: Any, called: str = "--plugin") -> list[str]:
    """Register the parts of installed packages and of files.

    Args:
        files: those that were given.
        called: the option, for messages.

    Returns:
        Sentences on what had to be left out.

    Raises:
        InputError: for a file that is no plug-in.
    """
    left_out: list[str] = []
    files = (files,) if isinstance(files, str) else validated(tuple[str, ...], files, called)
    if files or installed():
        from undiffuse import plugins

        plugins.load_installed(left_out.append)
        for file in files:
            plugins.plug_in(file)
    return left_out


@cache
def typed(kind: type) -> Any:
    """The dataclass `kind` as cyclopts reads it: each field is a word with its help, or None."""
    made = []
    for name, option in options_of(kind).items():
        if option.group is None:
            hint = _word(option)
        else:
            group = Group.create_ordered(option.help)
            hint = Annotated[typed(option.group) | None, Parameter(group=group)]
        made.append((name, hint, None))
    return make_dataclass(kind.__name__, made, kw_only=True, namespace={"__module__": __name__})


def _word(option: Option) -> Any:
    """A flag, or a word whose value the option's own type checks, as cyclopts takes it."""
    shared: Tree = {"help": option.help, "negative": (), "show_default": False}
    if len(option.name) == 1:
        shared["name"] = f"-{option.name}"
    elif option.also:
        shared["name"] = (*(f"--{word}" for word in option.also), typed_as((option.name,)))
    if option.type is bool and option.default is False:
        return Annotated[bool | None, Parameter(**shared)]

    words = choices(option.type)  # which the page shows; plug-ins may add to them

    def convert(_: Any, tokens: Any) -> Any:
        if words:
            return tokens[0].value
        return validated(option.type, tokens[0].value, tokens[0].keyword, word=True)

    if words:
        shared["metavar"] = "CHOICE"
    parameter = Parameter(
        **{"metavar": metavar(option.type), **shared},
        converter=convert,
        n_tokens=1,
        allow_leading_hyphen=float in get_args(option.type),  # so that -5m is taken, and refused
    )
    return Annotated[Literal[words] | str | None if words else Any, parameter]


def metavar(hint: Any) -> str:
    """What a value is called on a help page.

    >>> metavar(float), metavar(tuple[int, ...]), metavar(int | tuple[int, int])
    ('FLOAT', 'INT,INT', 'INT')
    """
    if get_origin(hint) in (Annotated, Union, UnionType):
        return metavar(get_args(hint)[0])
    if get_origin(hint) is tuple:
        return ",".join([metavar(get_args(hint)[0])] * 2)
    return {int: "INT", float: "FLOAT", bool: "BOOL"}.get(hint, "TEXT")


def typed_as(names: tuple[str, ...]) -> str:
    """How an option is typed.

    >>> typed_as(("training", "weight_decay")), typed_as(("n",))
    ('--training.weight-decay', '-n')
    """
    dotted = ".".join(names).replace("_", "-")
    return f"--{dotted}" if len(dotted) > 1 else f"-{dotted}"


def _tree(options: Any) -> Tree:
    """What is not None in a dataclass of fields and of further dataclasses; {} of None."""
    tree: Tree = {}
    for field in fields(options) if options is not None else ():
        value = getattr(options, field.name)
        value = _tree(value) if is_dataclass(value) else value
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


def _holds(tree: Any, names: tuple[str, ...]) -> bool:
    for name in names:
        if not isinstance(tree, Mapping) or name not in tree:
            return False
        tree = tree[name]
    return True


@final
class File:
    """A TOML file of options: its `tree`, and where in it something stands.

    Raises InputError if it cannot be read, with the line where its syntax goes wrong.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.text = read_text(os.path.expanduser(path), most=2**20)
            self.tree: Tree = _underscored(tomllib.loads(self.text))
        except FileNotFoundError:
            raise InputError(f"--config {path}: no such file; check the path.") from None
        except tomllib.TOMLDecodeError as problem:
            raise InputError(f"{path}: not valid TOML: {problem}; correct it there.") from None
        except (OSError, ValueError, RecursionError) as problem:
            reason = "it is not text" if isinstance(problem, UnicodeDecodeError) else said(problem)
            raise InputError(
                f"--config {path}: could not be read: {reason}; give a TOML file."
            ) from None

    def where(self, names: tuple[str, ...]) -> str:
        """Return the file and the line of an option: "FILE, line 3:"."""
        table = ""
        for number, line in enumerate(self.text.splitlines(), start=1):
            words = line.replace("-", "_").replace('"', "").strip()
            if header := re.match(r"\[\s*([\w.\s]+?)\s*\]", words):
                key, table = header[1], header[1] + "."
            elif entry := re.match(r"([\w.\s]+?)\s*=", words):
                key = table + entry[1]
            else:
                continue
            if key == ".".join(names):
                return f"{self.path}, line {number}:"
        return f"{self.path}:"


def _underscored(tree: Any) -> Any:
    """The tree with `checkpoint-every` written `checkpoint_every`: a file may use either."""
    if isinstance(tree, dict):
        return {key.replace("-", "_"): _underscored(value) for key, value in tree.items()}
    return tree


def free_place(typed: str, *, overwrite: bool) -> Path:
    """Return the path of `--out`. Raises InputError if it exists or cannot be written."""
    refuse_store(typed)
    out = Path(os.path.expanduser(typed))
    if os.path.lexists(out) and not overwrite and not (out.is_dir() and not contents(out)):
        raise InputError(
            f"--out {typed}: already exists; choose another name, or --overwrite to replace it."
        )
    place = next(folder for folder in out.absolute().parents if folder.exists())
    if not place.is_dir():
        raise InputError(f"--out {typed}: {place} is a file, not a folder; choose another place.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"--out {typed}: {place} cannot be written to; choose another place.")
    return out

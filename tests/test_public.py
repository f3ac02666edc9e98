"""The public names are a list: those of the stub can be seen, found, and read about."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import undiffuse

NAMES = sorted(name for name in undiffuse.__all__ if not name.startswith("_"))


def is_ours(name: str, value: object) -> bool:
    """Whether something bound in `undiffuse` is ours and not just a submodule Python bound."""
    if isinstance(value, ModuleType):
        return value.__name__.startswith("undiffuse.") and value.__name__ != f"undiffuse.{name}"
    return getattr(value, "__module__", "").split(".")[0] == "undiffuse"


def test_all_is_exactly_what_is_visible() -> None:
    for name in NAMES:
        getattr(undiffuse, name)
    bound = {name for name, value in vars(undiffuse).items() if is_ours(name, value)}
    assert {name for name in bound if not name.startswith("_")} == set(NAMES)
    assert {name for name in dir(undiffuse) if not name.startswith("_")} == set(NAMES)


STUB = ast.parse(Path(undiffuse.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
ENTRIES = [
    (alias.asname, node.module or "", alias.name)
    for node in STUB.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
]


def test_the_stub_is_in_the_package_and_names_each_name_once() -> None:
    assert sorted(str(name) for name, _, _ in ENTRIES) == NAMES


@pytest.mark.parametrize(("name", "module", "attribute"), ENTRIES)
def test_every_public_name_resolves_to_what_its_entry_says(
    name: str, module: str, attribute: str
) -> None:
    source = import_module(f"undiffuse.{module}")
    assert getattr(undiffuse, name) is getattr(source, attribute)
    assert name == attribute  # the loader takes no other names


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(undiffuse, name)
    if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
        own = value.__doc__ or ""
        assert own.strip(), "no docstring"
        assert not own.startswith(f"{name}("), (
            "only the docstring that dataclasses write by themselves"
        )


DEFINED = [
    (name, inspect.unwrap(getattr(undiffuse, name)))
    for name in NAMES
    if inspect.isroutine(getattr(undiffuse, name)) or inspect.isclass(getattr(undiffuse, name))
]


def parameters_of(value: object) -> list[str]:
    """What a function or the making of an object takes; none for exceptions."""
    if inspect.isclass(value) and issubclass(value, BaseException):
        return []
    return list(inspect.signature(value).parameters)  # pyright: ignore[reportArgumentType]


def raises(value: object) -> bool:
    """Whether a function, or the making of an object, has a `raise` of its own."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body  # pyright: ignore[reportArgumentType]
    made = [tree]
    if isinstance(tree, ast.ClassDef):
        names = ("__init__", "__post_init__")
        made = [node for node in tree.body if getattr(node, "name", "") in names]
    return any(isinstance(node, ast.Raise) for one in made for node in ast.walk(one))


@pytest.mark.parametrize(("name", "value"), DEFINED, ids=[name for name, _ in DEFINED])
def test_every_public_name_says_what_it_takes_gives_and_raises(name: str, value: object) -> None:
    text = inspect.getdoc(value) or ""
    if names := parameters_of(value):
        assert "Args:" in text or "Attributes:" in text
        section = text.partition("Args:")[2] or text.partition("Attributes:")[2]
        for one in names:
            assert (
                f"\n    {one}: " in section
                or f"\n    **{one}: " in section
                or (f"\n    *{one}: " in section)
            ), f"{one} is not described"
    if inspect.isroutine(value) and inspect.signature(value).return_annotation != "None":
        assert "Returns:" in text or text.startswith("Return "), "what it returns is not said"
    if raises(value):
        assert "Raises:" in text or "Raises " in text, "what it raises is not said"


def test_unknown_names_are_refused_as_python_refuses_them() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        undiffuse.no_such_name  # noqa: B018


def test_importing_undiffuse_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, undiffuse as u; dir(u); print(*({'torch', 'numpy'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

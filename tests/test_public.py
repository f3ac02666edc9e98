"""The public surface is a list: what `undiffuse.__all__` says is what can be seen, found, and read about."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

import undiffuse

NAMES = sorted(name for name in undiffuse.__all__ if not name.startswith("_"))


def is_own_submodule(name: str, value: object) -> bool:
    """Python itself binds `undiffuse.models` once anything imports it; that alone makes no public name."""
    return isinstance(value, ModuleType) and value.__name__ == f"undiffuse.{name}"


def test_all_is_exactly_what_is_visible() -> None:
    for name in NAMES:
        getattr(undiffuse, name)
    assert len(NAMES) == len({*NAMES})
    visible = {
        name
        for name, value in vars(undiffuse).items()
        if not name.startswith("_")
        and type(value).__module__ != "__future__"
        and (name in NAMES or not is_own_submodule(name, value))
    }
    assert visible == set(NAMES)
    assert set(NAMES) <= set(dir(undiffuse))


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_resolves_to_what_its_entry_says(name: str) -> None:
    module, _, attribute = undiffuse._EXPORTS[name].partition(":")
    source = import_module(module)
    assert getattr(undiffuse, name) is (getattr(source, attribute) if attribute else source)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(undiffuse, name)
    if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
        own = value.__doc__ or ""
        assert own.strip(), "no docstring"
        assert not own.startswith(f"{name}("), "only the docstring that dataclasses write by themselves"


def test_unknown_names_are_refused_as_python_refuses_them() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        undiffuse.no_such_name  # noqa: B018


def test_importing_undiffuse_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, undiffuse; dir(undiffuse); print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

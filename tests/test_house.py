"""The laws of the house that can be read off the source: imports, sizes, what is never written."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = run_path(str(ROOT / "scripts" / "house.py"))
parse = HOUSE["tree_of"]  # once for each file
PACKAGE = sorted((ROOT / "undiffuse").rglob("*.py"))
PYTHON = PACKAGE + [
    file for part in ("tests", "benchmarks", "scripts") for file in (ROOT / part).rglob("*.py")
]
TEXT = {".py", ".md", ".toml", ".txt", ".html", ".js", ".css", ".yml", ".yaml", ".json", ""}

# What each part may import of undiffuse, besides itself; what is not listed may import all but the
# front.
INTERFACES = {
    "interfaces", "options", "declared", "errors", "parts", "atomic", "seeds", "device", "duration",
    "reading", "room", "lock", "called", "shown", "notebook", "plugged", "remote", "rank",
}  # fmt: skip
MAY_IMPORT = {
    "errors": set(),
    "parts": {"errors"},
    "atomic": {"errors"},
    "called": {"declared", "errors"},
    "shown": set(),
    "notebook": {"duration", "shown"},
    "reading": set(),
    "remote": {"errors"},
    "lock": {"errors"},
    "room": {"errors"},
    "seeds": set(),
    "rank": set(),
    "plugged": {"errors"},
    "declared": {"errors", "plugged"},
    "options": {"declared", "errors"},
    "interfaces": set(),
    "diffusion": {"interfaces", "errors", "seeds", "parts"},
    "nn": {"interfaces", "errors", "parts"},
    "models": {
        "interfaces",
        "diffusion",
        "nn",
        "errors",
        "parts",
        "room",
        "seeds",
        "device",
        "called",
        "declared",
        "options",
        "shown",
    },
    "data": INTERFACES,
    "training": INTERFACES,
    "evaluation": {"diffusion", "models", "data", "run", "spread", "training", *INTERFACES},
    "spread": {"atomic", "errors", "interfaces", "reading", "training"},
}
MAY_DEFER = {"models": {"training", "data"}}  # `model.fit(...)`, inside the function
FRONT = {"cli", "web", "__main__"}  # these use everything; nothing else uses them


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def module_of(file: Path) -> str:
    """`undiffuse/diffusion/grid.py` -> `diffusion.grid`; a package's `__init__` is the package."""
    parts = file.relative_to(ROOT / "undiffuse").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Every module or name that the file imports, absolute, and whether it does so
    inside a function.
    """
    package = ["undiffuse", *file.relative_to(ROOT / "undiffuse").parent.parts]

    def walk(node: ast.AST, deferred: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, deferred) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                stem = ".".join([*base, *([child.module] if child.module else [])])
                yield from ((f"{stem}.{alias.name}", deferred) for alias in child.names)
            inside = deferred or isinstance(
                child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
            )
            yield from walk(child, inside)

    return walk(parse(file), False)


def within(target: str, parts: set[str]) -> bool:
    return any(target == part or target.startswith(part + ".") for part in parts)


@pytest.mark.parametrize("file", PACKAGE, ids=name_of)
def test_imports_go_one_way(file: Path) -> None:
    module = module_of(file)
    house = module.split(".")[0]
    wrong = []
    for target, deferred in imports(file):
        if (
            target.split(".")[0] != "undiffuse"
            or target == "undiffuse.__version__"
            or house in FRONT
        ):
            continue
        part = target.removeprefix("undiffuse").removeprefix(".")
        allowed = (
            {house}
            | MAY_IMPORT.get(house, {part})
            | (MAY_DEFER.get(house, set()) if deferred else set())
        )
        if within(part, FRONT) or not within(part, allowed):
            wrong.append(f"{module or 'undiffuse'} imports {target}")
    assert not wrong


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Deferred and type-checking imports count.

    `model.fit`'s import of training is the exception.
    """
    assert HOUSE["circles"]() == []


def test_a_circle_would_be_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}
    assert {"a", "b", "c"} in HOUSE["strongly_connected"](graph)


def test_every_name_is_defined_once() -> None:
    """Public classes, functions, type aliases and modules, over the whole package."""
    assert HOUSE["defined_twice"]() == {}


def test_every_registry_has_a_law_that_has_caught_a_wrong_entry() -> None:
    assert HOUSE["registries"](), "none found"
    assert HOUSE["without_a_law"]() == []


FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "torchvision"}


@pytest.mark.parametrize("file", PACKAGE, ids=name_of)
def test_nothing_is_ever_unpickled(file: Path) -> None:
    """No pickle by any name; torch.load only with weights_only=True; no torchvision either."""
    used = {target.split(".")[0] for target, _ in imports(file)}
    assert not used & FORBIDDEN_MODULES
    for call in (node for node in ast.walk(parse(file)) if isinstance(node, ast.Call)):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        where = f"{name_of(file)}:{call.lineno}"
        assert given.get("allow_pickle", "False") == "False", where
        assert given.get("weights_only", "True") == "True", where
        assert ast.unparse(call.func) != "torch.load" or "weights_only" in given, where


@pytest.mark.parametrize("file", PACKAGE, ids=name_of)
def test_every_module_opens_with_its_idea(file: Path) -> None:
    assert file.stem != "utils", "name the file after what it holds"
    assert ast.get_docstring(parse(file)), "no module docstring"


def test_no_file_names_the_machine_it_was_written_on() -> None:
    """Neither a path of ours nor a package registry: a clone must work anywhere."""
    ours = re.compile(
        r"(?<![\w.])/(wo"
        + r"rk|ro"
        + r"ot|home/\w+)/|\.\./sha"
        + r"red|\bpy"
        + r"pi\.org|python"
        + r"hosted"
    )
    skipped = {"runs", "demo", "scratch", "dist", "LICENSE"}
    tops = [
        top
        for top in ROOT.iterdir()
        if top.name == ".ci" or (top.name[0] != "." and top.name not in skipped)
    ]
    found = []
    for file in (file for top in tops for file in [top, *top.rglob("*")]):
        if file.suffix not in TEXT or "node_modules" in file.parts or not file.is_file():
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if ours.search(line):
                found.append(f"{name_of(file)}:{number}: {line.strip()[:80]}")
    assert not found


def test_every_link_in_the_docs_leads_somewhere() -> None:
    assert not run_path(str(ROOT / "scripts" / "docs.py"))["broken_links"]()


def test_annotations_are_checked_where_a_test_asks_for_it(monkeypatch):
    """A tensor of another type than the annotation's is refused, in the first calls of a test."""
    import jaxtyping
    import torch
    from checked import CALLS, CHECKING

    from undiffuse.diffusion import LinearVP

    monkeypatch.setattr(CHECKING, "on", True)
    wrong = torch.zeros(2, dtype=torch.float32)
    for _ in range(2):
        monkeypatch.setattr(CHECKING, "test", CHECKING.test + 1)
        for _ in range(CALLS):
            with pytest.raises(jaxtyping.TypeCheckError, match="marginal"):
                LinearVP().marginal(wrong)
        LinearVP().marginal(wrong)
    monkeypatch.setattr(CHECKING, "on", False)
    monkeypatch.setattr(CHECKING, "test", CHECKING.test + 1)
    LinearVP().marginal(wrong)

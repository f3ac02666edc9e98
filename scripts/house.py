"""Measure the structure of the package: sizes, import circles, names, registries.

    python scripts/house.py            a table, a row per part of the package
    python scripts/house.py --json     the same as JSON

Everything is read from the source; nothing of the package is imported. A line of code is a line
that holds a token other than a comment or a docstring. An import counts wherever it stands: at the
top, inside a function, under TYPE_CHECKING. `from undiffuse.diffusion import Heun` is an import of
the module that defines `Heun`, not of the package's `__init__`, which only hands the name on.
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "undiffuse"
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
FIT = ("undiffuse.models.base", "undiffuse.training")  # `model.fit`: the one import that may go up
SAME_BY_DESIGN = {"cli", "sampling"}  # what a user calls bears the name of what it calls
NO_TOKENS = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE,
    tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip


@cache
def files() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = file
    return found


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def docstring_lines(tree: ast.AST) -> set[int]:
    """The lines of all docstrings below `tree`."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | FUNCTION)
            and ast.get_docstring(node, clean=False) is not None
        ):
            lines |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


@cache
def lines_of_code(file: Path) -> frozenset[int]:
    """The numbers of the lines that hold code."""
    text = file.read_text(encoding="utf-8")
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_TOKENS:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return frozenset(lines - docstring_lines(tree_of(file)))


def statements(file: Path) -> int:
    """The number of statements, docstrings left out: a size that no formatter changes."""
    tree = tree_of(file)
    docs = docstring_lines(tree)
    return sum(isinstance(node, ast.stmt) and node.lineno not in docs for node in ast.walk(tree))


def functions() -> Iterator[tuple[int, str]]:
    """(lines of code, module:name) of every function."""
    for module, file in files().items():
        for node in ast.walk(tree_of(file)):
            if isinstance(node, FUNCTION):
                own = set(range(node.lineno, (node.end_lineno or 0) + 1)) & lines_of_code(file)
                yield len(own), f"{module}:{node.name}"


# --- imports


def imported(module: str) -> Iterator[str]:
    """The modules of the package that `module` imports, wherever in it."""
    file = files()[module]
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files())
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            if stem in files():
                yield from (defining(stem, alias.name) for alias in node.names)


@cache
def handed_on(module: str) -> dict[str, str]:
    """Name -> module it comes from, for what a package's `__init__` imports from within the
    package.
    """
    names = {}
    for node in tree_of(files()[module]).body:
        if isinstance(node, ast.ImportFrom) and node.module in files():
            for alias in node.names:
                names[alias.asname or alias.name] = defining(node.module, alias.name)
    return names


def defining(module: str, name: str) -> str:
    """The module that `from module import name` really depends on."""
    if f"{module}.{name}" in files():
        return f"{module}.{name}"
    if files()[module].name == "__init__.py":
        return handed_on(module).get(name, module)
    return module


def circles() -> list[list[str]]:
    """Sets of modules that import each other in a loop, `model.fit`'s own import left out."""
    graph = {
        module: {
            other
            for other in imported(module)
            if other != module and not (module == FIT[0] and other.startswith(FIT[1]))
        }
        for module in files()
    }
    return [sorted(part) for part in strongly_connected(graph) if len(part) > 1]


def strongly_connected(graph: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected components of a graph, by Kosaraju's two passes."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(start: str, edges: dict[str, set[str]], into: list[str]) -> None:
        stack = [(start, iter(edges[start]))]
        seen.add(start)
        while stack:
            node, rest = stack[-1]
            for other in rest:
                if other not in seen:
                    seen.add(other)
                    stack.append((other, iter(edges[other])))
                    break
            else:
                stack.pop()
                into.append(node)

    for node in graph:
        if node not in seen:
            visit(node, graph, order)
    reverse: dict[str, set[str]] = {node: set() for node in graph}
    for node, others in graph.items():
        for other in others:
            reverse[other].add(node)
    seen.clear()
    parts: list[set[str]] = []
    for node in reversed(order):
        if node not in seen:
            part: list[str] = []
            visit(node, reverse, part)
            parts.append(set(part))
    return parts


# --- names


def defined_twice() -> dict[str, list[str]]:
    """Public classes, functions and type aliases that more than one module defines, and modules of
    one name.

    A verb of the command line may bear the name of its library function, and each kind of data or
    verb may have modules of the same names (`read`, `transform`, `form`, ...).
    """
    places: dict[str, set[str]] = defaultdict(set)
    for module, file in files().items():
        if module.split(".")[1:2] and module.split(".")[1] in SAME_BY_DESIGN:
            continue
        for node in tree_of(file).body:
            if isinstance(node, ast.ClassDef | FUNCTION) or is_alias(node):
                name = node.name if isinstance(node, ast.ClassDef | FUNCTION) else alias_name(node)
                if not name.startswith("_"):
                    places[name].add(module)
    for module, file in files().items():
        *parents, name = module.split(".")
        in_a_row = (
            parents[:2] in (["undiffuse", "data"], ["undiffuse", "cli"]) and len(parents) >= 2
        )
        if file.name != "__init__.py" and not in_a_row:
            places[f"module {name}"].add(module)
    return {name: sorted(modules) for name, modules in sorted(places.items()) if len(modules) > 1}


def is_alias(node: ast.stmt) -> bool:
    """Whether a statement names a type: `Noise = Callable[...]`."""
    return (
        isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id[0].isupper()
        and not node.targets[0].id.isupper()
    )


def alias_name(node: ast.stmt) -> str:
    assert isinstance(node, ast.Assign)
    assert isinstance(node.targets[0], ast.Name)
    return node.targets[0].id


# --- registries


def registries() -> dict[str, str]:
    """NAME -> module, for every public dictionary at the top of a module whose values are classes
    or functions.
    """
    found = {}
    for module, file in files().items():
        for node in tree_of(file).body:
            target = node.target if isinstance(node, ast.AnnAssign) else None
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                target = node.targets[0]
            if isinstance(target, ast.Name) and target.id.isupper() and target.id[0] != "_":
                value = node.value  # type: ignore[union-attr]
                if isinstance(value, ast.Dict) and value.values and all(map(is_part, value.values)):
                    found[target.id] = module
    return found


def is_part(value: ast.expr | None) -> bool:
    """A class, a function, or an object made of one: what registries hold, and tables of numbers or
    words do not.
    """
    if isinstance(value, ast.Call):
        value = value.func
    return isinstance(value, ast.Name | ast.Attribute | ast.Lambda)


def without_a_law() -> list[str]:
    """Registries that no test runs over, or of which no test has seen a wrong entry caught.

    A test runs over a registry if it names it; a wrong entry is caught by a test with "wrong" in
    its name, in a file that names the registry.
    """
    tests = [file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("*.py")]
    missing = []
    for name, module in registries().items():
        naming = [text for text in tests if re.search(rf"\b{name}\b", text)]
        if not any(re.search(r"def test_\w*wrong", text) for text in naming):
            missing.append(f"{module}:{name}")
    return missing


# --- the table


def measures() -> dict[str, object]:
    """All figures as plain data."""
    parts: dict[str, dict[str, int]] = defaultdict(
        lambda: {"files": 0, "lines": 0, "statements": 0}
    )
    for module, file in files().items():
        names = module.split(".")
        part = (
            names[1]
            if len(names) > 2 or ((PACKAGE / names[-1]).is_dir() and len(names) == 2)
            else "top"
        )
        parts[part]["files"] += 1
        parts[part]["lines"] += len(lines_of_code(file))
        parts[part]["statements"] += statements(file)
    longest = max(functions())
    return {
        "parts": dict(sorted(parts.items())),
        "files": sum(part["files"] for part in parts.values()),
        "lines": sum(part["lines"] for part in parts.values()),
        "statements": sum(part["statements"] for part in parts.values()),
        "longest_function": {"lines": longest[0], "name": longest[1]},
        "circles": circles(),
        "defined_twice": defined_twice(),
        "registries": len(registries()),
        "registries_without_a_law": without_a_law(),
    }


def main() -> None:
    found = measures()
    if "--json" in sys.argv[1:]:
        print(json.dumps(found, indent=2))
        return
    print(f"{'part':<12}{'files':>7}{'lines of code':>15}{'statements':>12}")
    rows = {
        **found["parts"],
        "all": {name: found[name] for name in ("files", "lines", "statements")},
    }  # type: ignore[dict-item]
    for name, row in rows.items():
        print(f"{name:<12}{row['files']:>7,}{row['lines']:>15,}{row['statements']:>12,}")
    longest = found["longest_function"]
    print(f"\nlongest function     {longest['lines']} lines, {longest['name']}")  # type: ignore[index]
    for name in ("circles", "defined_twice", "registries_without_a_law"):
        listed = found[name]
        assert isinstance(listed, list | dict)
        print(f"{name.replace('_', ' '):<20} {len(listed)}")
        for item in listed.items() if isinstance(listed, dict) else listed:
            print(f"    {item}")


if __name__ == "__main__":
    main()

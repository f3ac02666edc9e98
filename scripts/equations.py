"""Write docs/equations.md from docs/equations.toml, and docs/errata.md from the computations in
docs/errata/.

The table names formulas, each with the symbols that compute it and the tests that hold it, and
lists for each document which formula stands under which number. A symbol or test that does not
exist is an error, here and in the tests.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))


@dataclass(frozen=True)
class Formula:
    """One formula: what it says in our symbols, what computes it, what holds it."""

    key: str
    says: str
    code: tuple[str, ...]
    laws: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One number of a document: the formula behind it, what differs there, and the slips that
    concern it.
    """

    number: str
    formula: Formula
    note: str
    slips: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    title: str
    intro: str
    entries: tuple[Entry, ...]


def read() -> tuple[dict[str, Formula], list[Document], list[list[str]]]:
    """The formulas, the documents and the rows of the notation table."""
    table = tomllib.loads((ROOT / "docs" / "equations.toml").read_text(encoding="utf-8"))
    formulas = {
        key: Formula(key, f["says"], tuple(f["code"]), tuple(f["laws"]))
        for key, f in table["formulas"].items()
    }

    def entry(number: str, given: str | dict[str, Any]) -> Entry:
        given = {"is": given} if isinstance(given, str) else given
        return Entry(
            number, formulas[given["is"]], given.get("note", ""), tuple(given.get("slips", ()))
        )

    documents = [
        Document(
            d["title"],
            d["intro"],
            tuple(entry(number, given) for number, given in d["numbers"].items()),
        )
        for d in table["documents"]
    ]
    return formulas, documents, table["notation"]


def resolve(symbol: str) -> Any:
    """`undiffuse.diffusion:Schedule.posterior` -> that function; ImportError or
    AttributeError if it is gone.
    """
    module, _, path = symbol.partition(":")
    found = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


@cache
def _tests(file: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def asserts(law: str) -> bool:
    """Whether `tests/...py::test_name` exists and asserts something (an assert, a function that
    does, or a law of `undiffuse.laws`, which raises if it is broken).
    """
    file, _, name = law.partition("::")
    test = _tests(file).get(name) if (ROOT / file).exists() and name.startswith("test_") else None
    if test is None:
        return False
    calls = {ast.unparse(node.func) for node in ast.walk(test) if isinstance(node, ast.Call)}
    return any(isinstance(node, ast.Assert) for node in ast.walk(test)) or bool(
        calls
        & {
            "torch.testing.assert_close",
            "assert_close",
            "pytest.raises",
            "np.testing.assert_allclose",
            *_shared_laws(),
        }
    )


@cache
def _shared_laws() -> set[str]:
    """The functions of `undiffuse.laws` that hold something."""
    return {
        node.name
        for file in (ROOT / "undiffuse" / "laws").glob("*_laws.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("hold", "close")
    }


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _formula(text: str) -> str:
    """Code where the text is a formula, prose where it is not: what stands between backquotes is
    kept.
    """
    return _cell(text if "`" in text else f"`{text}`")


def _symbol_link(symbol: str) -> str:
    found = resolve(symbol)
    module = symbol.partition(":")[0]
    owner = inspect.getmodule(found) or import_module(module)
    path = Path(inspect.getfile(owner)).relative_to(ROOT)
    return f"[`{symbol.partition(':')[2]}`](../{path.as_posix()})"


def _law_link(law: str) -> str:
    file, _, name = law.partition("::")
    words = re.sub(r"_s(?=_|$)", "'s", name.removeprefix("test_")).replace("_", " ")
    return f"[{words}](../{file})"


def slug(heading: str) -> str:
    """What a rendered page calls a heading, as in scripts/docs.py."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def _slip_link(key: str) -> str:
    from errata import SLIPS

    return f"[{SLIPS[key].title}](errata.md#{slug(SLIPS[key].title)})"


def _lines(entries: tuple[Entry, ...]) -> list[str]:
    """The rows of a document; neighbours that say exactly the same share one."""
    alike = groupby(entries, key=lambda entry: (entry.formula.key, entry.note, entry.slips))
    return [_line(list(group)) for _, group in alike]


def _line(group: list[Entry]) -> str:
    entry, formula = group[0], group[0].formula
    number = ", ".join(entry.number for entry in group)
    says = _formula(formula.says) + (f"; {_cell(entry.note)}" if entry.note else "")
    code = ", ".join(map(_symbol_link, formula.code))
    laws = "; ".join(map(_law_link, formula.laws))
    slips = "; ".join(map(_slip_link, entry.slips))
    return f"| {number} | {says} | {code} | {laws} | {slips} |"


def equations_page() -> str:
    """docs/equations.md."""
    formulas, documents, notation = read()
    entries = [entry for document in documents for entry in document.entries]
    laws = {law for formula in formulas.values() for law in formula.laws}
    symbols = {symbol for formula in formulas.values() for symbol in formula.code}
    lines = [
        "# The equation index",
        "",
        "Written by `make docs` from `docs/equations.toml`. A test fails when a symbol or a law "
        "named here is gone.",
        "",
        f"Five documents define what this library implements. Their {len(entries)} equations, "
        "lemmas, theorems and "
        f"algorithms are {len(formulas)} formulas, computed by {len(symbols)} functions and "
        "classes and held by "
        f"{len(laws)} laws.",
        "",
        "A row reads: the number in the document; what it says, in this library's symbols, as "
        "it should read; the "
        "function or class that computes it; the law that holds it, a test that is named by "
        "what it asserts; and, "
        "where the document slips, what is wrong with it, on [the errata page](errata.md).",
        "",
        "## Notation",
        "",
        "| here | meaning | " + " | ".join(notation[0][2:]) + " |",
        "|" + "---|" * len(notation[0]),
        *("| " + " | ".join(map(_cell, row)) + " |" for row in notation[1:]),
        "",
    ]
    for document in documents:
        lines += [f"## {document.title}", "", document.intro.strip(), ""]
        lines += ["| number | says | computed by | held by | slip |", "|---|---|---|---|---|"]
        lines += [*_lines(document.entries), ""]
    lines += [*_concordance(formulas, documents)]
    return "\n".join(lines) + "\n"


def _concordance(formulas: dict[str, Formula], documents: list[Document]) -> list[str]:
    """Which formula stands under which number where, for those in more than one document."""
    heads = [document.title.partition(",")[0] for document in documents]
    lines = [
        "## One formula, five documents",
        "",
        "What stands in more than one of them, and under which number.",
        "",
    ]
    lines += ["| formula | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for formula in formulas.values():
        numbers = [
            ", ".join(e.number for e in d.entries if e.formula is formula) for d in documents
        ]
        if sum(map(bool, numbers)) > 1:
            lines.append(f"| {_formula(formula.says)} | " + " | ".join(numbers) + " |")
    return lines


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 1e-12 else "0"


def errata_page() -> str:
    """docs/errata.md, with the numbers as they come out now."""
    from errata import DOCUMENTS, ELSEWHERE, SLIPS

    elsewhere = sum(entry.document == ELSEWHERE for entry in SLIPS.values())
    lines = [
        "# Errata",
        "",
        "Written by `make docs`: every number below was computed by the functions in "
        "`docs/errata/`, and the tests "
        "hold the right form to the truth and the printed one away from it.",
        "",
        f"The five documents that this library follows slip in {len(SLIPS) - elsewhere} places "
        "that matter to someone "
        f"who implements them; {elsewhere} more slips are often met elsewhere. For each: what is "
        "printed, what is "
        "right, and one computation that decides it. The truth in the last line of each table "
        "knows neither form: it "
        "integrates a definition, differentiates, or runs a recursion. The right form is "
        "computed by the library "
        "where the library has it. ᾱ_t is the product of the factors 1 - beta, our alpha_t²: see "
        "[the notation](equations.md#notation).",
        "",
    ]
    for document in DOCUMENTS:
        lines += [f"## {document}", ""]
        for entry in (entry for entry in SLIPS.values() if entry.document == document):
            printed, right, truth = entry.numbers()
            lines += [
                f"### {entry.title}",
                "",
                entry.story,
                "",
                "| | form | value |",
                "|---|---|---|",
            ]
            met = "often" if document == ELSEWHERE else "printed"
            lines.append(
                f"| {met}, {entry.where} | {_formula(entry.printed)} | {_number(printed)} |"
            )
            lines.append(f"| right | {_formula(entry.right)} | {_number(right)} |")
            lines += [f"| truth | {_cell(entry.decided)} | {_number(truth)} |", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    for name, page in (("errata", errata_page), ("equations", equations_page)):
        (ROOT / "docs" / f"{name}.md").write_text(page(), encoding="utf-8")
        print(f"Wrote docs/{name}.md.")

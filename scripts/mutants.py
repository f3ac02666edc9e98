"""Break the code in many small ways and see which breaks the tests notice.

    python scripts/mutants.py undiffuse/diffusion [--sample 300] [--seed 0] [--minutes 60]
    [--workers 2]

A mutant is the package with one change: a comparison, an operator, a constant, a condition, a
keyword argument or a statement. Strings, annotations and `raise` statements stay as they are. Of
all possible mutants of the files below PACKAGE a random sample is tried. Tests are first run once
under coverage, so that a mutant meets only the tests that execute its line, the quickest first; it
is killed by the first that fails, or by taking ten times as long.

Each mutant runs in a process that is forked from one in which torch and the other libraries are
loaded already, in a copy of the working tree. Tests marked slow are left out. The score is the
share killed, with its Wilson interval of 95 %; survivors are listed with the changed line.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = (
    "undiffuse",
    "tests",
    "scripts",
    "docs",
    "benchmarks",
    "pyproject.toml",
    "README.md",
    "Makefile",
)
PATIENCE, LEAST = (
    10,
    30.0,
)  # a mutant may take so many times what its tests took, and at least so many seconds
MOST_TESTS = 60  # of those that execute a line, the quickest

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.MatMult: ast.Add,
    ast.BitXor: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: the file, the line, what it was and what it is, and the whole text of the changed
    file.
    """

    file: str
    line: int
    was: str
    now: str
    text: str


# --- making mutants


def changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    """What can be changed at a node: (field, new value)."""
    if isinstance(node, ast.Compare):
        yield "ops", [COMPARISONS[type(node.ops[0])](), *node.ops[1:]]
    elif (isinstance(node, ast.BinOp) and type(node.op) in OPERATORS) or (
        isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS
    ):
        yield "op", OPERATORS[type(node.op)]()
    elif isinstance(node, ast.BoolOp):
        yield "op", ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "op", ast.UAdd()
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        yield "test", ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "value", not node.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield "value", node.value + 1
    elif isinstance(node, ast.Call) and node.keywords:
        yield "keywords", node.keywords[:-1]
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "value", ast.Constant(None)


def places(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module that may be changed."""
    for field, value in ast.iter_fields(tree):
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or isinstance(
                node, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr
            ):
                continue
            if field in ("annotation", "returns", "type_comment", "decorator_list"):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            yield node
            yield from places(node)


def removable(tree: ast.AST) -> Iterator[tuple[list[ast.stmt], int]]:
    """Statements that do something and can be left out: (the block, the place in it)."""
    for node in ast.walk(tree):
        for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(block, list):
                for i, statement in enumerate(block):
                    call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
                    if call or isinstance(statement, ast.AugAssign):
                        yield block, i


def mutants(file: Path) -> Iterator[Mutant]:
    """Every mutant of a file."""
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    name = str(file.relative_to(ROOT))
    for node in list(places(tree)):
        for field, value in changes(node):
            was, before = ast.unparse(node), getattr(node, field)
            setattr(node, field, value)
            yield Mutant(
                name,
                node.lineno,
                was,
                ast.unparse(node),
                ast.unparse(ast.fix_missing_locations(tree)),
            )  # type: ignore[attr-defined]
            setattr(node, field, before)
    for block, i in list(removable(tree)):
        statement = block[i]
        block[i] = ast.copy_location(ast.Pass(), statement)
        yield Mutant(name, statement.lineno, ast.unparse(statement), "pass", ast.unparse(tree))
        block[i] = statement


# --- running tests

QUICK = "not slow and not faults"


def run_tests(arguments: list[str], plugins: list[object]) -> int:
    import pytest

    return int(
        pytest.main(
            [*arguments, "-x", "-q", "--no-header", "-p", "no:cacheprovider", "-m", QUICK],
            plugins,
        )
    )


class Watcher:
    """Says to coverage which test runs, and takes its time."""

    def __init__(self, coverage: object) -> None:
        self.coverage, self.seconds, self.failed = coverage, {}, []

    def pytest_runtest_protocol(self, item: object, nextitem: object) -> None:
        self.coverage.switch_context(item.nodeid)  # type: ignore[attr-defined]

    def pytest_runtest_logreport(self, report: object) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration  # type: ignore[attr-defined]
        if report.failed:  # type: ignore[attr-defined]
            self.failed.append(report.nodeid)  # type: ignore[attr-defined]


def forked(work: object, seconds: float) -> int:
    """The exit code of `work()` in a forked process of its own; 1 if it takes too long or dies."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        if not os.environ.get("MUTANTS_SHOW"):
            for stream in (0, 1, 2):
                os.dup2(null, stream)
        code = 1
        try:
            code = int(work())  # type: ignore[operator]
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            kill(pid)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    kill(pid)
    os.waitpid(pid, 0)
    return 1


def kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def enter(folder: Path) -> None:
    """Make a copy of the tree the place that `undiffuse` is imported from."""
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path.insert(0, str(folder))


def covered(folder: Path, package: str, tests: list[str]) -> dict[str, object]:
    """Run the tests once in `folder`: seconds of each, and which of them execute each line of the
    package.
    """
    answer = folder / "covered.json"

    def work() -> int:
        enter(folder)
        import coverage

        where = str(folder / package)
        measured = coverage.Coverage(data_file=None, include=[where, f"{where}/*"])
        watcher = Watcher(measured)
        measured.start()
        run_tests_without_x = ["-q", "--no-header", "-p", "no:cacheprovider", "-m", QUICK]
        import pytest

        pytest.main([*tests, *run_tests_without_x], [watcher])
        measured.stop()
        data = measured.get_data()
        lines = {
            str(Path(file).relative_to(folder)): {
                str(line): sorted(set(contexts) - {""})
                for line, contexts in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }
        answer.write_text(
            json.dumps({"seconds": watcher.seconds, "lines": lines, "failed": watcher.failed})
        )
        return 0

    if forked(work, 3600) or not answer.exists():
        sys.exit("The tests could not be run under coverage; try them with pytest first.")
    return json.loads(answer.read_text())


def survives(mutant: Mutant, folder: Path, tests: list[str], seconds: float) -> bool:
    """Whether all `tests` pass with the mutant in place."""
    file = folder / mutant.file
    original = file.read_text(encoding="utf-8")
    stamp = time.time() + random.random() * 1e6  # never that of a compiled file
    try:
        file.write_text(mutant.text, encoding="utf-8")
        os.utime(file, (stamp, stamp))

        def work() -> int:
            enter(folder)
            return run_tests(tests, [])

        return forked(work, seconds) == 0
    finally:
        file.write_text(original, encoding="utf-8")


def load_libraries() -> None:
    """What every test process needs and no mutant changes."""
    import hypothesis  # noqa: F401
    import jaxtyping  # noqa: F401
    import numpy  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch

    torch.set_num_threads(1)


def wilson(killed: int, n: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(killed, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "package", help="a file or folder of the package, such as undiffuse/diffusion"
    )
    parser.add_argument(
        "--tests",
        nargs="*",
        help="files and folders of tests; by default those of the same name, and doctests",
    )
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.dont_write_bytecode = True
    package = Path(asked.package)
    files = (
        sorted((ROOT / package).rglob("*.py")) if (ROOT / package).is_dir() else [ROOT / package]
    )
    every = [mutant for file in files for mutant in mutants(file)]
    chosen = random.Random(asked.seed).sample(every, min(asked.sample, len(every)))
    tests = asked.tests or [str(package), str(Path("tests", *package.parts[1:2]))]
    load_libraries()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / str(i) for i in range(asked.workers)]
        for folder in folders:
            folder.mkdir()
            for name in COPIED:
                source = ROOT / name
                (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
        found = covered(folders[0], str(package), tests)
        print(
            f"{len(every):,} mutants of {package}, {len(chosen)} tried; tests took "
            f"{sum(found['seconds'].values()):.0f} s",
            flush=True,
        )  # type: ignore[attr-defined]
        tried, survivors = try_all(chosen, folders, found, began + 60 * asked.minutes)
    low, high = wilson(tried - len(survivors), tried)
    print(
        f"killed {tried - len(survivors)} of {tried}: {1 - len(survivors) / tried:.1%} "
        f"({low:.1%} to {high:.1%})"
    )
    for mutant, count in survivors:
        print(
            f"{mutant.file}:{mutant.line} ({count} tests)\n    - {short(mutant.was)}\n    + "
            f"{short(mutant.now)}"
        )


def short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 160 else text[:157] + "..."


def try_all(
    chosen: list[Mutant], folders: list[Path], found: dict, end: float
) -> tuple[int, list[tuple[Mutant, int]]]:
    """Try the mutants, one process a folder.

    Returns how many were tried, and the survivors with the number of their tests.
    """
    seconds, lines, failed = found["seconds"], found["lines"], set(found["failed"])
    imported = {file: {t for ts in at.values() for t in ts} for file, at in lines.items()}
    outcomes = Path(folders[0]) / "outcomes.jsonl"
    workers = []
    for w, folder in enumerate(folders):
        pid = os.fork()
        if pid == 0:
            for i in range(w, len(chosen), len(folders)):
                if time.monotonic() > end:
                    break
                mutant = chosen[i]
                at = lines.get(mutant.file, {})
                tests = set(at.get(str(mutant.line), [])) or imported.get(mutant.file, set())
                quick = sorted(tests - failed, key=lambda test: seconds[test])[:MOST_TESTS]
                limit = max(LEAST, PATIENCE * sum(seconds[test] for test in quick))
                alive = survives(mutant, folder, quick, limit) if quick else True
                with outcomes.open("a") as stream:
                    stream.write(json.dumps([i, alive, len(quick)]) + "\n")
            os._exit(0)
        workers.append(pid)
    for pid in workers:
        os.waitpid(pid, 0)
    results = [json.loads(line) for line in outcomes.read_text().splitlines()]
    return len(results), [(chosen[i], count) for i, alive, count in sorted(results) if alive]


if __name__ == "__main__":
    main()

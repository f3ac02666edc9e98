"""Break the code in many small ways and see which breaks the tests notice.

    python scripts/mutants.py undiffuse/diffusion [--sample 300] [--seed 0] [--minutes 60]
    [--workers 2]

A mutant is the package with one change: a comparison, an operator, a constant, a condition, a
keyword argument or a statement. Strings, annotations and `raise` statements stay as they are, and
so do `examples` and `variants`, which a part shows the laws to be held to: they are test data, and
`return None`, which has nothing to change. Of all possible mutants of the files below PACKAGE a
random sample is tried. Tests are first run once under coverage, so that a mutant meets only tests
that execute its line: the quickest of each test function, then the next quickest, and the quickest
of all. A line that runs when its module is imported, such as a default, meets the tests of its
class or function, or of the lines that use the name it defines; and quick tests that execute
nothing of the package, which can only look at what importing made. A mutant is killed by the first
test that fails, or by taking ten times as long.

A mutant within a function takes that function's place in a process forked from one in which the
tests are collected already. One of code that runs at import or while tests are collected is
written into a copy of the working tree, and its tests are collected anew. Tests marked slow are
left out. The score is the share killed, with its Wilson interval of 95 %; survivors are listed with
the changed line.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType

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
MOST_TESTS, MOST_SECONDS = 60, 60.0  # of the tests that execute a line
AT_IMPORT = 5  # times as many, where the tests are collected anew, which takes longer than they do
MOST_LOOKING = 5.0  # seconds of the tests that execute none, and look at what importing made
SWAP_FAILED = 77  # exit code of a process that could not put a mutant into its function's place
QUIET = ("-q", "--no-header", "-p", "no:cacheprovider", "-m", "not slow and not faults")

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
    """One change: the file, the line, what it was and what it is, the whole text of the changed
    file, and the qualified name of the outermost function whose body it is in ("" for none).
    """

    file: str
    line: int
    was: str
    now: str
    text: str
    function: str


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
    elif isinstance(node, ast.Return) and ast.unparse(node) not in ("return", "return None"):
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
            if shows_itself(node):
                continue
            yield node
            yield from places(node)


def shows_itself(node: ast.AST) -> bool:
    """Whether it is what a part shows the laws of itself: test data that live in the package."""
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.target, ast.Name) and node.target.id == "variants"
    return isinstance(node, ast.FunctionDef) and node.name == "examples"


def removable(tree: ast.AST) -> Iterator[tuple[list[ast.stmt], int]]:
    """Statements that do something and can be left out: (the block, the place in it)."""
    for node in ast.walk(tree):
        for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(block, list):
                for i, statement in enumerate(block):
                    call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
                    if call or isinstance(statement, ast.AugAssign):
                        yield block, i


def functions(tree: ast.AST, within: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions that are in no other function, by qualified name."""
    for node in getattr(tree, "body", []):
        if isinstance(node, ast.FunctionDef):
            yield within + node.name, node
        elif isinstance(node, ast.ClassDef | ast.If):
            inner = f"{within}{node.name}." if isinstance(node, ast.ClassDef) else within
            yield from functions(node, inner)


def edits(tree: ast.Module) -> Iterator[tuple[ast.AST, str, str]]:
    """Make every change to a tree, one at a time: (the node, what it was, what it is now)."""
    for node in list(places(tree)):
        for field, value in changes(node):
            was, before = ast.unparse(node), getattr(node, field)
            setattr(node, field, value)
            if (now := ast.unparse(node)) != was:  # 1e30 + 1 is 1e30
                yield node, was, now
            setattr(node, field, before)
    for block, i in list(removable(tree)):
        statement = block[i]
        block[i] = ast.copy_location(ast.Pass(), statement)
        yield statement, ast.unparse(statement), "pass"
        block[i] = statement


def mutants(file: Path, chosen: Collection[int]) -> Iterator[Mutant]:
    """The mutants of a file that have these numbers."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    owner = {
        id(node): function
        for function, whole in functions(tree)
        for statement in whole.body
        for node in ast.walk(statement)
    }
    for number, (node, was, now) in enumerate(edits(tree)):
        if number in chosen:
            text = ast.unparse(ast.fix_missing_locations(tree))
            name, function = str(file.relative_to(ROOT)), owner.get(id(node), "")
            yield Mutant(name, node.lineno, was, now, text, function)  # type: ignore[attr-defined]


# --- running tests


def run_tests(arguments: list[str], plugins: list[object]) -> int:
    import pytest

    return int(pytest.main([*arguments, "-x", *QUIET], plugins))


class Watcher:
    """Says to coverage which test runs, and takes its time."""

    def __init__(self, coverage: object) -> None:
        self.coverage, self.seconds, self.failed = coverage, {}, []

    def pytest_runtest_protocol(self, item: object, nextitem: object) -> None:
        if self.coverage is not None:
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
        import pytest

        pytest.main([*tests, *QUIET], [watcher])
        measured.stop()
        data = measured.get_data()
        lines = {
            str(Path(file).relative_to(folder)): {
                str(line): sorted(set(contexts))  # "": while importing and collecting
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


def written(mutant: Mutant, folder: Path, tests: list[str], seconds: float) -> tuple[int, str]:
    """What `tried` says of the tests with the mutant written in place."""
    file = folder / mutant.file
    original = file.read_text(encoding="utf-8")
    stamp = time.time() + random.random() * 1e6  # never that of a compiled file
    try:
        file.write_text(mutant.text, encoding="utf-8")
        os.utime(file, (stamp, stamp))

        def work() -> int:
            enter(folder)
            return run_tests(tests, [Judge(folder)])

        return tried(work, folder, seconds)
    finally:
        file.write_text(original, encoding="utf-8")


class Swapper:
    """Instead of running the tests collected, tries mutants on them, each in a forked process."""

    def __init__(
        self,
        folder: Path,
        todo: dict[int, tuple[Mutant, list[str], float]],
        end: float,
        write: Callable[[int, int, str], None],
    ) -> None:
        self.folder, self.todo, self.end, self.write = folder, todo, end, write

    def pytest_runtestloop(self, session: object) -> bool:
        items = {item.nodeid: item for item in session.items}  # type: ignore[attr-defined]
        place: dict[tuple[str, str], list[FunctionType]] = {}
        for found in gc.get_objects():
            if isinstance(found, FunctionType):
                code = found.__code__
                place.setdefault((code.co_filename, code.co_qualname), []).append(found)
        for i, (mutant, tests, seconds) in self.todo.items():
            if time.monotonic() > self.end:
                break
            path = str(self.folder / mutant.file)
            live = place.get((path, mutant.function), [])
            if not live or not all(test in items for test in tests):
                continue

            def work(mutant=mutant, tests=tests, live=live, path=path) -> int:
                new = code_of(mutant, path)
                if new is None or any(
                    len(f.__code__.co_freevars) != len(new.co_freevars) for f in live
                ):
                    return SWAP_FAILED
                for function in live:
                    function.__code__ = new
                return run_items([items[test] for test in tests], self.folder)

            code, killer = tried(work, self.folder, seconds)
            if code != SWAP_FAILED:
                self.write(i, code, killer)
        return True


def code_of(mutant: Mutant, path: str) -> CodeType | None:
    """The code of the changed function, as its module's loader compiles it; None if not one."""
    name = mutant.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    whole = sys.modules[name].__spec__.loader.source_to_code(mutant.text.encode(), path)  # type: ignore[union-attr]
    codes, found = [whole], []
    while codes:
        code = codes.pop()
        if code.co_qualname == mutant.function:
            found.append(code)
        codes += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
    return found[0] if len(found) == 1 else None


class Judge:
    """Ends the process at the first test that fails, and leaves its name in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "killer"

    def pytest_runtest_logreport(self, report: object) -> None:
        if report.failed:  # type: ignore[attr-defined]
            self.file.write_text(report.nodeid)  # type: ignore[attr-defined]
            os._exit(1)


def tried(work: Callable[[], int], folder: Path, seconds: float) -> tuple[int, str]:
    """The exit code of `work()` in a process of its own, and the test that failed, if one did."""
    killer = folder / "killer"
    killer.unlink(missing_ok=True)
    code = forked(work, seconds)
    return code, killer.read_text() if killer.exists() else ""


def run_items(items: list[object], folder: Path) -> int:
    """Run collected tests; ends the process at the first that fails."""
    config = items[0].config  # type: ignore[attr-defined]
    config.pluginmanager.register(Judge(folder))
    for item, following in zip(items, [*items[1:], None], strict=True):
        config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    return 0


def failing(tests: list[str], folder: Path) -> set[str]:
    """Which of `tests` fail on the unchanged code."""
    watcher, answer = Watcher(None), folder / "failing.json"

    def work() -> int:
        enter(folder)
        import pytest

        pytest.main([*tests, *QUIET], [watcher])
        answer.write_text(json.dumps(watcher.failed))
        return 0

    if forked(work, 3600) or not answer.exists():
        sys.exit("The tests that killed mutants could not be run again on the unchanged code.")
    return set(json.loads(answer.read_text()))


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
    every = [
        (file, number)
        for file in files
        for number, _ in enumerate(edits(ast.parse(file.read_text("utf-8"))))
    ]
    sample = random.Random(asked.seed).sample(every, min(asked.sample, len(every)))
    chosen = [
        mutant
        for file in files
        for mutant in mutants(file, {number for other, number in sample if other == file})
    ]
    random.Random(asked.seed).shuffle(chosen)  # if time runs out, what was tried is a sample
    own = Path("tests", *package.parts[1:2])  # a module of the package itself has a file of tests
    own = own if own.suffix != ".py" else own.with_name(f"test_{own.name}")
    tests = asked.tests or [str(package), str(own)]
    if absent := [test for test in tests if not (ROOT / test.split("::")[0]).exists()]:
        sys.exit(f"{absent[0]}: no such tests; name those of {package} with --tests.")
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
        count, alive = try_all(chosen, folders, found, tests, began + 60 * asked.minutes)
    if count < len(chosen):
        print(f"{len(chosen) - count} not tried: no time was left, or a mutant ended the worker.")
    low, high = wilson(count - alive, count)
    print(f"killed {count - alive} of {count}: {1 - alive / count:.1%} ({low:.1%} to {high:.1%})")


def say(mutant: Mutant, count: int, n: int) -> None:
    """Print a survivor, the n-th mutant tried, that met so many tests."""
    print(
        f"{n}: {mutant.file}:{mutant.line} ({count} tests)\n    - {short(mutant.was)}\n    + "
        f"{short(mutant.now)}",
        flush=True,
    )


def short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 160 else text[:157] + "..."


class Meeting:
    """Which tests a mutant meets, by the lines that each test executes."""

    def __init__(self, found: dict) -> None:
        self.seconds, self.failed = found["seconds"], set(found["failed"])
        self.lines = {
            file: {int(line): set(tests) for line, tests in at.items()}
            for file, at in found["lines"].items()
        }
        self.trees = {file: ast.parse((ROOT / file).read_text("utf-8")) for file in self.lines}
        executing = {test for at in self.lines.values() for tests in at.values() for test in tests}
        idle = sorted(set(self.seconds) - executing - self.failed, key=self._slowness)
        total = itertools.accumulate(self.seconds[test] for test in idle)
        self.looking = [test for test, so_far in zip(idle, total) if so_far <= MOST_LOOKING]

    def _slowness(self, test: str) -> tuple[float, str]:
        return self.seconds[test], test

    def _run(self, file: str, first: int, last: int) -> set[str]:
        """The tests that execute a line from `first` to `last`; "" if importing does."""
        at = self.lines[file]
        return {test for line in range(first, last + 1) for test in at.get(line, ())}

    def at_import(self, mutant: Mutant) -> bool:
        """Whether the mutant is outside functions, or in one that runs at import or collection."""
        if mutant.file not in self.trees:
            return True
        whole = dict(functions(self.trees[mutant.file])).get(mutant.function)
        if whole is None:
            return True
        return "" in self._run(mutant.file, whole.body[0].lineno, whole.end_lineno or 0)

    def tests(self, mutant: Mutant) -> list[str]:
        """The tests that the mutant meets, those of one file after each other."""
        if mutant.file not in self.trees:
            return []
        functions: dict[str, list[str]] = {}
        tests = self._executing(mutant.file, mutant.line) - {""} - self.failed
        quickest = sorted(tests, key=self._slowness)
        for test in quickest:
            functions.setdefault(test.split("[")[0], []).append(test)
        turns = [list(turn) for turn in itertools.zip_longest(*functions.values())]
        anew = self.at_import(mutant)
        looking, most = (self.looking, AT_IMPORT * MOST_TESTS) if anew else ([], MOST_TESTS)
        first, rest = (
            [test for turn in part for test in turn if test is not None]
            for part in (turns[:1], turns[1:])
        )
        chosen, total = [], 0.0
        for test in (*first, *(sorted(rest, key=self._slowness) if anew else rest)):
            if len(chosen) < most and total + self.seconds[test] <= MOST_SECONDS:
                chosen.append(test)
                total += self.seconds[test]
        files: dict[str, list[str]] = {}
        met = {*chosen, *quickest[:MOST_TESTS]}
        for test in [*looking, *sorted(met, key=self._slowness)]:
            files.setdefault(test.split("::")[0], []).append(test)
        return [test for tests in files.values() for test in tests]

    def _executing(self, file: str, line: int) -> set[str]:
        """The tests that execute a line, or what is around it, or what uses what it defines."""
        if tests := self._run(file, line, line) - {""}:
            return tests
        around = [
            node
            for node in ast.walk(self.trees[file])
            if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)
        ]
        for node in sorted(around, key=lambda node: (node.end_lineno or 0) - node.lineno):
            if tests := self._run(file, node.lineno, node.end_lineno or 0) - {""}:
                return tests
        stored = {
            node.id
            for statement in around
            for node in ast.walk(statement)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        if any(isinstance(node, ast.ClassDef) for node in around):
            stored = set()  # attributes are used by other names
        uses = {
            node.lineno
            for node in ast.walk(self.trees[file])
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in stored
        }
        tests = {test for use in uses for test in self._run(file, use, use)} - {""}
        return tests or self._run(file, 1, max(self.lines[file], default=0))


def try_all(
    chosen: list[Mutant], folders: list[Path], found: dict, tests: list[str], end: float
) -> tuple[int, int]:
    """Try the mutants, one process a folder, and print the survivors.

    Returns how many were tried, and how many survived.
    """
    meeting = Meeting(found)
    met = [meeting.tests(mutant) for mutant in chosen]
    limits = [max(LEAST, PATIENCE * sum(meeting.seconds[test] for test in t)) for t in met]
    swapped = {i for i, mutant in enumerate(chosen) if met[i] and not meeting.at_import(mutant)}
    outcomes = Path(folders[0]) / "outcomes.jsonl"
    outcomes.touch()

    def write(i: int, code: int, killer: str) -> None:
        with outcomes.open("a") as stream:
            stream.write(json.dumps([i, code, killer]) + "\n")

    def swap(folder: Path, mine: list[int]) -> int:
        enter(folder)
        todo = {i: (chosen[i], met[i], limits[i]) for i in mine if i in swapped}
        return run_tests(tests, [Swapper(folder, todo, end, write)])

    workers = []
    for w, folder in enumerate(folders):
        pid = os.fork()
        if pid == 0:
            mine = list(range(w, len(chosen), len(folders)))
            forked(
                lambda folder=folder, mine=mine: swap(folder, mine),
                max(0.0, end - time.monotonic()) + 600,
            )
            done = {json.loads(line)[0] for line in outcomes.read_text().splitlines()}
            for i in mine:
                if i not in done and time.monotonic() < end:
                    one = written(chosen[i], folder, met[i], limits[i]) if met[i] else (0, "")
                    write(i, *one)
            os._exit(0)
        workers.append(pid)
    results: list[tuple[int, int, str]] = []
    while workers:
        workers = [pid for pid in workers if os.waitpid(pid, os.WNOHANG) == (0, 0)]
        time.sleep(1)
        lines = outcomes.read_text().rpartition("\n")[0].splitlines()  # whole ones
        for line in lines[len(results) :]:
            results.append(json.loads(line))
            i, code, _ = results[-1]
            if code == 0:
                say(chosen[i], len(met[i]), len(results))
    killers = {killer for _, _, killer in results if killer}
    wrong = failing(sorted(killers), folders[0]) if killers else set()
    if wrong:
        print("These also fail on the unchanged code; what they killed is not counted:", *wrong)
    results = [(i, code, killer) for i, code, killer in sorted(results) if killer not in wrong]
    slow = sum(bool(code) and not killer for _, code, killer in results)
    print(f"{slow} killed by no test: they took too long, or the tests could not be collected.")
    return len(results), sum(code == 0 for _, code, _ in results)


if __name__ == "__main__":
    main()

"""What `sample` and `score` hold in memory does not grow with the rows, whatever is written."""

from __future__ import annotations

import threading
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest
from forked import fork

import undiffuse as ud
from undiffuse.cli.main import main

ROOT = Path(__file__).parents[2]
anonymous_memory = run_path(str(ROOT / "benchmarks" / "peak_memory.py"))["anonymous_memory"]
WIDTH, COLUMNS, BATCH = 256, 128, 500  # numbers in a row of an array, and of a table
FEW, MANY = 3_000, 13_000  # rows
MORE = 40_000  # rows of what allocates in ever new sizes at first, which is up to 3 MB
ROW = 4 * WIDTH  # bytes
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads Linux's account of memory"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    rows = rng.normal(size=(200, WIDTH)).astype(np.float32)
    np.save(folder / "training.npy", rows)
    small: dict[str, Any] = {"steps": 1, "batch": 32}
    ud.edm(width=8, depth=1).fit(folder / "training.npy", out=folder / "arrays", **small)
    lines = [",".join(f"c{i}" for i in range(COLUMNS))]
    lines += [",".join(f"{value:.3f}" for value in row[:COLUMNS]) for row in rows]
    (folder / "training.csv").write_text("\n".join(lines))
    ud.edm(width=8, depth=1).fit(folder / "training.csv", out=folder / "table", **small)
    for count in (FEW, MORE):
        out = np.lib.format.open_memmap(
            folder / f"{count}.npy", mode="w+", dtype=np.float32, shape=(count, WIDTH)
        )
        for first in range(0, count, BATCH):
            out[first : first + BATCH] = rng.normal(size=(BATCH, WIDTH))
        out.flush()
    return folder


@pytest.fixture(autouse=True)
def _little_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read or written at a time is much less than the fewer rows."""
    monkeypatch.setattr("undiffuse.data.rows.CHUNK_BYTES", 2**19)
    monkeypatch.setattr("undiffuse.data.cells.GROUP", 2**21)


def peak(*words: object) -> int:
    """The most anonymous memory of a process that runs the command, beyond what it began with."""

    def work() -> int:
        highest, done = [0], threading.Event()

        def watch() -> None:
            while not done.wait(0.002):
                highest[0] = max(highest[0], anonymous_memory())

        before = anonymous_memory()
        watching = threading.Thread(target=watch)
        watching.start()
        code = main([str(word) for word in (*words, "--batch", BATCH, "--device", "cpu")])
        done.set()
        watching.join()
        print(highest[0] - before)
        return code

    ended = fork(work)
    assert ended.code == 0, ended.err
    return int(ended.out)


def slow(*given: Any) -> Any:
    return pytest.param(*given, marks=pytest.mark.faults)


def grown(used: Any, few: int, many: int) -> float:
    """How much more `used` is for many rows than for few, as a share of what these are."""
    found = (used(many) - used(few)) / ((many - few) * ROW)
    print(f"{found:.2f} of the rows")
    return found


@pytest.mark.parametrize(
    ("kind", "out", "few", "many"),
    [
        ("arrays", "x.npy", FEW, MANY),
        slow("arrays", "x.npz", FEW, MANY),
        slow("arrays", "x/", FEW, MANY),
        slow("table", "x.csv", MANY, MORE),
        slow("table", "x.parquet", MANY, MORE),
        slow("table", "x/", FEW, MANY),
    ],
)
def test_memory_of_sampling(
    place: Path, tmp_path: Path, kind: str, out: str, few: int, many: int
) -> None:
    def used(count: int) -> int:
        words = ("sample", place / kind, "-n", count, "--steps", 1, "--quiet", "--overwrite")
        return peak(*words, "--method", "euler", "--out", f"{tmp_path}/{out}")

    assert grown(used, few, many) < 1 / 4


@pytest.mark.parametrize("out", ["x.csv", slow("x.parquet"), slow("x/")])
def test_memory_of_scoring(place: Path, tmp_path: Path, out: str) -> None:
    def used(count: int) -> int:
        words = ("score", place / "arrays", place / f"{count}.npy", "--out", f"{tmp_path}/{out}")
        how = ("--evaluations", 1, "--draws", 1, "--no-calibration", "--quiet", "--overwrite")
        return peak(*words, *how)

    assert grown(used, FEW, MORE) < 1 / 4

"""Memory of sampling and scoring grows with the rows that are returned, and with nothing else.

That of training does not grow with the data at all.
The denoiser is a closed form (a Gaussian's), so that what is measured is the library.
"""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import run_words
from forked import GIB, QUICK, fork

import undiffuse as ud

pytestmark = pytest.mark.faults

WIDTH, FEW, MANY = 16, 10_000, 100_000
MOST = 3.0  # times the bytes of the rows themselves


class Closed(torch.nn.Module):
    """F(x) of a standard normal under EDM's row: the network of an exact denoiser."""

    def forward(self, x: torch.Tensor, t: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x) + 0 * self.weight

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))


def model() -> ud.GenerativeModel:
    rows = np.random.default_rng(0).normal(size=(400, WIDTH)).astype(np.float32)
    made = ud.edm(ud.load(rows), width=8, depth=1)
    made.network = Closed()
    return made.eval()


def grown(work: object, count: int) -> int:
    """Bytes that the peak of a child exceeds its start by."""

    def run() -> int:
        work(64)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        work(count)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
        return 0

    ended = fork(run, seconds=280)
    assert ended.code == 0, ended
    return int(ended.out)


def test_memory_of_sampling() -> None:
    made = model()

    def work(count: int) -> None:
        made.sample(count, steps=2, batch=1000)

    slope = (grown(work, MANY) - grown(work, FEW)) / (MANY - FEW)
    print(f"sampling: {slope:.0f} bytes a row of {4 * WIDTH}")
    assert slope < MOST * 4 * WIDTH + 40


def test_memory_of_scoring_to_a_file(tmp_path: Path) -> None:
    from undiffuse.data import conform
    from undiffuse.evaluation.scores import Scoring, score_to_file
    from undiffuse.models.likelihood import how_of

    made = model()
    rows = np.random.default_rng(1).normal(size=(MANY, WIDTH)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)

    def work(count: int) -> None:
        whole = conform(tmp_path / "rows.npy", made.data_config)
        scoring = Scoring(how=how_of(made, "elbo", evaluations=2))
        out = tmp_path / f"{count}.csv"
        score_to_file(made, whole.only(np.arange(count)), out, scoring=scoring, batch=2000)

    slope = (grown(work, MANY) - grown(work, FEW)) / (MANY - FEW)
    print(f"scoring: {slope:.0f} bytes a row")
    assert slope < 400


def test_training_from_more_than_there_is_memory_for(tmp_path: Path) -> None:
    """4.1 GB of rows, most of them a hole in the file, in a process that may take 1 GiB more."""
    rows, width = 1_000_000, 1024
    values = np.lib.format.open_memmap(
        tmp_path / "rows.npy", mode="w+", dtype=np.float32, shape=(rows, width)
    )
    rng = np.random.default_rng(0)
    for first in range(0, rows, rows // 100):
        values[first : first + 50] = rng.normal(size=(50, width))
    values.flush()
    del values
    assert (tmp_path / "rows.npy").stat().st_size > 4 * 10**9
    assert run_words(("train", "moons", "--out", tmp_path / "warm", *QUICK)) == (0, "")

    def work() -> int:
        status = Path("/proc/self/status").read_text()
        has = next(int(line.split()[1]) for line in status.splitlines() if "VmData" in line)
        resource.setrlimit(resource.RLIMIT_DATA, (1024 * has + GIB, 1024 * has + GIB))
        code, err = run_words(("train", tmp_path / "rows.npy", "--out", tmp_path / "run", *QUICK))
        assert code == 0, err
        return code

    ended = fork(work, seconds=900)
    assert ended.code == 0, ended
    print(f"training from 4.1 GB: {ended.peak / 2**20:.0f} MiB, {ended.seconds:.0f} s")
    assert ended.peak < GIB // 2

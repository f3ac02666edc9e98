"""Runs to spoil, in a folder of their own each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from damage import run_words
from forked import QUICK


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data.npy, few.npy and a finished run on the first."""
    folder = tmp_path_factory.mktemp("trained")
    rows = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    np.save(folder / "data.npy", rows)
    np.save(folder / "few.npy", rows[:5])
    words = ("train", folder / "data.npy", "--out", folder / "run", *QUICK)
    assert run_words(words) == (0, "")
    return folder


@pytest.fixture(scope="session")
def evaluated(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with what scoring and evaluating keep in a run, and the scores in scores.csv."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("evaluated") / "all")
    settle(folder)
    run, scores = folder / "run", folder / "scores.csv"
    few = ("--steps", 2, "--quiet")
    for words in (
        ("score", run, folder / "few.npy", "--out", scores, "--evaluations", 2, "--quiet"),
        ("evaluate", run, "--out", folder / "report", "-n", 16, "--rows", 4, *few),
    ):
        assert run_words(words) == (0, "")
    shutil.rmtree(folder / "report")
    return folder


def settle(folder: Path) -> None:
    """Let the run in `folder` find its data in it."""
    config = folder / "run" / "config.json"
    tree = json.loads(config.read_text())
    tree["data"]["path"] = str(folder / "data.npy")
    config.write_text(json.dumps(tree))


def _copied(folder: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(folder, copy)
    settle(copy)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `trained` as the working folder."""
    return _copied(trained, tmp_path / "place", monkeypatch)


@pytest.fixture
def full_place(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `evaluated` as the working folder."""
    return _copied(evaluated, tmp_path / "place", monkeypatch)

"""A warmed process, and a run that is whole, for the fault campaigns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from forked import QUICK


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data.npy and a run on it that is finished, scored and evaluated."""
    from undiffuse.cli.main import main

    folder = tmp_path_factory.mktemp("whole")
    rows = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    np.save(folder / "data.npy", rows)
    np.save(folder / "few.npy", rows[:5])
    run = folder / "run"
    for words in (
        ("train", folder / "data.npy", "--out", run, *QUICK),
        (
            "score",
            run,
            folder / "few.npy",
            "--out",
            folder / "s.csv",
            "--evaluations",
            2,
            "--quiet",
        ),
        (
            "evaluate",
            run,
            "--out",
            folder / "report",
            "-n",
            16,
            "--steps",
            2,
            "--rows",
            4,
            "--quiet",
        ),
        ("sample", run, "-n", 2, "--steps", 2, "--out", folder / "s.npy", "--quiet"),
    ):
        assert main([str(word) for word in words]) == 0
    for name in ("s.csv", "s.npy"):
        (folder / name).unlink()
    shutil.rmtree(folder / "report")
    return folder


@pytest.fixture
def place(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, to be spoiled; the run finds its data in it."""
    copy = Path(shutil.copytree(whole, tmp_path / "place"))
    config = copy / "run" / "config.json"
    tree = json.loads(config.read_text())
    tree["data"]["path"] = str(copy / "data.npy")
    config.write_text(json.dumps(tree))
    monkeypatch.chdir(copy)
    return copy
